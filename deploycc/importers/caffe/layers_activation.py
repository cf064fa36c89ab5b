"""Element-wise layers, and Softmax."""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.importers.caffe.layer import Emitted, Layer, emits, float32
from deploycc.importers.caffe.weights import Blob

_SIXTH = {"alpha": 1 / 6, "beta": 0.5}  # ReLU6(x + 3) / 6 as ONNX's HardSigmoid


@emits("ReLU", param="relu_param", fields="negative_slope")
def relu(layer: Layer) -> Emitted:
    """max(x, 0), or leaky with a negative slope."""
    slope = layer.param.number("negative_slope")
    if slope:
        return [layer.node("LeakyRelu", layer.inputs, layer.shape(), {"alpha": slope})]
    return [layer.node("Relu", layer.inputs, layer.shape())]


@emits("ReLU6", param="relu6_param")
def relu6(layer: Layer) -> Emitted:
    """min(max(x, 0), 6)."""
    return [_clip(layer, 0.0, 6.0)]


@emits("Clip", param="clip_param", fields="min max")
def clip(layer: Layer) -> Emitted:
    """min(max(x, low), high)."""
    for name in ("min", "max"):
        if name not in layer.param:
            raise layer.error("caffe-wrong-value", f"{name} is missing")
    return [_clip(layer, layer.param.number("min"), layer.param.number("max"))]


def _clip(layer: Layer, low: float, high: float) -> gs.Variable:
    return layer.node("Clip", [layer.inputs[0], layer.scalar("min", low), layer.scalar("max", high)], layer.shape())


@emits("PReLU", param="prelu_param", fields="channel_shared", ignored="filler")
def prelu(layer: Layer) -> Emitted:
    """Keep x where positive, slope x elsewhere; one slope per channel, or one for all."""
    shape = layer.shape()
    count = 1 if layer.param.flag("channel_shared") else shape[1]
    (slope,) = layer.blobs(Blob("slope", (count,)))
    broadcast = slope.reshape(-1, *[1] * (len(shape) - 2))
    return [layer.node("PRelu", [layer.inputs[0], layer.constant("slope", broadcast)], shape)]


@emits("ELU", param="elu_param", fields="alpha")
def elu(layer: Layer) -> Emitted:
    """Keep x where positive, alpha (e^x - 1) elsewhere."""
    return [layer.node("Elu", layer.inputs, layer.shape(), {"alpha": layer.param.number("alpha", 1.0)})]


@emits("Sigmoid", param="sigmoid_param")
def sigmoid(layer: Layer) -> Emitted:
    """1 / (1 + e^-x)."""
    return [layer.node("Sigmoid", layer.inputs, layer.shape())]


@emits("TanH", param="tanh_param")
def tanh(layer: Layer) -> Emitted:
    """Hyperbolic tangent."""
    return [layer.node("Tanh", layer.inputs, layer.shape())]


@emits("AbsVal")
def absolute(layer: Layer) -> Emitted:
    """|x|."""
    return [layer.node("Abs", layer.inputs, layer.shape())]


@emits("BNLL")
def bnll(layer: Layer) -> Emitted:
    """log(1 + e^x)."""
    return [layer.node("Softplus", layer.inputs, layer.shape())]


@emits("Swish", param="swish_param", fields="beta")
def swish(layer: Layer) -> Emitted:
    """Multiply x by sigmoid(beta x)."""
    shape, x = layer.shape(), layer.inputs[0]
    gate = layer.node("Sigmoid", [_times(layer, x, layer.param.number("beta", 1.0), "beta")], shape)
    return [layer.node("Mul", [x, gate], shape)]


@emits("HardSigmoid", param="hardsigmoid_param hard_sigmoid_param", fields="alpha beta")
def hard_sigmoid(layer: Layer) -> Emitted:
    """min(max(alpha x + beta, 0), 1)."""
    for name in ("alpha", "beta"):
        if name not in layer.param:  # without them a fork for MobileNetV3 computes 1/6 and others 0.2
            raise layer.unsupported(f"no {name}", "forks have other defaults; state alpha and beta")
    attrs = {"alpha": layer.param.number("alpha"), "beta": layer.param.number("beta")}
    return [layer.node("HardSigmoid", layer.inputs, layer.shape(), attrs)]


@emits("HSigmoid")
def h_sigmoid(layer: Layer) -> Emitted:
    """ReLU6(x + 3) / 6 (Howard et al., "Searching for MobileNetV3", 2019, section 5.2)."""
    return [layer.node("HardSigmoid", layer.inputs, layer.shape(), _SIXTH)]


@emits("HardSwish", "HSwish", param="hardswish_param hard_swish_param")
def hard_swish(layer: Layer) -> Emitted:
    """Multiply x by ReLU6(x + 3) / 6 (Howard et al., "Searching for MobileNetV3", 2019, section 5.2)."""
    shape, x = layer.shape(), layer.inputs[0]
    gate = layer.node("HardSigmoid", [x], shape, _SIXTH)
    return [layer.node("Mul", [x, gate], shape)]


@emits("Mish")
def mish(layer: Layer) -> Emitted:
    """Multiply x by tanh(log(1 + e^x)) (Misra, "Mish", 2019)."""
    shape, x = layer.shape(), layer.inputs[0]
    gate = layer.node("Tanh", [layer.node("Softplus", [x], shape)], shape)
    return [layer.node("Mul", [x, gate], shape)]


@emits("SELU", "SeLu", "Selu", param="selu_param", fields="lambda alpha")
def selu(layer: Layer) -> Emitted:
    """Compute lambda x where positive, lambda alpha (e^x - 1) elsewhere (Klambauer et al., 2017, equation 2)."""
    attrs = {"alpha": layer.param.number("alpha", 1.67326324), "gamma": layer.param.number("lambda", 1.050700987)}
    return [layer.node("Selu", layer.inputs, layer.shape(), attrs)]


@emits("CReLU", "CReLu", param="crelu_param", fields="negative_slope concat_axis")
def crelu(layer: Layer) -> Emitted:
    """Concatenate ReLU(x) and ReLU(-x) (Shang et al., 2016, equation 1), both leaky if there is a negative slope."""
    shape, x = list(layer.shape()), layer.inputs[0]
    axis = layer.axis(layer.param.integer("concat_axis", 1), len(shape), "concat_axis")
    slope = layer.param.number("negative_slope")
    op, attrs = ("LeakyRelu", {"alpha": slope}) if slope else ("Relu", {})
    halves = [x, layer.node("Neg", [x], shape)]
    halves = [layer.node(op, [half], shape, attrs, part=f"{op.lower()}{index}") for index, half in enumerate(halves)]
    return [
        layer.node("Concat", halves, [2 * size if a == axis else size for a, size in enumerate(shape)], {"axis": axis})
    ]


@emits("Exp", param="exp_param", fields="base scale shift")
def exponential(layer: Layer) -> Emitted:
    """base^(shift + scale x); base -1 means e."""
    log_base = _log_base(layer)
    scaled = _times(layer, layer.inputs[0], layer.param.number("scale", 1.0) * log_base, "scale")
    shifted = _plus(layer, scaled, layer.param.number("shift") * log_base, "shift")
    return [layer.node("Exp", [shifted], layer.shape())]


@emits("Log", param="log_param", fields="base scale shift")
def logarithm(layer: Layer) -> Emitted:
    """log_base(shift + scale x); base -1 means e."""
    scaled = _times(layer, layer.inputs[0], layer.param.number("scale", 1.0), "scale")
    shifted = _plus(layer, scaled, layer.param.number("shift"), "shift")
    return [_times(layer, layer.node("Log", [shifted], layer.shape()), 1.0 / _log_base(layer), "base")]


def _log_base(layer: Layer) -> float:
    base = layer.param.number("base", -1.0)
    if base == -1.0:
        return 1.0
    if base <= 0 or base == 1.0:
        raise layer.error("caffe-wrong-value", f"base is {base:g}, but must be positive and not 1, or -1 for e")
    return math.log(base)


@emits("Power", param="power_param", fields="power scale shift")
def power(layer: Layer) -> Emitted:
    """(shift + scale x)^power."""
    x = _times(layer, layer.inputs[0], layer.param.number("scale", 1.0), "scale")
    x = _plus(layer, x, layer.param.number("shift"), "shift")
    exponent = layer.param.number("power", 1.0)
    return [x if exponent == 1.0 else layer.node("Pow", [x, layer.scalar("exponent", exponent)], layer.shape())]


@emits("Threshold", param="threshold_param", fields="threshold")
def threshold(layer: Layer) -> Emitted:
    """1 where x is greater than the threshold, else 0."""
    shape = layer.shape()
    limit = layer.scalar("threshold", layer.param.number("threshold"))
    above = layer.node("Greater", [layer.inputs[0], limit], shape, dtype=np.bool_)
    return [layer.node("Cast", [above], shape, {"to": 1})]


@emits("Dropout", param="dropout_param", fields="dropout_ratio sample_weights_test scale_train")
def dropout(layer: Layer) -> Emitted:
    """Identity at test time, unless a fork scales at test time instead of in training."""
    ratio = layer.param.number("dropout_ratio", 0.5)
    if layer.param.flag("sample_weights_test"):
        raise layer.unsupported("sample_weights_test", "it draws random numbers at test time")
    if layer.param.flag("scale_train", True):
        return layer.inputs
    return [_times(layer, layer.inputs[0], 1.0 - ratio, "keep")]


@emits("Softmax", param="softmax_param", fields="axis")
def softmax(layer: Layer) -> Emitted:
    """e^x / sum e^x along an axis."""
    axis = layer.axis(layer.param.integer("axis", 1), len(layer.shape()))
    return [layer.node("Softmax", layer.inputs, layer.shape(), {"axis": axis})]


def _times(layer: Layer, x: gs.Tensor, factor: float, part: str) -> gs.Tensor:
    if factor == 1.0:
        return x
    return layer.node("Mul", [x, _filled(layer, part, factor)], layer.shape(), part=part)


def _plus(layer: Layer, x: gs.Tensor, term: float, part: str) -> gs.Tensor:
    if term == 0.0:
        return x
    return layer.node("Add", [x, _filled(layer, part, term)], layer.shape(), part=part)


def _filled(layer: Layer, role: str, value: float) -> gs.Constant:
    """Create a constant with one value per channel, the form that can be folded into a convolution."""
    shape = layer.shape()
    dims = [1, shape[1], *[1] * (len(shape) - 2)] if len(shape) > 1 else [1] * len(shape)
    return layer.constant(role, np.full(dims, float32(value)))
