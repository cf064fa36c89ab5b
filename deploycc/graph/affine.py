"""Nodes that compute ``y = scale * x + shift`` with one constant per channel, whatever their operator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.graph.edit import constant_values, holds, sole_reader, static_shape

Array = NDArray[np.float64]

_ONE: Array = np.ones(())
_ZERO: Array = np.zeros(())


@dataclass(frozen=True, eq=False)
class Affine:
    """``y = scale * x + shift``.

    Attributes:
        scale, shift: float64, shape () for one value, or (C,) for one per channel (axis 1 of x).
    """

    scale: Array
    shift: Array

    def then(self, after: Affine) -> Affine:
        """Return the affine that applies ``after`` to this one's result."""
        return Affine(after.scale * self.scale, after.scale * self.shift + after.shift)

    @property
    def finite(self) -> bool:
        """Return False if a zero variance or divisor made an infinity or NaN."""
        return bool(np.isfinite(self.scale).all() and np.isfinite(self.shift).all())


@dataclass(frozen=True, eq=False)
class Step:
    """A node that is an affine of one of its inputs."""

    node: gs.Node
    data: gs.Tensor
    affine: Affine


def affine_of(node: gs.Node) -> Step | None:
    """Read a node as an affine: BatchNormalization, Neg, and Mul, Add, Sub, Div with a constant.

    The constant must be a scalar or have one value per channel (axis 1), and must not enlarge the data's shape.
    """
    if node.domain not in (None, "", "ai.onnx") or not node.outputs:
        return None
    if node.op == "BatchNormalization":
        return _batch_norm(node)
    if node.op == "Neg":
        return _float_step(node, node.inputs[0], Affine(-_ONE, _ZERO))
    if node.op not in ("Mul", "Add", "Sub", "Div") or len(node.inputs) != 2:
        return None
    left, right = node.inputs
    constant_first = isinstance(left, gs.Constant)
    if constant_first == isinstance(right, gs.Constant):
        return None
    data, constant = (right, left) if constant_first else (left, right)
    value = _per_channel(constant, data)
    if value is None:
        return None
    with np.errstate(divide="ignore"):
        if node.op == "Mul":
            affine = Affine(value, _ZERO)
        elif node.op == "Add":
            affine = Affine(_ONE, value)
        elif node.op == "Sub":
            affine = Affine(-_ONE, value) if constant_first else Affine(_ONE, -value)
        elif constant_first:
            return None
        else:
            affine = Affine(_ONE / value, _ZERO)
    return _float_step(node, data, affine)


def affine_chain(graph: gs.Graph, tensor: gs.Tensor) -> list[Step]:
    """Return the chain of affine nodes from ``tensor`` on, each the sole reader of the one before."""
    chain: list[Step] = []
    while True:
        reader = sole_reader(graph, tensor)
        step = affine_of(reader) if reader is not None else None
        if step is None or not holds(graph, step.node):  # asked last: it looks at every node
            return chain
        chain.append(step)
        tensor = step.node.outputs[0]


def compose(chain: list[Step]) -> Affine:
    """Return the affine of a whole chain, in float64."""
    total = chain[0].affine
    with np.errstate(invalid="ignore", over="ignore"):
        for step in chain[1:]:
            total = total.then(step.affine)
    return total


def _float_step(node: gs.Node, data: gs.Tensor, affine: Affine) -> Step | None:
    floating = data.dtype is None or np.issubdtype(np.dtype(data.dtype), np.floating)
    return Step(node, data, affine) if floating else None


def _batch_norm(node: gs.Node) -> Step | None:
    """``s = gamma / sqrt(var + eps)``, ``t = beta - mean * s`` (Ioffe and Szegedy, 2015, algorithm 2)."""
    parts = [constant_values(tensor) for tensor in node.inputs[1:5]]
    trains = node.attrs.get("training_mode", 0) or not node.attrs.get("spatial", 1)
    if len(parts) != 4 or trains or any(not t.is_empty() and (t.outputs or t.name) for t in node.outputs[1:]):
        return None
    arrays = [part.astype(np.float64) for part in parts if part is not None]
    if len(arrays) != 4:
        return None
    gamma, beta, mean, variance = arrays
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = gamma / np.sqrt(variance + node.attrs.get("epsilon", 1e-5))
        return Step(node, node.inputs[0], Affine(scale, beta - mean * scale))


def _per_channel(constant: gs.Tensor, data: gs.Tensor) -> Array | None:
    values, shape = constant_values(constant), static_shape(data)
    if values is None or not np.issubdtype(values.dtype, np.floating):
        return None
    if shape is None or values.ndim > len(shape):
        return None
    flat = values.astype(np.float64).reshape(-1)
    if values.size == 1:
        return flat.reshape(())
    aligned = (1,) * (len(shape) - values.ndim) + values.shape
    if len(shape) < 2 or aligned[1] != shape[1] or any(d != 1 for axis, d in enumerate(aligned) if axis != 1):
        return None
    return flat[:1].reshape(()) if (flat == flat[0]).all() else flat
