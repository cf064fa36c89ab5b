"""Writing activations and element-wise arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.exporters.caffe.prototxt import Enum
from deploycc.exporters.caffe.writer import Writer, required, shape, writes
from deploycc.parsers.caffe_layers import constants_of, scale_axes, scaled_by_blob


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
    writer.layer(
        node.name,
        "PReLU",
        [node.inputs[0].name],
        [node.outputs[0].name],
        {"prelu_param": {"channel_shared": slope.size == 1}},
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


@writes("HardSigmoid")
def hard_sigmoid(writer: Writer, node: gs.Node) -> None:
    """Write ``1 - relu(1 - relu(alpha * x + beta))``, which needs only stock layers."""
    source, top = node.inputs[0].name, node.outputs[0].name
    alpha, beta = float(node.attrs.get("alpha", 0.2)), float(node.attrs.get("beta", 0.5))
    _power(writer, f"{node.name}/line", source, f"{top}/line", scale=alpha, shift=beta)
    writer.layer(f"{node.name}/floor", "ReLU", [f"{top}/line"], [f"{top}/floor"])
    _power(writer, f"{node.name}/turn", f"{top}/floor", f"{top}/turned", scale=-1.0, shift=1.0)
    writer.layer(f"{node.name}/ceiling", "ReLU", [f"{top}/turned"], [f"{top}/ceiling"])
    _power(writer, f"{node.name}/back", f"{top}/ceiling", top, scale=-1.0, shift=1.0)


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
    _power(writer, node.name, node.inputs[0].name, node.outputs[0].name, power=float(exponent.reshape(())))


@writes("Add", "Sub", "Mul", "Div", "Max")
def arithmetic(writer: Writer, node: gs.Node) -> None:
    """Write Eltwise or Scale for two blobs; Power (one number) or Scale (one per channel) for a constant."""
    constants = constants_of(node)
    factor = scaled_by_blob(node)
    if factor is not None:
        _scale_channels(writer, node, node.inputs[1 - factor], node.inputs[factor])
    elif not constants:
        _blobs(writer, node)
    else:
        values = np.asarray(required(node, constants[0]), dtype=np.float32)
        _with_constant(writer, node, values, constant_first=constants[0] == 0)


def _with_constant(writer: Writer, node: gs.Node, values: NDArray[np.float32], *, constant_first: bool) -> None:
    source = node.inputs[1 if constant_first else 0]
    sign = -1.0 if node.op == "Sub" and constant_first else 1.0
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
    span = scale_axes(values, shape(source))
    assert span is not None
    axis, count = span
    blob = values.reshape(shape(source)[axis : axis + count])
    blobs = [blob] if multiplies else [np.full(blob.shape, sign, np.float32), blob]
    parameters: dict[str, Any] = {"axis": axis, "bias_term": not multiplies}
    if count > 1:
        parameters["num_axes"] = count
    writer.layer(node.name, "Scale", [source.name], [node.outputs[0].name], {"scale_param": parameters}, blobs)


def _scale_channels(writer: Writer, node: gs.Node, source: gs.Tensor, factor: gs.Tensor) -> None:
    """Write Scale with two bottoms: the second holds [N, C] factors (scale_layer.cpp)."""
    row = f"{factor.name}/row_for_{node.name}"
    dims = {"shape": {"dim": [0, shape(factor)[1]]}}
    writer.layer(f"{node.name}/row", "Reshape", [factor.name], [row], {"reshape_param": dims})
    parameters = {"scale_param": {"axis": 0, "bias_term": False}}
    writer.layer(node.name, "Scale", [source.name, row], [node.outputs[0].name], parameters)


def _blobs(writer: Writer, node: gs.Node) -> None:
    shapes = [shape(tensor) for tensor in node.inputs]
    bottoms = [tensor.name for tensor in node.inputs]
    full = shape(node.outputs[0])
    for i, dims in enumerate(shapes):
        if dims != full:
            bottoms[i] = _broadcast(writer, node, bottoms[i], full)
    if node.op == "Div":
        _power(writer, f"{node.name}/inverse", bottoms[1], f"{node.outputs[0].name}/inverse", power=-1.0)
        bottoms[1] = f"{node.outputs[0].name}/inverse"
    operation = {"Mul": "PROD", "Div": "PROD", "Max": "MAX"}.get(node.op, "SUM")
    if node.op == "Sub":  # not Eltwise's coeff, which TensorRT's parser ignores (parseEltwise.cpp)
        _power(writer, f"{node.name}/minus", bottoms[1], f"{node.outputs[0].name}/minus", scale=-1.0)
        bottoms[1] = f"{node.outputs[0].name}/minus"
    parameters: dict[str, Any] = {"operation": Enum(operation)}
    writer.layer(node.name, "Eltwise", bottoms, [node.outputs[0].name], {"eltwise_param": parameters})


def _broadcast(writer: Writer, node: gs.Node, blob: str, full: tuple[int, ...]) -> str:
    """Repeat one channel with a 1x1 convolution of ones, because Eltwise does not broadcast; return the blob."""
    top = f"{blob}/repeated_for_{node.name}"
    ones = np.ones((full[1], 1, 1, 1), np.float32)
    parameters = {"convolution_param": {"num_output": full[1], "kernel_size": 1, "bias_term": False}}
    writer.layer(f"{node.name}/repeat", "Convolution", [blob], [top], parameters, [ones])
    return top


@writes("ReduceSum", "ReduceL2", "ReduceSumSquare")
def channel_sum(writer: Writer, node: gs.Node) -> None:
    """Sum over the channels with a 1x1 convolution of ones, because TensorRT 4 cannot reduce channels."""
    dims = shape(node.inputs[0])
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
