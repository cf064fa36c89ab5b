"""Writing convolution, deconvolution, inner product, pooling and LRN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.exporters.caffe.writer import Writer, constant, refuse, required, shape, symmetric_pads, writes


@writes("Conv", "ConvTranspose")
def convolution(writer: Writer, node: gs.Node) -> None:
    """Write Conv as Convolution, ConvTranspose as Deconvolution; both keep ONNX's weight layout."""
    weight, bias = required(node, 1), constant(node, 2)
    if weight.ndim != 4:
        refuse(node, f"it has {weight.ndim - 2} spatial axes; the layer has 2")
    transposed = node.op == "ConvTranspose"
    if any(node.attrs.get("output_padding", [0])) or "output_shape" in node.attrs:
        refuse(node, "Caffe has no parameter for output padding")
    stride_h, stride_w = node.attrs.get("strides", [1, 1])
    dilation = list(node.attrs.get("dilations", [1, 1]))
    if transposed:
        pad_h, pad_w = symmetric_pads(node)
    else:
        weight, pad_h, pad_w = _even_padding(node, weight, dilation)
    group = node.attrs.get("group", 1)
    parameters: dict[str, Any] = {
        "num_output": weight.shape[1] * group if transposed else weight.shape[0],
        "bias_term": bias is not None,
        "kernel_h": weight.shape[2],
        "kernel_w": weight.shape[3],
        "pad_h": pad_h,
        "pad_w": pad_w,
        "stride_h": stride_h,
        "stride_w": stride_w,
    }
    if group != 1:
        parameters["group"] = group
    if dilation != [1, 1]:
        parameters["dilation"] = dilation if len(set(dilation)) > 1 else dilation[0]
    writer.layer(
        node.name,
        "Deconvolution" if transposed else "Convolution",
        [node.inputs[0].name],
        [node.outputs[0].name],
        {"convolution_param": parameters},
        [weight] if bias is None else [weight, bias],
    )


def _even_padding(
    node: gs.Node, weight: NDArray[np.float32], dilation: list[int]
) -> tuple[NDArray[np.float32], int, int]:
    """Return (weights, pad_h, pad_w) with equal padding on both sides.

    Caffe has one number per axis. Padding (a, b) with kernel k equals padding m = max(a, b) with k between m - a zero
    taps before and m - b after it: every window reads the same values, and there are equally many windows. TensorFlow's
    SAME padding needs this.
    """
    if node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        refuse(node, "auto_pad is not resolved")
    top, left, bottom, right = node.attrs.get("pads", [0, 0, 0, 0])
    taps, pads = [(0, 0), (0, 0)], []
    for (before, after), step in zip(((top, bottom), (left, right)), dilation, strict=True):
        pad = max(before, after)
        if (pad - before) % step or (pad - after) % step:
            refuse(
                node,
                f"the sides of its padding {[top, left, bottom, right]} do not differ by a multiple of the dilation",
            )
        taps.append(((pad - before) // step, (pad - after) // step))
        pads.append(pad)
    return np.pad(weight, taps) if any(map(any, taps)) else weight, pads[0], pads[1]


@writes("Gemm")
def inner_product(writer: Writer, node: gs.Node) -> None:
    """Write InnerProduct with weights [outputs, inputs]."""
    weight, bias = required(node, 1), constant(node, 2)
    if node.attrs.get("transA"):
        refuse(node, "its data is transposed")
    weight = weight if node.attrs.get("transB") else weight.T
    weight = np.ascontiguousarray(weight * np.float32(node.attrs.get("alpha", 1.0)))
    blobs = [weight]
    if bias is not None:
        full = np.broadcast_to(bias * np.float32(node.attrs.get("beta", 1.0)), (1, weight.shape[0]))
        blobs.append(np.ascontiguousarray(full.reshape(-1)))
    writer.layer(
        node.name,
        "InnerProduct",
        [node.inputs[0].name],
        [node.outputs[0].name],
        {"inner_product_param": {"num_output": weight.shape[0], "bias_term": bias is not None}},
        blobs,
    )


@writes("MaxPool", "AveragePool")
def pooling(writer: Writer, node: gs.Node) -> None:
    """Write Pooling; Caffe rounds the output size up, so only sizes that follow its rule can be written."""
    pad_h, pad_w = symmetric_pads(node)
    kernel, stride = node.attrs["kernel_shape"], node.attrs.get("strides", [1, 1])
    if list(node.attrs.get("dilations", [1, 1])) != [1, 1] or len(node.outputs) > 1:
        refuse(node, "Caffe has no parameter for dilated pooling or pooling with indices")
    padded = (pad_h, pad_w) != (0, 0)
    if node.op == "AveragePool" and padded and not node.attrs.get("count_include_pad", 0):
        refuse(node, "its average excludes padding; Caffe's counts it")
    _, _, *size = shape(node, node.inputs[0])
    _, _, *expected = shape(node, node.outputs[0])
    caffe = [_caffe_pooled(n, k, s, p) for n, k, s, p in zip(size, kernel, stride, (pad_h, pad_w), strict=True)]
    if caffe != list(expected):
        refuse(node, f"its output is {list(expected)}; Caffe's rounding gives {caffe}")
    writer.layer(
        node.name,
        "Pooling",
        [node.inputs[0].name],
        [node.outputs[0].name],
        {
            "pooling_param": {
                "pool": _pool(node.op == "MaxPool"),
                "kernel_h": kernel[0],
                "kernel_w": kernel[1],
                "stride_h": stride[0],
                "stride_w": stride[1],
                "pad_h": pad_h,
                "pad_w": pad_w,
            }
        },
    )


@writes("GlobalMaxPool", "GlobalAveragePool")
def global_pooling(writer: Writer, node: gs.Node) -> None:
    """Write Pooling over the whole map."""
    parameters = {"pool": _pool(node.op == "GlobalMaxPool"), "global_pooling": True}
    writer.layer(node.name, "Pooling", [node.inputs[0].name], [node.outputs[0].name], {"pooling_param": parameters})


@writes("LRN")
def local_response(writer: Writer, node: gs.Node) -> None:
    """Write LRN across channels; ONNX and Caffe both divide alpha by the window."""
    parameters = {
        "local_size": node.attrs["size"],
        "alpha": float(node.attrs.get("alpha", 1e-4)),
        "beta": float(node.attrs.get("beta", 0.75)),
        "k": float(node.attrs.get("bias", 1.0)),
    }
    writer.layer(node.name, "LRN", [node.inputs[0].name], [node.outputs[0].name], {"lrn_param": parameters})


def _caffe_pooled(size: int, kernel: int, stride: int, pad: int) -> int:
    """Return the output size by Caffe's rule (pooling_layer.cpp): round up, but no window starts in the far padding."""
    pooled = math.ceil((size + 2 * pad - kernel) / stride) + 1
    if pad and (pooled - 1) * stride >= size + pad:
        pooled -= 1
    return pooled


def _pool(maximum: bool) -> Any:
    from deploycc.exporters.caffe.prototxt import Enum

    return Enum("MAX" if maximum else "AVE")
