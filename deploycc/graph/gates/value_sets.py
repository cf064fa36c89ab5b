"""The values that a tensor can take for any picture: a proof that a gate's factor is 0 or 1 and nothing between.

Every rule gives a superset: an interval, or a set if few values are possible. Operands count as independent of each
other, and an operator without a rule may give any value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from deploycc.graph.edit import constant_values, producer

_MOST = 16  # distinct values; more become an interval

_MOVES = frozenset(
    ["Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Gather", "Expand", "Tile", "Slice",
     "Split", "Dropout", "GlobalMaxPool", "MaxPool", "ReduceMax", "ReduceMin"]
)  # fmt: skip
_COMPARISONS = frozenset(["Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"])
_UNIT_RANGE = frozenset(["Sigmoid", "HardSigmoid", "Softmax"])


@dataclass(frozen=True)
class Values:
    """Possible values: ``low <= v <= high``, and v in ``points`` if they are few.

    Boolean tensors have the points 0 and 1.
    """

    low: float
    high: float
    points: frozenset[float] | None = None


ANYTHING = Values(-math.inf, math.inf)


def possible_values(tensor: gs.Tensor) -> Values:
    """Return a superset of the values that the tensor's elements can take."""
    return _values(tensor, {})


def _values(tensor: gs.Tensor, known: dict[int, Values]) -> Values:
    if id(tensor) not in known:
        known[id(tensor)] = ANYTHING  # in case of a cycle, and until the operands are known
        known[id(tensor)] = _of_constant(tensor) if isinstance(tensor, gs.Constant) else _of_result(tensor, known)
    return known[id(tensor)]


def _of_constant(tensor: gs.Constant) -> Values:
    values = constant_values(tensor)
    if values is None or values.dtype.kind not in "fiub" or not values.size or not np.isfinite(values).all():
        return ANYTHING
    distinct = np.unique(values)
    if distinct.size <= _MOST:
        return _points(map(float, distinct))
    return Values(float(distinct[0]), float(distinct[-1]))


def _of_result(tensor: gs.Tensor, known: dict[int, Values]) -> Values:
    node = producer(tensor)
    if node is None or node.domain not in (None, "", "ai.onnx"):
        return _points((0.0, 1.0)) if tensor.dtype == np.bool_ else ANYTHING

    def operand(index: int) -> Values:
        return _values(node.inputs[index], known)

    if node.op in _MOVES:
        return operand(0)
    if node.op in _UNIT_RANGE:
        return Values(0.0, 1.0)
    if node.op == "Tanh":
        return Values(-1.0, 1.0)
    if node.op in _COMPARISONS:
        return _compare(node.op, operand(0), operand(1))
    if node.op in _STEPS:
        return _monotone(operand(0), _STEPS[node.op], stepped=node.op in ("Round", "Floor", "Ceil", "Sign"))
    if node.op in ("Neg", "Not"):
        start = 0.0 if node.op == "Neg" else 1.0
        return _combine(_points((start,)), operand(0), lambda a, b: a - b)
    if node.op == "Cast":
        return _cast(operand(0), int(node.attrs["to"]))
    if node.op == "Clip":
        return _clip(node, operand)
    if node.op == "Where":
        condition = operand(0).points or frozenset((0.0, 1.0))
        return _union([operand(1)] * (1.0 in condition) + [operand(2)] * (0.0 in condition))
    if node.op == "Concat":
        return _union([operand(index) for index in range(len(node.inputs))])
    if node.op in _PAIRS:
        result = operand(0)
        for index in range(1, len(node.inputs)):  # Min and Max are variadic
            result = _combine(result, operand(index), _PAIRS[node.op])
        return result
    if node.op == "Div" and (divisor := operand(1).points) and 0.0 not in divisor:
        return _combine(operand(0), _points(1.0 / value for value in divisor), lambda a, b: a * b)
    return _points((0.0, 1.0)) if tensor.dtype == np.bool_ else ANYTHING


_STEPS: dict[str, Callable[[float], float]] = {
    "Relu": lambda v: max(v, 0.0),
    "Round": lambda v: float(round(v)) if math.isfinite(v) else v,  # both round halves to even
    "Floor": lambda v: float(math.floor(v)) if math.isfinite(v) else v,
    "Ceil": lambda v: float(math.ceil(v)) if math.isfinite(v) else v,
    "Sign": lambda v: float(v > 0) - float(v < 0),
}
_PAIRS: dict[str, Callable[[float, float], float]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: (
        a * b if a and b else 0.0
    ),  # 0 times infinity too: infinity is an end of the interval, not a value
    "Min": min,
    "Max": max,
    "And": lambda a, b: float(bool(a) and bool(b)),
    "Or": lambda a, b: float(bool(a) or bool(b)),
    "Xor": lambda a, b: float(bool(a) != bool(b)),
}


def _points(values: Iterable[float]) -> Values:
    points = frozenset(value + 0.0 for value in values)  # -0 becomes 0
    return Values(min(points), max(points), points if len(points) <= _MOST else None)


def _union(parts: list[Values]) -> Values:
    if all(part.points is not None for part in parts):
        return _points(value for part in parts for value in part.points or ())
    return Values(min(part.low for part in parts), max(part.high for part in parts))


def _combine(left: Values, right: Values, apply: Callable[[float, float], float]) -> Values:
    """Apply an operator that takes its extremes at the ends of the intervals."""
    if left.points is not None and right.points is not None:
        return _points(apply(a, b) for a, b in product(left.points, right.points))
    ends = [apply(a, b) for a, b in product((left.low, left.high), (right.low, right.high))]
    if any(math.isnan(end) for end in ends):  # infinity minus infinity
        return ANYTHING
    return Values(min(ends), max(ends))


def _monotone(values: Values, apply: Callable[[float], float], *, stepped: bool) -> Values:
    if values.points is not None:
        return _points(map(apply, values.points))
    low, high = apply(values.low), apply(values.high)
    if stepped and high - low < _MOST:
        return _points(low + step for step in range(int(high - low) + 1))
    return Values(low, high)


def _compare(op: str, left: Values, right: Values) -> Values:
    if op in ("Less", "LessOrEqual"):
        return _compare("Greater" if op == "Less" else "GreaterOrEqual", right, left)
    if op == "Greater":
        can_be, can_fail = left.high > right.low, left.low <= right.high
    elif op == "GreaterOrEqual":
        can_be, can_fail = left.high >= right.low, left.low < right.high
    else:
        can_be, can_fail = left.low <= right.high and right.low <= left.high, True
    return _points([1.0] * can_be + [0.0] * can_fail or [0.0, 1.0])


def _cast(values: Values, to: int) -> Values:
    if to == onnx.TensorProto.BOOL:
        return _points((0.0, 1.0)) if values.points is None else _points(float(v != 0) for v in values.points)
    if onnx.helper.tensor_dtype_to_np_dtype(to).kind in "iu":
        return _monotone(values, lambda v: float(math.trunc(v)) if math.isfinite(v) else v, stepped=True)
    return values


def _clip(node: gs.Node, operand: Callable[[int], Values]) -> Values:
    """Opset 11 and later have the limits as operands; a limit that is not constant is ignored."""
    limits = []
    for index in (1, 2):
        present = index < len(node.inputs) and not node.inputs[index].is_empty()
        points = operand(index).points if present else frozenset[float]()
        limits.append(points)
    low = max(limits[0]) if limits[0] and len(limits[0]) == 1 else -math.inf
    high = min(limits[1]) if limits[1] and len(limits[1]) == 1 else math.inf
    return _monotone(operand(0), lambda v: min(max(v, low), high), stepped=False)
