"""What conditional execution costs beside convolutions: small networks with and without an operation, timed in turns.

ONNX Runtime keeps maps in blocks of channels between convolutions. A branch, a multiplication, a concatenation and a
padding need plain maps, so each costs two rearrangements of the map beside its own work. The networks here put the
operation between two convolutions, where it would be in a detector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from deploycc.documents.costs import Operation, OperationTiming
from deploycc.timing.timer import Timer

OPERATIONS: tuple[Operation, ...] = get_args(Operation)
"""The operations that are timed, between a convolution that makes a map and one that reads it.

``branch``: the reading convolution is inside an ``If`` that a vector decides about; computing the condition counts.
``multiply``: the map is multiplied by one number per channel. ``pad``: as many zeros are appended to a plain map of
half the channels. ``concat``: two convolutions make half of the channels each, from the plain input. ``zeros``: an
``If`` gives a map of zeros to a convolution that otherwise reads a plain map.
"""

SIZES = ((64, 8), (64, 20), (64, 40), (64, 80), (64, 160))
"""Channels, and height and width, of the map."""

FEW_SIZES = SIZES[::2]
"""Those where an engine is built for each network: a line needs two, and a third shows how straight it is."""

ROUNDS = 31
_ENDS = 16  # channels of the input and the output
_OPSET = 13


@dataclass(frozen=True)
class Line:
    """A cost that grows with the map: ``fixed_ms + element_ms * elements``."""

    fixed_ms: float
    element_ms: float

    def __call__(self, elements: float) -> float:
        """Predicted ms on a map of this many elements."""
        return self.fixed_ms + self.element_ms * elements


def sizes_to_time(timer: Timer, known: Iterable[OperationTiming]) -> list[tuple[int, int]]:
    """Return the sizes whose costs are missing; a table of other sizes than `SIZES` is whole."""
    elements = {timing.elements for timing in known}
    wanted = {channels * side * side: (channels, side) for channels, side in SIZES}
    if not elements <= set(wanted):
        return []
    return [size for size in (FEW_SIZES if timer.builds else SIZES) if size[0] * size[1] ** 2 not in elements]


def time_operations(
    timer: Timer, rounds: int = ROUNDS, known: Sequence[OperationTiming] = ()
) -> Iterator[tuple[OperationTiming, ...]]:
    """Time every operation on maps of all `SIZES`; yield those of one size after the other.

    Args:
        timer: of the machine.
        rounds: number of samples of each network.
        known: what was timed before.

    Raises:
        MeasureError: ``onnxruntime-refuses``.
    """
    for channels, side in sizes_to_time(timer, known):
        pairs = [network(operation, channels, side, present) for operation in OPERATIONS for present in (False, True)]
        networks = [timer.load(model, {"operation": model.graph.name}) for model in pairs]
        samples = timer.time_calls(networks, rounds, most_calls=1)
        yield tuple(
            OperationTiming(
                operation=operation, elements=channels * side * side, without_ms=without_ms, with_ms=with_ms
            )
            for operation, without_ms, with_ms in zip(OPERATIONS, samples[0::2], samples[1::2], strict=True)
        )


def fit_lines(timings: Sequence[OperationTiming]) -> Mapping[Operation, Line]:
    """Fit a line to the costs of each operation: least squares of relative errors, no part below zero."""
    return {
        operation: _fit([(timing.elements, timing.cost_ms) for timing in timings if timing.operation == operation])
        for operation in dict.fromkeys(timing.operation for timing in timings)
    }


def network(operation: Operation, channels: int, side: int, present: bool) -> onnx.ModelProto:
    """Return a network that makes and reads a map [1, C, S, S], with an operation on the map or without."""
    generator = np.random.default_rng(0)
    half = channels // 2
    arrays = {
        "w_in": generator.standard_normal((channels, _ENDS, 1, 1), np.float32),
        "w_low": generator.standard_normal((half, _ENDS, 1, 1), np.float32),
        "w_high": generator.standard_normal((half, _ENDS, 1, 1), np.float32),
        "w_out": generator.standard_normal((_ENDS, channels, 1, 1), np.float32),
        "ends": np.array([0, 0, 0, 0, 0, channels - half, 0, 0]),
        "none": np.zeros((1, channels, side, side), np.float32),
        "low": np.array(-1e30, np.float32),
        "ranks": np.arange(channels, dtype=np.float32).reshape(1, channels, 1, 1),
    }
    node = helper.make_node
    condition = [node("Mul", ["factors", "ranks"], ["ranked"]), node("ReduceMax", ["ranked"], ["top"], keepdims=0),
                 node("Greater", ["top", "low"], ["yes"])]  # fmt: skip
    first, last = node("Conv", ["x", "w_in"], ["a"]), node("Conv", ["r", "w_out"], ["y"])
    relu = node("Relu", ["a"], ["r"])
    plain = [first, relu, last]

    def branch(name: str) -> list[onnx.NodeProto]:
        return [node("Conv", ["r", f"{name}_own"], [name])]

    with_it, without = {
        "branch": ([first, relu, *condition, _if(branch, "y", arrays["w_out"])], plain),
        "multiply": ([first, node("Mul", ["a", "factors"], ["m"]), node("Relu", ["m"], ["r"]), last], plain),
        "pad": ([node("Relu", ["p"], ["a"]), node("Pad", ["a", "ends"], ["y"])], [node("Relu", ["p"], ["y"])]),
        "concat": ([node("Conv", ["x", "w_low"], ["l"]), node("Conv", ["x", "w_high"], ["h"]),
                    node("Concat", ["l", "h"], ["a"], axis=1), relu, last], plain),
        "zeros": ([*condition, _if(lambda name: [node("Identity", ["none"], [name])], "r"), last],
                  [node("Conv", ["p", "w_out"], ["y"])]),
    }[operation]  # fmt: skip
    nodes = with_it if present else without
    read = {name for member in nodes for name in _reads(member)}
    plain_channels = half if operation == "pad" else channels
    inputs = {"x": [1, _ENDS, side, side], "p": [1, plain_channels, side, side], "factors": [1, channels, 1, 1]}
    graph = helper.make_graph(
        nodes,
        operation,
        [_tensor(name, shape) for name, shape in inputs.items() if name in read],
        [_tensor("y", [1, None, side, side])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items() if name in read],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)


def _if(
    write: Callable[[str], list[onnx.NodeProto]], output: str, weight: NDArray[np.float32] | None = None
) -> onnx.NodeProto:
    """Return an ``If`` on ``yes`` whose branches do the same, each under its own names and with its own weights."""
    branches = {}
    for name in (f"{output}_then", f"{output}_else"):
        result = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        constants = [] if weight is None else [numpy_helper.from_array(weight, f"{name}_own")]
        branches[f"{name.rpartition('_')[2]}_branch"] = helper.make_graph(write(name), name, [], [result], constants)
    return helper.make_node("If", ["yes"], [output], **branches)


def _reads(node: onnx.NodeProto) -> list[str]:
    branches = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return [*node.input, *(name for branch in branches for inner in branch.node for name in inner.input)]


def _tensor(name: str, shape: Sequence[int | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _fit(points: Sequence[tuple[int, float]]) -> Line:
    elements = np.array([count for count, _ in points], np.float64)
    costs = np.array([cost for _, cost in points])
    weights = 1 / np.maximum(costs, 0.01)  # relative errors; below 10 us noise is larger than the cost
    columns = np.stack([np.ones_like(elements), elements], 1)
    candidates = []
    for used in ([0, 1], [1], [0]):
        solution = np.zeros(2)
        solution[used] = np.linalg.lstsq(columns[:, used] * weights[:, None], costs * weights, rcond=None)[0]
        solution = np.maximum(solution, 0)
        error = float(np.square((columns @ solution - costs) * weights).sum())
        candidates.append((error, solution))
    _, best = min(candidates, key=lambda candidate: candidate[0])
    return Line(float(best[0]), float(best[1]))
