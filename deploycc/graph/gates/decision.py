"""Reading a gate's decisions: the score, the threshold it is compared with, and the unit of each kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.documents.document import Granularity
from deploycc.graph.edit import constant_values, producer, static_shape
from deploycc.graph.gates.value_sets import possible_values

_SHAPES = frozenset(["Reshape", "Flatten", "Squeeze", "Unsqueeze"])
_MOVES = _SHAPES | {"Identity", "Dropout", "Cast", "Transpose", "Gather", "Tile", "Expand"}  # keep zeros and ones
_ELEMENTWISE = frozenset(
    ["Identity", "Dropout", "Cast", "Not", "Neg", "Relu", "Clip", "Abs", "Sign", "Round", "Floor", "Ceil", "Where",
     "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Add", "Sub", "Mul", "Div", "Min", "Max", "And",
     "Or", "Xor"]
)  # fmt: skip
_NEAR = 1e-6
_CLEAR = 1e-3  # far more than a rounding error


@dataclass(frozen=True)
class Decision:
    """The decisions of a gate; attributes as in `deploycc.graph.gates.search.Gate`."""

    units: int
    unit_of: tuple[int, ...]
    granularity: Granularity
    score: str
    threshold: float | None
    always: tuple[int, ...]


def read_decision(factor: gs.Tensor, kernels: int) -> Decision:
    """Read a factor that is proved to be 0 or 1.

    If the path from the decisions to the factor cannot be followed, every kernel counts as a unit of its own, which is
    correct but loses the blocks.

    Args:
        factor: one element per kernel, or a single one.
        kernels: of the gated convolution.
    """
    path = _path(factor)
    unit_of = _units(path, kernels)
    units = max(unit_of) + 1
    compared, threshold = _comparison(path[0]) if path else (factor, None)
    granularity: Granularity = "kernel" if units == kernels else "block"
    always: tuple[int, ...] = ()
    known = read_comparison(factor, kernels)
    filters = None if known is None else _filters(known.scores, np.unique(known.score_of))
    if known is not None and filters is not None:
        always = _always_on(filters, float(known.limit))
        always_first = always == tuple(range(len(always)))
        if always_first and units - len(always) > 1 and _falls_in_order(filters, len(always)):
            granularity = "nested"
    return Decision(units, unit_of, granularity, compared.name, threshold, always)


@dataclass(frozen=True)
class Comparison:
    """The comparison that switches kernels: on if the score is above the limit, so the largest of several decides.

    Attributes:
        scores: tensor with all its elements along axis 1.
        op: ``Greater`` or ``GreaterOrEqual``.
        limit: one number, of the scores' type.
        score_of: the position of each kernel's score.
    """

    scores: gs.Variable
    op: str
    limit: np.generic
    score_of: tuple[int, ...]


def read_comparison(factor: gs.Tensor, kernels: int) -> Comparison | None:
    """Follow a factor back to a single comparison that gives 1 if true; None if it is computed in another way.

    Args:
        factor: one element per kernel, or a single one.
        kernels: of the gated convolution.
    """
    path = _path(factor)
    if not path or path[0].op not in ("Greater", "GreaterOrEqual") or any(node.op not in _MOVES for node in path[1:]):
        return None
    scores, limit = path[0].inputs[0], constant_values(path[0].inputs[1])
    shape, numbers = static_shape(path[0].outputs[0]), _numbers(path, kernels)
    if not isinstance(scores, gs.Variable) or limit is None or limit.size == 0 or not _uniform(path[0].inputs[1]):
        return None
    if shape is None or shape != static_shape(scores) or len(shape) < 2 or int(np.prod(shape)) != shape[1]:
        return None
    return None if numbers is None else Comparison(scores, path[0].op, limit.reshape(-1)[0], tuple(numbers.tolist()))


def _path(factor: gs.Tensor) -> list[gs.Node]:
    """Return the nodes from the decision, whose operands can take many values, to the node that writes the factor."""
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


def _units(path: list[gs.Node], kernels: int) -> tuple[int, ...]:
    """Return the unit of each kernel, by carrying decision numbers along the path to the factor."""
    numbers = _numbers(path, kernels)
    if numbers is None:
        return tuple(range(kernels))
    unit_of = np.unique(numbers, return_inverse=True)[1]  # without decisions that no kernel uses
    return tuple(int(unit) for unit in unit_of)


def _numbers(path: list[gs.Node], kernels: int) -> NDArray[np.int64] | None:
    """Return for each kernel the position of its decision among the elements that the path's first node writes."""
    start = static_shape(path[0].outputs[0]) if path else None
    if start is None:
        return None
    numbers: NDArray[np.int64] = np.arange(int(np.prod(start))).reshape(start)
    for node in path[1:]:
        moved = _move(node, numbers)
        if moved is None:
            return None
        numbers = moved
    flat = numbers.reshape(-1)
    if flat.size == 1:
        flat = np.repeat(flat, kernels)
    return flat if flat.size == kernels else None


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
    """Return whether an operand treats every kernel alike: a variable, or a constant of one value."""
    values = constant_values(tensor)
    return values is None or values.size == 0 or bool((values == values.flat[0]).all())


def _comparison(node: gs.Node) -> tuple[gs.Tensor, float | None]:
    """Return the score and the threshold of the deciding node, moved back through shifts, factors and a ReLU."""
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
    """Return the operand of the node that writes ``score``, and the equivalent threshold for that operand."""
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


@dataclass(frozen=True)
class _Filters:
    """How scores are computed: a filter [units, inputs] and a bias [units], then monotonically rising functions."""

    weight: NDArray[Any]
    bias: NDArray[Any]
    functions: tuple[str, ...]


def _filters(score: gs.Tensor, used: NDArray[np.int64]) -> _Filters | None:
    """Return the filters of the used scores: pruning may leave scores that no kernel uses."""
    functions: list[str] = []
    node = producer(score)
    while node is not None and node.op in ("Sigmoid", "HardSigmoid", "Identity", "Cast", *_SHAPES):
        functions.append(node.op)
        node = producer(node.inputs[0])
    if node is None or node.op not in ("Conv", "Gemm") or len(node.inputs) < 3:
        return None
    weight, bias = constant_values(node.inputs[1]), constant_values(node.inputs[2])
    if weight is None or bias is None or bias.size <= used.max() or len(used) < 2:
        return None
    rows: NDArray[Any] = weight if node.op == "Conv" or node.attrs.get("transB") else weight.T
    return _Filters(rows.reshape(rows.shape[0], -1)[used], bias.reshape(-1)[used], tuple(functions))


def _always_on(filters: _Filters, limit: float) -> tuple[int, ...]:
    """Return the units whose filter is zero and whose bias alone is clearly above the limit."""
    if "HardSigmoid" in filters.functions:
        return ()
    score = filters.bias.astype(np.float64)
    for _ in range(filters.functions.count("Sigmoid")):
        score = (1 + np.tanh(score / 2)) / 2  # the sigmoid, without overflow
    on = (filters.weight == 0).all(axis=1) & (score > limit + _CLEAR)
    return tuple(np.flatnonzero(on).tolist())


def _falls_in_order(filters: _Filters, first: int) -> bool:
    """Return whether all scores from ``first`` on share one filter, with biases that fall from unit to unit."""
    weight, bias = filters.weight[first:], filters.bias[first:]
    spread = np.abs(weight - weight[:1]).max(initial=0.0)
    return bool(spread <= _NEAR * np.abs(weight).max(initial=0.0) and (np.diff(bias) < 0).all())
