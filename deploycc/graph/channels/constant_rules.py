"""Rules that propagate constants of channels through operators; an operator without one makes them unknown (NaN).

Operators that only move data (`deploycc.graph.channels.movement_rules`) need no rule here unless they add values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.graph.channels.movement_rules import MOVEMENT_RULES, padding
from deploycc.graph.channels.rules import SUMS, reduced_axes
from deploycc.graph.channels.site import Site
from deploycc.graph.edit import constant_values

Values = NDArray[np.float64]
Function = Callable[..., Any]


def _product(a: Values, b: Values) -> Values:
    return np.where((a == 0) | (b == 0), 0.0, a * b)


def _quotient(a: Values, b: Values) -> Values:
    return np.where((a == 0) & (b != 0), 0.0, a / b)  # NaN differs from 0: an unknown divisor counts as non-zero


# By operator; those with more than two operands apply their function pair by pair.
_ELEMENT_WISE: dict[str, Callable[[gs.Node, list[Values]], Values]] = {
    "Identity": lambda node, x: x[0],
    "Dropout": lambda node, x: x[0],
    "Cast": lambda node, x: _cast(x[0], int(node.attrs["to"])),
    "Relu": lambda node, x: np.maximum(x[0], 0),
    "LeakyRelu": lambda node, x: np.where(x[0] < 0, node.attrs.get("alpha", 0.01) * x[0], x[0]),
    "PRelu": lambda node, x: np.where(x[0] < 0, _product(x[0], x[1]), np.where(np.isnan(x[0]), np.nan, x[0])),
    "Elu": lambda node, x: np.where(x[0] < 0, node.attrs.get("alpha", 1.0) * np.expm1(x[0]), x[0]),
    "Clip": lambda node, x: _clip(node, x),
    "Sigmoid": lambda node, x: 1 / (1 + np.exp(-x[0])),
    "HardSigmoid": lambda node, x: np.clip(node.attrs.get("alpha", 0.2) * x[0] + node.attrs.get("beta", 0.5), 0, 1),
    "HardSwish": lambda node, x: x[0] * np.clip(x[0] / 6 + 0.5, 0, 1),
    "Tanh": lambda node, x: np.tanh(x[0]),
    "Softplus": lambda node, x: np.logaddexp(0, x[0]),
    "Exp": lambda node, x: np.exp(x[0]),
    "Log": lambda node, x: np.log(x[0]),
    "Sqrt": lambda node, x: np.sqrt(x[0]),
    "Abs": lambda node, x: np.abs(x[0]),
    "Neg": lambda node, x: -x[0],
    "Add": lambda node, x: x[0] + x[1],
    "Sub": lambda node, x: x[0] - x[1],
    "Mul": lambda node, x: _product(x[0], x[1]),
    "Div": lambda node, x: _quotient(x[0], x[1]),
    "Pow": lambda node, x: np.where(np.isnan(x[0]) | np.isnan(x[1]), np.nan, np.power(x[0], x[1])),
    "Max": lambda node, x: _pairwise(np.maximum, x),
    "Min": lambda node, x: _pairwise(np.minimum, x),
    "Sum": lambda node, x: _pairwise(np.add, x),
    "Greater": lambda node, x: np.where(np.isnan(x[0] + x[1]), np.nan, x[0] > x[1]),
    "Less": lambda node, x: np.where(np.isnan(x[0] + x[1]), np.nan, x[0] < x[1]),
    "Where": lambda node, x: _where(*x),
}

_FLOATING, _BOOL = (1, 10, 11, 16), 9


def _cast(x: Values, to: int) -> Values:
    if to == _BOOL:
        return np.where(np.isnan(x), np.nan, x != 0)
    return x if to in _FLOATING else np.trunc(x)


def _clip(node: gs.Node, x: list[Values]) -> Values:
    low = x[1] if len(x) > 1 and x[1].size else node.attrs.get("min", -np.inf)
    high = x[2] if len(x) > 2 and x[2].size else node.attrs.get("max", np.inf)
    return np.minimum(np.maximum(x[0], low), high)


def _where(condition: Values, a: Values, b: Values) -> Values:
    chosen = np.where(np.isnan(condition), np.nan, np.where(condition != 0, a, b))
    return np.where(a == b, a, chosen)


def _pairwise(function: Function, x: list[Values]) -> Values:
    result = x[0]
    for other in x[1:]:
        result = function(result, other)
    return result


def _element_wise(site: Site) -> None:
    rank = len(site.output_shape())
    axes = {
        channels.axis + rank - len(site.shape(index))
        for index in range(len(site.node.inputs))
        if (channels := site.channels(index)) is not None
        and len(channels.values) == site.output_shape()[channels.axis + rank - len(site.shape(index))]
    }
    if len(axes) != 1:
        return
    axis = axes.pop()
    operands = [_along(site, index, axis - rank) for index in range(len(site.node.inputs))]
    result = np.broadcast_to(_ELEMENT_WISE[site.node.op](site.node, operands), site.output_shape()[axis])
    for index in range(len(site.node.outputs)):
        site.write(axis, result if index == 0 else np.full(len(result), np.nan), index)


def _along(site: Site, index: int, axis: int) -> Values:
    """Return the constants of an operand along an axis counted from the last; one number if it broadcasts."""
    tensor, channels = site.node.inputs[index], site.channels(index)
    if tensor.is_empty():
        return np.zeros(0)
    operand_axis = axis + len(site.shape(index))
    if channels is not None:
        return channels.values if channels.axis == operand_axis else np.full(1, np.nan)
    values = constant_values(tensor)
    if values is None:
        return np.full(1, np.nan)
    broadcast = operand_axis < 0
    first = values[None] if broadcast else np.moveaxis(values, operand_axis, 0)
    rows = first.reshape(len(first), -1)
    return np.where((rows == rows[:, :1]).all(axis=1), rows[:, 0].astype(np.float64), np.nan)


def pads(node: gs.Node) -> bool:
    """Return whether a convolution or a pooling pads."""
    return node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(node.attrs.get("pads", ()))


def _layer(site: Site) -> None:
    """A kernel is constant if it reads only constants that hold over the whole map, padding included."""
    node = site.node
    weight, transposed = constant_values(node.inputs[1]), node.op == "ConvTranspose"
    if weight is None:
        return
    stacked = _by_group(node, weight)
    groups, kernels, inputs_per_group = stacked.shape[:3]
    channels = site.channels(0)
    reads = channels is not None and channels.axis == (1 if node.op != "MatMul" else len(site.shape(0)) - 1)
    inputs = channels.values if channels is not None and reads else np.full(groups * inputs_per_group, np.nan)
    held = inputs.reshape(groups, inputs_per_group)
    only_zero = transposed or (node.op == "Conv" and pads(node))
    usable = held == 0 if only_zero else ~np.isnan(held)
    bias = _bias(node, groups * kernels)
    alive = ((stacked[..., 0] != 0) & ~usable[:, None]).any(
        axis=2
    )  # cheap: most kernels already vary in their first tap
    group, kernel = np.nonzero(~alive)
    rows = stacked[group, kernel]
    fixed = ~((rows != 0).any(axis=2) & ~usable[group]).any(axis=1)
    constant = (rows[fixed].astype(np.float64).sum(axis=2) * np.where(usable, held, 0.0)[group[fixed]]).sum(axis=1)
    result = np.full((groups, kernels), np.nan)
    result[group[fixed], kernel[fixed]] = constant
    factor = node.attrs.get("alpha", 1.0) if node.op == "Gemm" else 1.0
    rank = len(site.output_shape())
    site.write(rank - 1 if node.op == "MatMul" else 1, factor * result.reshape(-1) + bias)


def _by_group(node: gs.Node, weight: NDArray[Any]) -> NDArray[Any]:
    """Return weights as [group, kernel in the group, input in the group, tap]."""
    if node.op in ("Gemm", "MatMul"):
        matrix = weight if node.op == "Gemm" and node.attrs.get("transB", 0) else weight.T
        return matrix[None, :, :, None]
    groups = int(node.attrs.get("group", 1))
    stacked = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return stacked.transpose(0, 2, 1, 3) if node.op == "ConvTranspose" else stacked


def _bias(node: gs.Node, kernels: int) -> Values:
    if len(node.inputs) < 3 or node.inputs[2].is_empty() or node.op == "MatMul":
        return np.zeros(kernels)
    values = constant_values(node.inputs[2])
    if values is None or values.size not in (1, kernels):
        return np.full(kernels, np.nan)
    factor = node.attrs.get("beta", 1.0) if node.op == "Gemm" else 1.0
    return np.broadcast_to(factor * values.reshape(-1).astype(np.float64), kernels)


def _batch_normalisation(site: Site) -> None:
    channels = site.channels(0)
    parts = [constant_values(tensor) for tensor in site.node.inputs[1:5]]
    if channels is None or channels.axis != 1:
        return
    gamma, beta, mean, variance = (np.asarray(part, np.float64) for part in parts)
    scale = gamma / np.sqrt(variance + site.node.attrs.get("epsilon", 1e-5))
    site.write(1, _product(channels.values, scale) + (beta - mean * scale))


def _window(site: Site) -> None:
    """A maximum or average of equal numbers is that number, unless an average counts zeros of the padding."""
    channels = site.channels(0)
    if channels is None:
        return
    border = site.node.op == "AveragePool" and (pads(site.node) or site.node.attrs.get("ceil_mode", 0))
    if border and site.node.attrs.get("count_include_pad", 0):
        site.write(channels.axis, np.where(channels.values == 0, 0.0, np.nan))
    else:
        site.write(channels.axis, channels.values)


def _pass_zero(site: Site) -> None:
    """Keep zero; anything else becomes unknown."""
    channels = site.channels(0)
    if channels is not None:
        site.write(channels.axis, np.where(channels.values == 0, 0.0, np.nan))


def _reduction(site: Site) -> None:
    channels = site.channels(0)
    axes = reduced_axes(site.node, len(site.shape(0)))
    if channels is None or axes is None or channels.axis in axes:
        return
    lost = 0 if site.node.attrs.get("keepdims", 1) else sum(axis < channels.axis for axis in axes)
    keeps = site.node.op in ("ReduceMean", "ReduceMax", "ReduceMin")
    site.write(channels.axis - lost, channels.values if keeps else np.where(channels.values == 0, 0.0, np.nan))


def _pad(site: Site) -> None:
    """A border of another value makes a constant vary."""
    channels = site.channels(0)
    sizes = padding(site.node, len(site.shape(0)))
    if channels is None or sizes is None:
        return
    MOVEMENT_RULES["Pad"](site)
    spatial = any(any(pair) for axis, pair in enumerate(sizes) if axis != channels.axis)
    if spatial and site.node.attrs.get("mode", "constant") == "constant":
        border = site.node.attrs.get("value", 0.0)
        if len(site.node.inputs) > 2 and not site.node.inputs[2].is_empty():
            value = constant_values(site.node.inputs[2])
            border = np.nan if value is None else float(value.reshape(-1)[0])
        before, after = sizes[channels.axis]
        kept = np.where(channels.values == border, channels.values, np.nan)
        site.write(channels.axis, np.concatenate([np.full(before, np.nan), kept, np.full(after, np.nan)]))


def _resize(site: Site) -> None:
    if site.node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return  # it writes another value outside the crop
    MOVEMENT_RULES["Resize"](site)


CONSTANT_RULES: dict[str, Callable[[Site], None]] = {
    **dict.fromkeys(_ELEMENT_WISE, _element_wise),
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul"), _layer),
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"), _window),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceMin", *SUMS), _reduction),
    "BatchNormalization": _batch_normalisation,
    "LpNormalization": _pass_zero,
    "Pad": _pad,
    "Resize": _resize,
}
