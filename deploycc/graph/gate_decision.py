"""Reading a gate's decisions: which number is compared with which threshold, and which kernels obey which decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.graph.edit import constant_values, producer, static_shape
from deploycc.graph.gate_metadata import Granularity
from deploycc.graph.value_sets import possible_values

_SHAPES = frozenset(["Reshape", "Flatten", "Squeeze", "Unsqueeze"])
_ELEMENTWISE = frozenset(
    ["Identity", "Dropout", "Cast", "Not", "Neg", "Relu", "Clip", "Abs", "Sign", "Round", "Floor", "Ceil", "Where",
     "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Add", "Sub", "Mul", "Div", "Min", "Max", "And",
     "Or", "Xor"]
)  # fmt: skip
_NEAR = 1e-6


@dataclass(frozen=True)
class Decision:
    """What a gate decides; attributes as in `deploycc.graph.gates.Gate`."""

    units: int
    unit_of: tuple[int, ...]
    granularity: Granularity
    score: str
    threshold: float | None


def read_decision(factor: gs.Tensor, kernels: int) -> Decision:
    """Read a factor that is proved to be 0 or 1.

    Where the way from the decisions to the factor cannot be followed, every kernel counts as a decision of its own,
    which is true, if less than could be known.

    Args:
        factor: one element a kernel, or a single one.
        kernels: of the gated convolution.
    """
    path = _path(factor)
    unit_of = _units(path, factor, kernels)
    units = max(unit_of) + 1
    compared, threshold = _comparison(path[0]) if path else (factor, None)
    granularity: Granularity = "kernel" if units == kernels else "group"
    if units > 1 and _falls_in_order(compared, units):
        granularity = "nested"
    return Decision(units, unit_of, granularity, compared.name, threshold)


def _path(factor: gs.Tensor) -> list[gs.Node]:
    """Nodes from the one that decides, whose operands can take many values, to the one that makes the factor."""
    path: list[gs.Node] = []
    node = producer(factor)
    while node is not None:
        path.append(node)
        few = [t for t in _variables(node) if possible_values(t).points is not None]
        if len(few) != 1 or len(_variables(node)) != 1:
            break
        node = producer(few[0])
    return path[::-1]


def _variables(node: gs.Node) -> list[gs.Tensor]:
    return [tensor for tensor in node.inputs if not isinstance(tensor, gs.Constant) and not tensor.is_empty()]


def _units(path: list[gs.Node], factor: gs.Tensor, kernels: int) -> tuple[int, ...]:
    """Carry the number of each decision along the path to the factor."""
    each_its_own = tuple(range(kernels))
    start = static_shape(path[0].outputs[0]) if path else None
    if start is None:
        return each_its_own
    numbers: NDArray[np.int64] = np.arange(int(np.prod(start))).reshape(start)
    for node in path[1:]:
        moved = _move(node, numbers)
        if moved is None:
            return each_its_own
        numbers = moved
    flat = numbers.reshape(-1)
    if flat.size == 1:
        flat = np.repeat(flat, kernels)
    if flat.size != kernels:
        return each_its_own
    used, unit_of = np.unique(flat, return_inverse=True)  # decisions that nothing obeys are left out
    return tuple(int(unit) for unit in unit_of) if used.size <= kernels else each_its_own


def _move(node: gs.Node, numbers: NDArray[np.int64]) -> NDArray[np.int64] | None:
    shape = static_shape(node.outputs[0])
    if shape is None:
        return None
    if node.op in _SHAPES:
        return numbers.reshape(shape)
    if node.op == "Transpose":
        return np.transpose(numbers, node.attrs.get("perm"))
    if node.op == "Gather" and (indices := constant_values(node.inputs[1])) is not None:
        return np.take(numbers, indices, axis=node.attrs.get("axis", 0))
    if node.op == "Tile" and (repeats := constant_values(node.inputs[1])) is not None:
        return np.tile(numbers, tuple(map(int, repeats)))
    if node.op == "Expand" or (node.op in _ELEMENTWISE and all(_uniform(t) for t in node.inputs)):
        return np.broadcast_to(numbers, shape)
    return None


def _uniform(tensor: gs.Tensor) -> bool:
    """Whether an operand treats every kernel alike: a variable, or a constant of one value."""
    values = constant_values(tensor)
    return values is None or values.size == 0 or bool((values == values.flat[0]).all())


def _comparison(node: gs.Node) -> tuple[gs.Tensor, float | None]:
    """Which tensor the deciding node compares with what, worked back through shifts, factors and a ReLU."""
    threshold: float | None
    if node.op in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
        scores = _variables(node)
        limits = [_one_value(tensor) for tensor in node.inputs if isinstance(tensor, gs.Constant)]
        if len(scores) != 1:
            return (scores or node.inputs)[0], None
        score, threshold = scores[0], limits[0]
    else:
        score, threshold = node.inputs[0], {"Sign": 0.0, "Round": 0.5, "Floor": 1.0, "Ceil": 0.0}.get(node.op)
    while threshold is not None and (step := _undo(score, threshold)) is not None:
        score, threshold = step
    return score, threshold


def _undo(score: gs.Tensor, threshold: float) -> tuple[gs.Tensor, float] | None:
    """The operand of the node that makes ``score``, and the threshold on it that says the same."""
    node = producer(score)
    if node is None:
        return None
    if node.op in ("Identity", "Cast", *_SHAPES):
        return node.inputs[0], threshold
    if node.op == "Neg":
        return node.inputs[0], -threshold
    if node.op in ("Relu", "Clip"):
        values = possible_values(score)
        inside = values.low <= threshold < values.high
        return (node.inputs[0], threshold) if inside else None
    variables = _variables(node)
    if node.op not in ("Add", "Sub", "Mul", "Div") or len(variables) != 1 or len(node.inputs) != 2:
        return None
    first = node.inputs[0] is variables[0]
    constant = _one_value(node.inputs[1 if first else 0])
    if constant is None:
        return None
    if node.op == "Add":
        return variables[0], threshold - constant
    if node.op == "Sub":
        return variables[0], threshold + constant if first else constant - threshold
    if node.op == "Mul" and constant:
        return variables[0], threshold / constant
    if node.op == "Div" and first:
        return variables[0], threshold * constant
    return None


def _one_value(tensor: gs.Tensor) -> float | None:
    values = constant_values(tensor)
    if values is None or not values.size or not bool((values == values.flat[0]).all()):
        return None
    return float(np.float64(str(values.flat[0])) if values.dtype.kind == "f" else values.flat[0])


def _falls_in_order(score: gs.Tensor, units: int) -> bool:
    """Whether one filter makes all scores, with biases that fall from unit to unit."""
    tensor: gs.Tensor | None = score
    node = producer(score)
    while node is not None and node.op in ("Sigmoid", "HardSigmoid", "Identity", "Cast", *_SHAPES):
        tensor = node.inputs[0]
        node = producer(tensor)
    if node is None or node.op not in ("Conv", "Gemm") or len(node.inputs) < 3:
        return False
    weight, bias = constant_values(node.inputs[1]), constant_values(node.inputs[2])
    if weight is None or bias is None or bias.size != units:
        return False
    rows: NDArray[Any] = weight if node.op == "Conv" or node.attrs.get("transB") else weight.T
    flat = rows.reshape(rows.shape[0], -1)
    spread = np.abs(flat - flat[:1]).max(initial=0.0)
    return bool(spread <= _NEAR * np.abs(flat).max(initial=0.0) and (np.diff(bias.reshape(-1)) < 0).all())
