"""Pooling with Caffe's ceil rule, and LRN."""

from __future__ import annotations

from deploycc.importers.caffe.layer import Emitted, Layer, emits
from deploycc.importers.caffe.layers_convolution import pair, positive


@emits(
    "Pooling",
    param="pooling_param",
    fields="pool global_pooling kernel_size kernel_h kernel_w stride stride_h stride_w pad pad_h pad_w round_mode "
    "ceil_mode",
)
def pooling(layer: Layer) -> Emitted:
    """Max and average pooling.

    Caffe rounds the output up, then drops a last window that would start in the padding after the picture
    (PoolingLayer::Reshape). An average divides by the size of the window clipped to the *padded* picture: zeros of the
    padding count, positions beyond the padding do not (PoolingLayer::Forward_cpu).
    """
    method = layer.param.choice("pool", {"MAX": 0, "AVE": 1, "STOCHASTIC": 2}, "MAX")
    if method == "STOCHASTIC":
        raise layer.unsupported("pool STOCHASTIC", "MAX and AVE are supported")
    batch, channels, *size = layer.image_shape()
    if layer.param.flag("global_pooling"):
        if any(name in layer.param for name in ("kernel_size", "kernel_h", "kernel_w")):
            raise layer.error("caffe-wrong-value", "global_pooling takes no kernel size")
        pair(layer, "stride", "stride_h", "stride_w", 1, 1)  # read to mark it as known; it does not change the result
        if pair(layer, "pad", "pad_h", "pad_w", 0, 0) != (0, 0):
            raise layer.error("caffe-wrong-value", "global_pooling takes no padding")
        op = "GlobalMaxPool" if method == "MAX" else "GlobalAveragePool"
        return [layer.node(op, layer.inputs, (batch, channels, 1, 1))]
    kernel = pair(layer, "kernel_size", "kernel_h", "kernel_w", 0, 1)
    stride = pair(layer, "stride", "stride_h", "stride_w", 1, 1)
    pad = pair(layer, "pad", "pad_h", "pad_w", 0, 0)
    if pad[0] >= kernel[0] or pad[1] >= kernel[1]:
        raise layer.error("caffe-wrong-value", f"pad {list(pad)} must be smaller than the kernel {list(kernel)}")
    round_up = layer.param.choice("round_mode", {"CEIL": 0, "FLOOR": 1}, "CEIL") == "CEIL"
    round_up = layer.param.flag("ceil_mode", round_up)  # OpenVINO's and OpenCV's spelling
    out, after = [], []
    for s, k, t, p in zip(size, kernel, stride, pad, strict=True):
        span = s + 2 * p - k
        count = (-(-span // t) if round_up else span // t) + 1
        if any(pad) and (count - 1) * t >= s + p:
            count -= 1
        if span < 0 or (count - 1) * t - p >= s:
            raise layer.error(
                "caffe-empty-output", f"a window of {list(kernel)} lies outside the input of {size} pixels"
            )
        out.append(count)
        after.append(max(0, (count - 1) * t + k - s - p))  # padding that the last window needs after the picture
    shape = (batch, channels, *out)
    attrs: dict[str, object] = {"kernel_shape": list(kernel), "strides": list(stride)}
    extra: dict[str, object]
    if method == "MAX":
        # Without padding ONNX, TensorRT and Caffe round up alike; with padding only explicit pads mean the same.
        extra = {"ceil_mode": 1} if not any(pad) and any(after) else {"pads": [*pad, *after]}
        return [layer.node("MaxPool", layer.inputs, shape, attrs | extra)]
    if not any(pad):
        extra = {"ceil_mode": 1} if any(after) else {}
        return [layer.node("AveragePool", layer.inputs, shape, attrs | extra)]
    if all(b <= p for b, p in zip(after, pad, strict=True)):
        # No window reaches beyond the padding. Padding that the last window does not need is dropped.
        extra = {"pads": [*pad, *after], "count_include_pad": 1}
        return [layer.node("AveragePool", layer.inputs, shape, attrs | extra)]
    # A window reaches beyond the padding: make the padding part of the picture, and do not count what lies beyond.
    zeros = [layer.integers("pads", [0, 0, *pad, 0, 0, *pad])]
    padded = [batch, channels, *(s + 2 * p for s, p in zip(size, pad, strict=True))]
    wide = layer.node("Pad", [layer.inputs[0], *zeros], padded, {"mode": "constant"})
    beyond = [max(0, b - p) for b, p in zip(after, pad, strict=True)]
    return [layer.node("AveragePool", [wide], shape, attrs | {"pads": [0, 0, *beyond], "count_include_pad": 0})]


@emits("LRN", param="lrn_param", fields="local_size alpha beta k norm_region")
def local_response_normalisation(layer: Layer) -> Emitted:
    """Divide by the magnitude of neighbouring values.

    Across channels: x / (k + alpha/n sum x^2)^beta over n channels. Within a channel, over an n x n
    window: x (1 + alpha mean x^2)^-beta.
    """
    size = positive(layer, "local_size", 5)
    alpha, beta = layer.param.number("alpha", 1.0), layer.param.number("beta", 0.75)
    bias = layer.param.number("k", 1.0)
    if size % 2 == 0:
        raise layer.error("caffe-wrong-value", f"local_size is {size}, but must be odd")
    x, shape = layer.inputs[0], layer.image_shape()
    region = layer.param.choice("norm_region", {"ACROSS_CHANNELS": 0, "WITHIN_CHANNEL": 1}, "ACROSS_CHANNELS")
    if region == "ACROSS_CHANNELS":
        return [layer.node("LRN", [x], shape, {"size": size, "alpha": alpha, "beta": beta, "bias": bias})]
    if bias != 1.0:
        raise layer.unsupported("k other than 1 within a channel", "Caffe uses 1 there and ignores k")
    square = layer.node("Mul", [x, x], shape, part="square")
    margin = size // 2
    mean = layer.node(
        "AveragePool",
        [square],
        shape,
        {"kernel_shape": [size, size], "strides": [1, 1], "pads": [margin] * 4, "count_include_pad": 1},
        part="mean",
    )
    scaled = layer.node("Mul", [mean, layer.scalar("alpha", alpha)], shape, part="scale")
    shifted = layer.node("Add", [scaled, layer.scalar("one", 1.0)], shape, part="shift")
    power = layer.node("Pow", [shifted, layer.scalar("exponent", -beta)], shape, part="power")
    return [layer.node("Mul", [x, power], shape, part="apply")]
