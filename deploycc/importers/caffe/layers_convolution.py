"""Convolution, Deconvolution, InnerProduct."""

from __future__ import annotations

import math

from deploycc.importers.caffe.layer import Emitted, Layer, emits
from deploycc.importers.caffe.weights import Blob

_DEPTHWISE = ("ConvolutionDepthwise", "DepthwiseConvolution", "ConvolutionDepthWise", "DepthWiseConvolution")
_FIELDS = (
    "num_output bias_term axis group kernel_size kernel_h kernel_w stride stride_h stride_w pad pad_h pad_w dilation"
)
_FILLERS = "weight_filler bias_filler"
_IGNORED = f"{_FILLERS} force_nd_im2col cudnn_convolution_algo_seeker"
Pair = tuple[int, int]


def pair(layer: Layer, both: str, height: str, width: str, default: int, least: int) -> Pair:
    """Return a (height, width) given as one value, as one per dimension, or as ``*_h`` and ``*_w``.

    Args:
        layer: whose parameters are read.
        both: field that is given once or twice.
        height: field for the height alone; empty if Caffe has no such form.
        width: field for the width alone.
        default: value if nothing is given.
        least: smallest value allowed.

    Raises:
        ModelError: both forms or more than two values are given, or a value is too small.
    """
    values = layer.param.integers(both)
    if height and (height in layer.param or width in layer.param):
        if values:
            raise layer.error("caffe-wrong-value", f"{both} and {height}/{width} are both given")
        values = [layer.param.integer(height, default), layer.param.integer(width, default)]
    if len(values) > 2:
        raise layer.error("caffe-wrong-value", f"{both} has {len(values)} values; pictures have two dimensions")
    values = values or [default]
    if min(values) < least:
        raise layer.error("caffe-wrong-value", f"{both} is {values}, but must be at least {least}")
    return values[0], values[-1]


def positive(layer: Layer, name: str, default: int = 0) -> int:
    """Return a field that must be at least 1; without a default it must be given."""
    value = layer.param.integer(name, default)
    if value < 1:
        problem = f"is {value}" if name in layer.param else "is missing"
        raise layer.error("caffe-wrong-value", f"{name} {problem}; it must be at least 1")
    return value


def _group(layer: Layer, channels: int, outputs: int) -> int:
    # In forks with a depthwise type `group` is the number of channels if it is not given.
    default = channels if layer.definition.type in _DEPTHWISE and "group" not in layer.param else 1
    group = positive(layer, "group", default)
    if channels % group or outputs % group:
        raise layer.error(
            "caffe-wrong-value", f"group {group} does not divide {channels} input and {outputs} output channels"
        )
    return group


def _window(layer: Layer) -> tuple[Pair, Pair, Pair, Pair]:
    """Kernel, stride, pad and dilation, each (height, width)."""
    if layer.param.integer("axis", 1) not in (1, -3):
        raise layer.unsupported(f"axis {layer.param.integer('axis', 1)}", "channels must be axis 1")
    kernel = pair(layer, "kernel_size", "kernel_h", "kernel_w", 0, 1)
    stride = pair(layer, "stride", "stride_h", "stride_w", 1, 1)
    pad = pair(layer, "pad", "pad_h", "pad_w", 0, 0)
    dilation = pair(layer, "dilation", "", "", 1, 1)
    return kernel, stride, pad, dilation


def _attributes(kernel: Pair, stride: Pair, pad: Pair, dilation: Pair, group: int) -> dict[str, object]:
    return {
        "kernel_shape": list(kernel),
        "strides": list(stride),
        "pads": [*pad, *pad],
        "dilations": list(dilation),
        "group": group,
    }


@emits("Convolution", *_DEPTHWISE, param="convolution_param", fields=_FIELDS, ignored=_IGNORED)
def convolution(layer: Layer) -> Emitted:
    """Convolution: out = floor((in + 2 pad - dilation (kernel - 1) - 1) / stride) + 1."""
    batch, channels, *size = layer.image_shape()
    outputs = positive(layer, "num_output")
    kernel, stride, pad, dilation = window = _window(layer)
    group = _group(layer, channels, outputs)
    out = [
        (s + 2 * p - d * (k - 1) - 1) // t + 1
        for s, k, t, p, d in zip(size, kernel, stride, pad, dilation, strict=True)
    ]
    if min(out) < 1:
        raise layer.error(
            "caffe-empty-output", f"the kernel {list(kernel)} is larger than the padded input of {size} pixels"
        )
    fan_in = channels // group * math.prod(kernel)
    wanted = [Blob("weight", (outputs, channels // group, *kernel), fan_in, layer.input_scale)]
    if layer.param.flag("bias_term", True):
        wanted.append(Blob("bias", (outputs,)))
    constants = [layer.constant(b.role, a) for b, a in zip(wanted, layer.blobs(*wanted), strict=True)]
    return [layer.node("Conv", [layer.inputs[0], *constants], (batch, outputs, *out), _attributes(*window, group))]


@emits("Deconvolution", param="convolution_param", fields=_FIELDS, ignored=_IGNORED)
def deconvolution(layer: Layer) -> Emitted:
    """Transposed convolution: out = stride (in - 1) + dilation (kernel - 1) + 1 - 2 pad."""
    batch, channels, *size = layer.image_shape()
    outputs = positive(layer, "num_output")
    kernel, stride, pad, dilation = window = _window(layer)
    group = _group(layer, channels, outputs)
    out = [
        t * (s - 1) + d * (k - 1) + 1 - 2 * p for s, k, t, p, d in zip(size, kernel, stride, pad, dilation, strict=True)
    ]
    if min(out) < 1:
        raise layer.error("caffe-empty-output", f"the output would have {out} pixels")
    fan_in = max(1, channels // group * math.prod(kernel) // math.prod(stride))
    wanted = [Blob("weight", (channels, outputs // group, *kernel), fan_in, layer.input_scale)]
    if layer.param.flag("bias_term", True):
        wanted.append(Blob("bias", (outputs,)))
    constants = [layer.constant(b.role, a) for b, a in zip(wanted, layer.blobs(*wanted), strict=True)]
    return [
        layer.node("ConvTranspose", [layer.inputs[0], *constants], (batch, outputs, *out), _attributes(*window, group))
    ]


@emits("InnerProduct", param="inner_product_param", fields="num_output bias_term axis transpose", ignored=_FILLERS)
def inner_product(layer: Layer) -> Emitted:
    """Matrix product over all dimensions from ``axis`` on."""
    shape = layer.shape()
    axis = layer.axis(layer.param.integer("axis", 1), len(shape))
    outputs = positive(layer, "num_output")
    transpose = layer.param.flag("transpose")
    inner = math.prod(shape[axis:])
    wanted = [Blob("weight", (inner, outputs) if transpose else (outputs, inner), inner, layer.input_scale)]
    if layer.param.flag("bias_term", True):
        wanted.append(Blob("bias", (outputs,)))
    weight, *bias = layer.blobs(*wanted)
    rows = math.prod(shape[:axis])
    flat = layer.reshaped(layer.inputs[0], (rows, inner), "flatten")
    constants = [layer.constant("weight", weight), *(layer.constant("bias", b) for b in bias)]
    product = layer.node("Gemm", [flat, *constants], (rows, outputs), {"transB": 0 if transpose else 1})
    return [layer.reshaped(product, (*shape[:axis], outputs), "unflatten")]
