"""Writing activations and element-wise arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.exporters.caffe.prototxt import Enum
from deploycc.exporters.caffe.writer import Writer, constant, refuse, required, shape, writes


@writes("Relu", "Sigmoid", "Tanh", "Abs", "Exp", "Log")
def plain(writer: Writer, node: gs.Node) -> None:
    """Write a layer without parameters (Exp and Log have Caffe's default base e)."""
    names = {"Relu": "ReLU", "Tanh": "TanH", "Abs": "AbsVal"}
    _unary(writer, node, names.get(node.op, node.op))


@writes("LeakyRelu")
def leaky(writer: Writer, node: gs.Node) -> None:
    """Write ReLU with negative_slope."""
    _unary(writer, node, "ReLU", {"relu_param": {"negative_slope": float(node.attrs.get("alpha", 0.01))}})


@writes("Elu")
def elu(writer: Writer, node: gs.Node) -> None:
    """Write ELU with alpha."""
    _unary(writer, node, "ELU", {"elu_param": {"alpha": float(node.attrs.get("alpha", 1.0))}})


@writes("PRelu")
def prelu(writer: Writer, node: gs.Node) -> None:
    """Write PReLU with one slope, or one per channel."""
    slope = required(node, 1)
    shared = slope.size == 1
    if not shared and slope.size != shape(node, node.inputs[0])[1]:
        refuse(node, f"its slope has shape {list(slope.shape)}; Caffe takes one per channel")
    writer.layer(
        node.name,
        "PReLU",
        [node.inputs[0].name],
        [node.outputs[0].name],
        {"prelu_param": {"channel_shared": shared}},
        [slope.reshape(-1)],
    )


@writes("Clip")
def clip(writer: Writer, node: gs.Node) -> None:
    """Write ``high - relu(high - low - relu(x - low))``, which needs only stock layers.

    For 0 and 6 these are the four layers with which stock Caffe writes ReLU6.
    """
    low, high = (float(required(node, index)) for index in (1, 2))
    source, top = node.inputs[0].name, node.outputs[0].name
    if low:
        _power(writer, f"{node.name}/low", source, f"{top}/low", shift=-low)
        source = f"{top}/low"
    writer.layer(f"{node.name}/floor", "ReLU", [source], [f"{top}/floor"])
    _power(writer, f"{node.name}/turn", f"{top}/floor", f"{top}/turned", scale=-1.0, shift=high - low)
    writer.layer(f"{node.name}/ceiling", "ReLU", [f"{top}/turned"], [f"{top}/ceiling"])
    _power(writer, f"{node.name}/back", f"{top}/ceiling", top, scale=-1.0, shift=high)


@writes("BatchNormalization")
def batch_normalization(writer: Writer, node: gs.Node) -> None:
    """Write Scale with ``f = scale / sqrt(variance + epsilon)`` and shift ``bias - mean * f``."""
    gain, shift, mean, variance = (required(node, index).astype(np.float64) for index in (1, 2, 3, 4))
    factor = gain / np.sqrt(variance + node.attrs.get("epsilon", 1e-5))
    blobs = [factor.astype(np.float32), (shift - mean * factor).astype(np.float32)]
    parameters = {"scale_param": {"axis": 1, "bias_term": True}}
    writer.layer(node.name, "Scale", [node.inputs[0].name], [node.outputs[0].name], parameters, blobs)


@writes("Neg")
def negate(writer: Writer, node: gs.Node) -> None:
    """Write Power with scale -1."""
    _power(writer, node.name, node.inputs[0].name, node.outputs[0].name, scale=-1.0)


@writes("Sqrt", "Reciprocal")
def root(writer: Writer, node: gs.Node) -> None:
    """Write Power with exponent 0.5 or -1."""
    power = 0.5 if node.op == "Sqrt" else -1.0
    _power(writer, node.name, node.inputs[0].name, node.outputs[0].name, power=power)


@writes("Pow")
def power(writer: Writer, node: gs.Node) -> None:
    """Write Power with one constant exponent."""
    exponent = required(node, 1)
    if exponent.size != 1:
        refuse(node, "it has more than one exponent")
    _power(writer, node.name, node.inputs[0].name, node.outputs[0].name, power=float(exponent.reshape(())))


@writes("Add", "Sub", "Mul", "Div", "Max")
def arithmetic(writer: Writer, node: gs.Node) -> None:
    """Write Eltwise for two blobs; Power (one number) or Scale (one per channel) for a constant."""
    constants = [constant(node, index) for index in range(len(node.inputs))]
    if len(node.inputs) > 2 or all(values is None for values in constants):
        _two_blobs(writer, node)
        return
    index = next(i for i, values in enumerate(constants) if values is not None)
    _with_constant(writer, node, np.asarray(constants[index], dtype=np.float32), constant_first=index == 0)


def _with_constant(writer: Writer, node: gs.Node, values: NDArray[np.float32], *, constant_first: bool) -> None:
    source = node.inputs[1 if constant_first else 0]
    sign = -1.0 if node.op == "Sub" and constant_first else 1.0
    if node.op in ("Max", "Div") and constant_first:
        refuse(node, "its first operand is the constant")
    if node.op == "Max":
        refuse(node, "Caffe has no layer for a maximum with a constant")
    if node.op == "Div":
        values = 1.0 / values
    elif node.op == "Sub" and not constant_first:
        values = -values
    multiplies = node.op in ("Mul", "Div")
    if values.size == 1:
        number = float(values.reshape(()))
        scale, shift = (number, 0.0) if multiplies else (sign, number)
        _power(writer, node.name, source.name, node.outputs[0].name, scale=scale, shift=shift)
        return
    channels = shape(node, source)[1]
    aligned = values.reshape((1,) * (len(shape(node, source)) - values.ndim) + values.shape)
    if aligned.shape[1] != channels or aligned.size != channels:
        refuse(node, f"a constant of shape {list(values.shape)} is neither one number nor one per channel")
    factor = aligned.reshape(-1) if multiplies else np.full(channels, sign, np.float32)
    blobs = [factor] if multiplies else [factor, aligned.reshape(-1)]
    parameters = {"scale_param": {"axis": 1, "bias_term": not multiplies}}
    writer.layer(node.name, "Scale", [source.name], [node.outputs[0].name], parameters, blobs)


def _two_blobs(writer: Writer, node: gs.Node) -> None:
    shapes = [shape(node, tensor) for tensor in node.inputs]
    bottoms = [tensor.name for tensor in node.inputs]
    full = shape(node, node.outputs[0])
    for i, dims in enumerate(shapes):
        if dims != full:
            bottoms[i] = _broadcast(writer, node, bottoms[i], dims, full)
    if node.op == "Div":
        _power(writer, f"{node.name}/inverse", bottoms[1], f"{node.outputs[0].name}/inverse", power=-1.0)
        bottoms[1] = f"{node.outputs[0].name}/inverse"
    operation = {"Mul": "PROD", "Div": "PROD", "Max": "MAX"}.get(node.op, "SUM")
    if node.op == "Sub":  # not Eltwise's coeff, which TensorRT's parser ignores (parseEltwise.cpp)
        _power(writer, f"{node.name}/minus", bottoms[1], f"{node.outputs[0].name}/minus", scale=-1.0)
        bottoms[1] = f"{node.outputs[0].name}/minus"
    parameters: dict[str, Any] = {"operation": Enum(operation)}
    writer.layer(node.name, "Eltwise", bottoms, [node.outputs[0].name], {"eltwise_param": parameters})


def _broadcast(writer: Writer, node: gs.Node, blob: str, dims: tuple[int, ...], full: tuple[int, ...]) -> str:
    """Repeat one channel with a 1x1 convolution of ones, because Eltwise does not broadcast; return the blob."""
    if len(full) != 4 or dims != (full[0], 1, *full[2:]):
        refuse(node, f"Caffe does not broadcast {list(dims)} to {list(full)}")
    top = f"{blob}/repeated_for_{node.name}"
    ones = np.ones((full[1], 1, 1, 1), np.float32)
    parameters = {"convolution_param": {"num_output": full[1], "kernel_size": 1, "bias_term": False}}
    writer.layer(f"{node.name}/repeat", "Convolution", [blob], [top], parameters, [ones])
    return top


@writes("ReduceSum", "ReduceL2", "ReduceSumSquare")
def channel_sum(writer: Writer, node: gs.Node) -> None:
    """Sum over the channels with a 1x1 convolution of ones, because TensorRT 4 cannot reduce channels."""
    operand = constant(node, 1)
    axes = node.attrs.get("axes") if operand is None else operand.tolist()
    dims = shape(node, node.inputs[0])
    if axes not in ([1], [-3]) or len(dims) != 4 or not node.attrs.get("keepdims", 1):
        refuse(node, f"it sums over the axes {axes}; only a sum over the channels of a map can be written")
    source, top = node.inputs[0].name, node.outputs[0].name
    if node.op != "ReduceSum":
        _power(writer, f"{node.name}/square", source, f"{top}/square", power=2.0)
        source = f"{top}/square"
    summed = f"{top}/sum" if node.op == "ReduceL2" else top
    ones = np.ones((1, dims[1], 1, 1), np.float32)
    parameters = {"convolution_param": {"num_output": 1, "kernel_size": 1, "bias_term": False}}
    writer.layer(f"{node.name}/sum", "Convolution", [source], [summed], parameters, [ones])
    if node.op == "ReduceL2":
        _power(writer, f"{node.name}/root", summed, top, power=0.5)


def _unary(
    writer: Writer, node: gs.Node, type_: str, parameters: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    writer.layer(node.name, type_, [node.inputs[0].name], [node.outputs[0].name], parameters)


def _power(
    writer: Writer, name: str, source: str, top: str, *, power: float = 1.0, scale: float = 1.0, shift: float = 0.0
) -> None:
    """Write ``(shift + scale * x) ** power``."""
    parameters = {"power_param": {"power": power, "scale": scale, "shift": shift}}
    writer.layer(name, "Power", [source], [top], parameters)
