"""Folding BatchNorm, Scale, Power and Bias into an adjacent convolution or matrix product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.errors import Note
from deploycc.graph.affine import Affine, Array, Step, affine_chain, affine_of, compose
from deploycc.graph.edit import bypass, constant_values, fresh_name, is_output, producer, set_constant, static_shape
from deploycc.passes.options import Options
from deploycc.passes.runner import Result

_LINEAR = ("Conv", "ConvTranspose", "Gemm")


Weights = NDArray[Any]


@dataclass(frozen=True, eq=False)
class _Linear:
    """New weights of a node, in the type of the old ones; `_write` assigns them."""

    node: gs.Node
    weight: Weights
    bias: Weights | None


def fold_affine(detector: Detector, options: Options) -> Result:
    """Fold ``s * x + t`` (one s and t per channel) into the linear node before it, else into those after it.

    Neighbouring affine nodes are first composed in float64; the result is rounded once to the weights' type.

    After the linear node, ``s * (W x + b) + t = (s W) x + (s b + t)``: always exact if nothing else reads W x + b.
    Before it, ``W (s x + t) + b = (W s) x + (W t + b)``: exact for a Gemm and for a convolution without padding; with
    padding only for t = 0, because the padding adds zeros, not t; for ConvTranspose only for t = 0, because outputs at
    the border sum fewer taps. A constant with other readers is copied. A chain that cannot be folded is composed into
    one node.

    Before: ``c = Conv(x, W, b); n = BatchNormalization(c, ...); y = Relu(n)``
    After:  ``n = Conv(x, W', b'); y = Relu(n)``
    """
    graph, notes, changed = detector.graph, [], False
    done: set[int] = set()
    for node in list(graph.nodes):
        first = affine_of(node) if id(node) not in done else None
        if first is None:
            continue
        chain = [first, *affine_chain(graph, node.outputs[0])]
        done.update(id(step.node) for step in chain)
        reasons: list[str] = []
        folded = _fold(graph, chain, reasons) or _merge(graph, chain)
        changed |= folded
        if reasons:
            notes.append(Note(node.name, "affine-kept", f"{node.op} is not folded: {'; '.join(reasons)}"))
        elif not folded and any(step.node.op == "BatchNormalization" for step in chain):
            reason = "there is no adjacent convolution or matrix product to fold into"
            notes.append(Note(node.name, "batchnorm-kept", reason))
    if changed:
        graph.cleanup().toposort()
    return Result(detector, changed, tuple(notes))


def _fold(graph: gs.Graph, chain: list[Step], reasons: list[str]) -> bool:
    """Fold a chain backwards or forwards; on failure append to ``reasons`` why the linear neighbours cannot take it."""
    affine = compose(chain)
    before = _before(graph, chain[0], affine)
    if isinstance(before, str):
        reasons.append(before)
    after = _after(graph, chain, affine) if before is None or isinstance(before, str) else None
    if isinstance(after, str):
        reasons.append(after)
    changes = [before] if isinstance(before, _Linear) else after if isinstance(after, list) else []
    if not changes:
        return False
    for change in changes:
        _write(graph, change)
    for step in chain:
        bypass(graph, step.node, chain[0].data)  # each step reads it after the one before is bypassed
    reasons.clear()
    return True


def _before(graph: gs.Graph, first: Step, affine: Affine) -> _Linear | str | None:
    """Return new weights of the linear node before the affine, why it has none, or None without such a node."""
    node = producer(first.data)
    if node is None or node.op not in _LINEAR:
        return None
    if not _reads_alone(graph, first.data):
        return f"another node reads the output of {node.name}, or it is a network output"
    linear = _weights(node)
    if linear is None:
        return f"the weights of {node.name} are not constant"
    weight, bias = linear
    channels = _output_channels(node, weight)
    scale, shift = np.broadcast_to(affine.scale, channels), np.broadcast_to(affine.shift, channels)
    with np.errstate(over="ignore", invalid="ignore"):
        new_weight = _scale_outputs(node, weight, scale)
        new_bias = _scaled_bias(bias, scale) + shift if bias is not None or shift.any() else None
    return _checked(node, new_weight, new_bias)


def _after(graph: gs.Graph, chain: list[Step], affine: Affine) -> list[_Linear] | str | None:
    """Return new weights of all readers of the affine, why there are none, or None if a reader is not linear."""
    result = chain[-1].node.outputs[0]
    readers = list(result.outputs)
    if not readers or is_output(graph, result):
        return None
    if any(node.op not in _LINEAR or [t is result for t in node.inputs].index(True) != 0 for node in readers):
        return None
    changes: list[_Linear] = []
    for node in readers:
        linear = _weights(node)
        if linear is None or sum(tensor is result for tensor in node.inputs) > 1:
            return f"the weights of {node.name} are not constant"
        if affine.shift.any() and not _shift_passes(node):
            return f"{node.name} pads with zeros, to which the shift does not apply"
        weight, bias = linear
        channels = _input_channels(node, weight)
        scale, shift = np.broadcast_to(affine.scale, channels), np.broadcast_to(affine.shift, channels)
        with np.errstate(over="ignore", invalid="ignore"):
            new_bias = bias
            if affine.shift.any():
                new_bias = _through(node, weight, shift) + (0.0 if bias is None else bias)
            change = _checked(node, _scale_inputs(node, weight, scale), new_bias)
        if isinstance(change, str):
            return change
        changes.append(change)
    return changes


def _reads_alone(graph: gs.Graph, tensor: gs.Tensor) -> bool:
    return len(tensor.outputs) == 1 and not is_output(graph, tensor)


def _shift_passes(node: gs.Node) -> bool:
    """Return whether a constant added to the input adds a constant to the whole output."""
    if node.op == "Gemm":
        return True
    return node.op == "Conv" and not _pads(node)


def _pads(node: gs.Node) -> bool:
    return node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(node.attrs.get("pads", ()))


def _weights(node: gs.Node) -> tuple[Weights, Array | None] | None:
    """Return the weight, and the bias as float64 (a Gemm's times beta); None if they are not constants."""
    weight = constant_values(node.inputs[1])
    has_bias = len(node.inputs) > 2 and not node.inputs[2].is_empty()
    bias = constant_values(node.inputs[2]) if has_bias else None
    if weight is None or not np.issubdtype(weight.dtype, np.floating) or (has_bias and bias is None):
        return None
    if node.op == "Gemm" and node.attrs.get("transA", 0):
        return None
    factor = node.attrs.get("beta", 1.0) if node.op == "Gemm" else 1.0
    return weight, None if bias is None else bias.astype(np.float64) * factor


def _groups(node: gs.Node) -> int:
    return int(node.attrs.get("group", 1))


def _output_channels(node: gs.Node, weight: Weights) -> int:
    if node.op == "Gemm":
        return int(weight.shape[0 if node.attrs.get("transB", 0) else 1])
    return int(weight.shape[0] if node.op == "Conv" else weight.shape[1] * _groups(node))


def _input_channels(node: gs.Node, weight: Weights) -> int:
    if node.op == "Gemm":
        return int(weight.shape[1 if node.attrs.get("transB", 0) else 0])
    return int(weight.shape[1] * _groups(node) if node.op == "Conv" else weight.shape[0])


def _scale_outputs(node: gs.Node, weight: Weights, scale: Array) -> Weights:
    """Scale output channels: axis 0 of a Conv, axis 1 of a ConvTranspose."""
    if node.op == "Gemm":
        return _times(weight, scale[:, None] if node.attrs.get("transB", 0) else scale[None, :])
    return _scale_first_axis(weight, scale) if node.op == "Conv" else _scale_second_axis(node, weight, scale)


def _scale_inputs(node: gs.Node, weight: Weights, scale: Array) -> Weights:
    """Scale input channels: axis 1 of a Conv, axis 0 of a ConvTranspose."""
    if node.op == "Gemm":
        return _times(weight, scale[None, :] if node.attrs.get("transB", 0) else scale[:, None])
    return _scale_second_axis(node, weight, scale) if node.op == "Conv" else _scale_first_axis(weight, scale)


def _scale_first_axis(weight: Weights, scale: Array) -> Weights:
    return _times(weight, scale.reshape(-1, *(1,) * (weight.ndim - 1)))


def _scale_second_axis(node: gs.Node, weight: Weights, scale: Array) -> Weights:
    """Scale axis 1 of a weight whose groups are stacked along axis 0."""
    stacked = _by_group(node, weight)
    factor = scale.reshape(len(stacked), 1, weight.shape[1], *(1,) * (weight.ndim - 2))
    return _times(stacked, factor).reshape(weight.shape)


def _by_group(node: gs.Node, weight: Weights) -> Weights:
    groups = _groups(node)
    return weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])


def _times(weight: Weights, factor: Array) -> Weights:
    """Multiply in float64 and round once, piece by piece, without a float64 copy of all weights."""
    return np.multiply(weight, factor, out=np.empty_like(weight), dtype=np.float64, casting="same_kind")


def _scaled_bias(bias: Array | None, scale: Array) -> Array:
    return np.zeros_like(scale) if bias is None else bias * scale


def _through(node: gs.Node, weight: Weights, shift: Array) -> Array:
    """Return what a constant input of ``shift`` per channel adds to each output channel of a Conv or Gemm."""
    if node.op == "Gemm":
        matrix = weight.T if node.attrs.get("transB", 0) else weight
        return np.asarray(node.attrs.get("alpha", 1.0) * (shift @ matrix))
    taps = _by_group(node, weight).sum(axis=tuple(range(3, weight.ndim + 1)), dtype=np.float64)
    return np.asarray(np.einsum("gmc,gc->gm", taps, shift.reshape(len(taps), -1)).reshape(-1))


def _checked(node: gs.Node, weight: Weights, bias: Array | None) -> _Linear | str:
    with np.errstate(over="ignore"):
        rounded = None if bias is None else bias.astype(weight.dtype)
    if np.isfinite(weight).all() and (rounded is None or np.isfinite(rounded).all()):
        return _Linear(node, weight, rounded)
    return f"the weights of {node.name} would not be finite"


def _write(graph: gs.Graph, change: _Linear) -> None:
    node = change.node
    name = node.name or node.outputs[0].name
    set_constant(graph, node, 1, change.weight, f"{name}_weight")
    if change.bias is not None:
        set_constant(graph, node, 2, change.bias, f"{name}_bias")
        if node.op == "Gemm":
            node.attrs["beta"] = 1.0


def _merge(graph: gs.Graph, chain: list[Step]) -> bool:
    """Replace several affine nodes by one: Mul, Add, or BatchNormalization (one Scale layer in TensorRT)."""
    data, affine = chain[0].data, compose(chain)
    shape = static_shape(data)
    if len(chain) == 1 or shape is None or len(shape) != 4 or not affine.finite:
        return False
    dtype, channels, name = np.dtype(data.dtype or np.float32), shape[1], chain[0].node.name
    with np.errstate(over="ignore"):
        scale, shift = (np.broadcast_to(part, channels).astype(dtype) for part in (affine.scale, affine.shift))
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return False
    result = chain[-1].node.outputs[0]
    for step in chain:
        step.node.outputs.clear()
        step.node.inputs.clear()

    def constant(kind: str, values: Array) -> gs.Constant:
        return gs.Constant(fresh_name(graph, f"{name or result.name}_{kind}"), values)

    if shift.any() and (scale != 1).any():
        ones, zeros = np.ones_like(scale), np.zeros_like(shift)
        parts = [constant("scale", scale), constant("shift", shift), constant("mean", zeros), constant("var", ones)]
        merged = gs.Node("BatchNormalization", name, {"epsilon": 0.0}, [data, *parts], [result])
    elif shift.any():
        merged = gs.Node("Add", name, inputs=[data, constant("shift", shift.reshape(1, -1, 1, 1))], outputs=[result])
    else:
        merged = gs.Node("Mul", name, inputs=[data, constant("scale", scale.reshape(1, -1, 1, 1))], outputs=[result])
    graph.nodes.append(merged)
    return True
