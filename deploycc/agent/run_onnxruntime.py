"""ONNX Runtime on the CPU: the engine is the graph after all its optimisations, which depend on this very processor."""

import collections
import json
import os
import shutil
import statistics
import tempfile
from typing import Any, Callable, Dict, List, Optional

from . import environment, files, plan_file, row, steady, timing
from .outcome import Failed, NotPossible
from .picture import make_inputs

_CONTROL_FLOW = ("If", "Loop", "Scan")  # their time contains the time of the nodes inside
_PROFILE_WARMUP = 2
_PROFILE_RUNS = (5, 20)  # at least, at most
_PROFILE_S = 2.0


def _import() -> "Any":
    try:
        import onnxruntime
    except ImportError as error:
        raise NotPossible(
            "Python cannot import onnxruntime here: {}".format(error), "python3 -m pip install onnxruntime"
        ) from error
    return onnxruntime


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _options(ort: "Any", threads: int) -> "Any":
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; they come back as exceptions
    # Threads spin for a moment, which is 6 to 20 % faster than sleeping, and take no core between runs, nor for long
    # from another process: with the default of 1000 us and more, networks take 2 to 4 times as long beside a busy one.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", "100")
    return options


def build(plan: "Dict[str, Any]", network: str, partial: str) -> "Dict[str, Any]":
    """Optimise ``network`` for this processor and save it as ``partial``.

    ONNX Runtime 1.31 gives the rearrangements that it puts into branches names that occur around them too, and then
    refuses what it has saved. The engine of such a network is the network itself; it is optimised when it is loaded.

    Raises:
        NotPossible: ONNX Runtime is not installed.
        Failed: it refuses the network.
    """
    ort = _import()
    options = _options(ort, plan["measurement"]["threads"])
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = partial
    options.add_session_config_entry("session.disable_prepacking", "1")  # packed weights are not saved, only paid for
    try:
        ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common public base
        if shutil.disk_usage(os.path.dirname(partial)).free < os.path.getsize(network):
            raise Failed("cannot write the engine: no space is left on the device") from error
        raise Failed("ONNX Runtime refuses the network: " + _first_line(error)) from error
    try:
        load(partial, plan["measurement"]["threads"])
    except Failed:
        shutil.copyfile(network, partial)
    return {"builder_version": ort.__version__, "layers": []}


def load(engine: str, threads: int, profile_prefix: "Optional[str]" = None, optimised: bool = True) -> "Any":
    """Return a session on an engine, which is not optimised again.

    Args:
        engine: path.
        threads: of one run.
        profile_prefix: where a trace goes; None: no trace.
        optimised: False where the engine is the network as it was given.

    Raises:
        NotPossible: ONNX Runtime is not installed.
        Failed: it does not load.
    """
    ort = _import()
    options = _options(ort, threads)
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if optimised else levels.ORT_ENABLE_ALL
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    try:
        return ort.InferenceSession(engine, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise Failed("ONNX Runtime does not load the engine: " + _first_line(error), hint="build it again") from error


class Runner:
    """Runs engines on one picture tensor. Engines may be loaded together: those that wait take no core."""

    def __init__(self, plan: "Dict[str, Any]", input_file: "Optional[str]") -> None:
        """Take the threads and the input from the plan, or the input from a file.

        Raises:
            NotPossible: ONNX Runtime is not installed.
        """
        self._ort = _import()
        self._plan = plan
        self._input_file = input_file

    def __enter__(self) -> "Runner":
        """Nothing is shared by engines."""
        return self

    def __exit__(self, *error: "Any") -> None:
        """Nothing is shared by engines."""

    def prepare(self, network: "Dict[str, Any]", engine: str) -> "Callable[[], None]":
        """Load an engine and return a function that runs one picture; the session lives as long as the function.

        Raises:
            Failed: the engine does not load, or the input cannot be used; from the function: it does not run.
        """
        picture = self._picture(network)
        session = load(engine, self._threads(), optimised=_is_optimised(network, engine))

        def run_once() -> None:
            try:
                session.run(None, picture)
            except Exception as error:  # as above
                raise Failed("the engine does not run: " + _first_line(error)) from error

        return run_once

    def prepare_row(self, network: "Dict[str, Any]", engines: "List[str]", tensors: "List[Any]") -> "Callable[[], int]":
        """Load engines in a row and return a function that runs the next picture and says which second one ran.

        Raises:
            Failed: as for `prepare`.
        """
        parts = zip(plan_file.parts_of(network), engines)  # noqa: B905 - strict came with Python 3.10
        run = row.chain(network, [self.answer(part, engine) for part, engine in parts])
        return row.stream(lambda tensor: run(tensor)[0], tensors, network["row"]["shares"])

    def answer(self, network: "Dict[str, Any]", engine: str) -> "Callable[[Dict[str, Any]], Dict[str, Any]]":
        """Load an engine and return a function from inputs to outputs, by name.

        Raises:
            Failed: the engine does not load; from the function: it does not run.
        """
        session = load(engine, self._threads(), optimised=_is_optimised(network, engine))
        names = [output.name for output in session.get_outputs()]

        def run(given: "Dict[str, Any]") -> "Dict[str, Any]":
            try:
                return dict(zip(names, session.run(None, given)))  # noqa: B905
            except Exception as error:  # as above
                raise Failed("the engine does not run: " + _first_line(error)) from error

        return run

    def describe(self, network: "Dict[str, Any]", engine: str) -> "Dict[str, Any]":
        """Profile the layers of an engine in a session of its own; say what ran them."""
        optimised = _is_optimised(network, engine)
        return {
            "layers": profile_layers(engine, self._threads(), self._picture(network), optimised),
            "device": environment.cpu_model() or "CPU",
            "runtime_version": self._ort.__version__,
        }

    def _threads(self) -> int:
        threads = self._plan["measurement"]["threads"]  # type: int
        return threads

    def _picture(self, network: "Dict[str, Any]") -> "Dict[str, Any]":
        return make_inputs(self._plan, network, self._input_file)


def _is_optimised(network: "Dict[str, Any]", engine: str) -> bool:
    """Whether an engine is another file than its network, which is optimised whenever it is loaded."""
    return bool(files.sha256_of(engine) != network["sha256"])


def profile_layers(
    engine: str, threads: int, picture: "Dict[str, Any]", optimised: bool = True
) -> "List[Dict[str, Any]]":
    """Median time of every node over some profiled runs, in the order of execution."""
    with tempfile.TemporaryDirectory() as folder:
        session = load(engine, threads, os.path.join(folder, "profile"), optimised)
        start = steady.now()
        for number in range(_PROFILE_WARMUP + _PROFILE_RUNS[1]):
            session.run(None, picture)
            if number + 1 >= _PROFILE_WARMUP + _PROFILE_RUNS[0] and steady.now() - start > _PROFILE_S:
                break
        with open(session.end_profiling(), encoding="utf-8") as file:
            events = json.load(file)
    return read_profile(events, _PROFILE_WARMUP)


def read_profile(events: "List[Dict[str, Any]]", skip: int) -> "List[Dict[str, Any]]":
    """Turn ONNX Runtime's trace into layers.

    Args:
        events: Chrome trace events; ``<node>_kernel_time`` of category ``Node`` lasts ``dur`` microseconds.
        skip: occurrences of every node to leave out (warm-up).

    Returns:
        name, op, median_ms and share of every node. A control-flow node counts its own time only, without the nodes
        of its branch.
    """
    suffix = "_kernel_time"
    nodes = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(suffix)]
    nodes.sort(key=lambda event: (event["ts"], -event["dur"]))
    own_us = [float(event["dur"]) for event in nodes]
    open_nodes = []  # type: Any  # (end in microseconds, index), innermost last
    for index, event in enumerate(nodes):
        while open_nodes and event["ts"] >= open_nodes[-1][0]:
            open_nodes.pop()
        if open_nodes:
            own_us[open_nodes[-1][1]] -= event["dur"]
        if event["args"]["op_name"] in _CONTROL_FLOW:
            open_nodes.append((event["ts"] + event["dur"], index))
    times = collections.OrderedDict()  # type: Any
    for event, microseconds in zip(nodes, own_us):  # noqa: B905 - strict came with Python 3.10
        key = (event["name"][: -len(suffix)], event["args"]["op_name"])
        times.setdefault(key, []).append(max(microseconds, 0.0))
    return timing.with_shares(
        [
            {"name": name, "op": op, "median_ms": statistics.median(values[skip:] or values) / 1e3}
            for (name, op), values in times.items()
        ]
    )
