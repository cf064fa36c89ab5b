"""An engine as a function from an input tensor to its outputs by name, whatever runs it."""

import contextlib
from typing import Any, Callable, Dict, Iterator

from . import run_onnxruntime, run_tensorrt


def of(plan: "Dict[str, Any]", network: "Dict[str, Any]", path: str, board: "Any") -> "Callable[[], Any]":
    """Return what `smoke.check` enters for such a function.

    Args:
        plan: the plan.
        network: that the engine was built from.
        path: the engine.
        board: the program that built it; None where a library did.
    """

    @contextlib.contextmanager
    def answering() -> "Iterator[Any]":
        if board is not None:
            yield lambda tensor: board.answer(network, path, tensor)
            return
        if plan["target"]["runtime"] == "onnxruntime":
            runner = run_onnxruntime.Runner(plan, None)  # type: Any
        else:
            runner = run_tensorrt.Runner(plan, None)
        with runner:
            answer = runner.answer(network, path)
            yield answer
            del answer  # the engine is gone before its context is

    return answering
