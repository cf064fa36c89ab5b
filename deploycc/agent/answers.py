"""An engine as a function from an input tensor to its outputs by name, whatever runs it."""

import contextlib
from typing import Any, Callable, Dict, Iterator, List

from . import plan_file, row, run_onnxruntime, run_tensorrt


def of(plan: "Dict[str, Any]", network: "Dict[str, Any]", paths: "List[str]", board: "Any") -> "Callable[[], Any]":
    """Return what `smoke.check` enters for such a function.

    Args:
        plan: the plan.
        network: that the engine was built from.
        paths: the engine, or the engines of a row.
        board: the program that built it; None where a library did.
    """

    @contextlib.contextmanager
    def answering() -> "Iterator[Any]":
        if board is not None:
            yield _whole(network, [_with_program(board, part, path) for part, path in _parts(network, paths)])
            return
        if plan["target"]["runtime"] == "onnxruntime":
            runner = run_onnxruntime.Runner(plan, None)  # type: Any
        else:
            runner = run_tensorrt.Runner(plan, None)
        with runner:
            loaded = [runner.answer(part, path) for part, path in _parts(network, paths)]
            answer = _whole(network, loaded)
            yield answer
            del answer, loaded  # the engines are gone before their context is

    return answering


def _parts(network: "Dict[str, Any]", paths: "List[str]") -> "Any":
    return zip(plan_file.parts_of(network), paths)  # noqa: B905 - strict came with Python 3.10


def _with_program(board: "Any", part: "Dict[str, Any]", path: str) -> "row.Part":
    return lambda given: board.answer(part, path, given)


def _whole(network: "Dict[str, Any]", loaded: "List[row.Part]") -> "Callable[[Any], Dict[str, Any]]":
    """Return a function from a picture tensor to the outputs of an engine, or of engines in a row."""
    if network["row"] is None:
        return lambda tensor: loaded[0]({network["input"]["name"]: tensor})
    run = row.chain(network, loaded)
    return lambda tensor: run(tensor)[1]
