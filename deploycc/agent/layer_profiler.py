"""Layer times through TensorRT's Python API, as trtexec takes them: a run of its own, which profiling slows.

Written from the API's documentation; no machine with a GPU has run it yet.
"""

import collections
import json
import statistics
from typing import Any, Callable, Dict, List

from . import layer_information, timing

_WARM_UP, _RUNS = 5, 50


def make_profiler(trt: "Any") -> "Any":
    """Return a profiler, for `layer_times`, whose ``runs`` hold milliseconds by layer.

    Layers of one name count together.
    """

    class Profiler(trt.IProfiler):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.runs = []  # type: List[Dict[str, float]]

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            run = self.runs[-1]
            run[layer_name] = run.get(layer_name, 0.0) + ms

    return Profiler()


def layer_times(
    profiler: "Any", run_once: "Callable[[], None]", nodes: "Dict[str, List[str]]"
) -> "List[Dict[str, Any]]":
    """Run an engine whose context has the profiler, and return its layers as `run_trtexec.read_profile` does.

    Args:
        profiler: see `make_profiler`.
        run_once: runs a picture, and returns when all layers were reported.
        nodes: of the network, by layer.
    """
    for _ in range(_WARM_UP + _RUNS):
        profiler.runs.append(collections.OrderedDict())
        run_once()
    runs = profiler.runs[_WARM_UP:]
    layers = []
    for name in runs[0]:
        row = {"name": name, "op": "", "median_ms": statistics.median([run.get(name, 0.0) for run in runs])}
        if name in nodes:
            row["nodes"] = nodes[name]
        layers.append(row)
    return timing.with_shares(layers)


def nodes_of(trt: "Any", engine: "Any") -> "Dict[str, List[str]]":
    """Return the nodes of each layer of an engine, which tells them if it was built with detailed verbosity."""
    if not hasattr(engine, "create_engine_inspector"):  # before 8.2
        return {}
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    try:
        return layer_information.nodes_by_layer(json.loads(text, strict=False))
    except (ValueError, RecursionError):
        return {}
