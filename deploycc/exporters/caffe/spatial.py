"""Writing convolution, deconvolution, inner product, pooling and LRN."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.exporters.caffe.writer import Writer, constant, required, symmetric_pads, writes
from deploycc.parsers.caffe_layers import flattened_map, padded_mean


@writes("Conv", "ConvTranspose")
def convolution(writer: Writer, node: gs.Node) -> None:
    """Write Conv as Convolution, ConvTranspose as Deconvolution; both keep ONNX's weight layout."""
    weight, bias = required(node, 1), constant(node, 2)
    transposed = node.op == "ConvTranspose"
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
    top, left, bottom, right = node.attrs.get("pads", [0, 0, 0, 0])
    taps, pads = [(0, 0), (0, 0)], []
    for (before, after), step in zip(((top, bottom), (left, right)), dilation, strict=True):
        pad = max(before, after)
        taps.append(((pad - before) // step, (pad - after) // step))
        pads.append(pad)
    return np.pad(weight, taps) if any(map(any, taps)) else weight, pads[0], pads[1]


@writes("Gemm")
def inner_product(writer: Writer, node: gs.Node) -> None:
    """Write InnerProduct with weights [outputs, inputs]; it flattens a map itself, and TensorRT's must get the map."""
    weight, bias = required(node, 1), constant(node, 2)
    weight = weight if node.attrs.get("transB") else weight.T
    weight = np.ascontiguousarray(weight * np.float32(node.attrs.get("alpha", 1.0)))
    blobs = [weight]
    if bias is not None:
        full = np.broadcast_to(bias * np.float32(node.attrs.get("beta", 1.0)), (1, weight.shape[0]))
        blobs.append(np.ascontiguousarray(full.reshape(-1)))
    writer.layer(
        node.name,
        "InnerProduct",
        [flattened_map(node).name],
        [node.outputs[0].name],
        {"inner_product_param": {"num_output": weight.shape[0], "bias_term": bias is not None}},
        blobs,
    )


@writes("MaxPool", "AveragePool")
def pooling(writer: Writer, node: gs.Node) -> None:
    """Write Pooling with the padding before the map: Caffe derives that after it, and the rules refuse any other."""
    source, (pad_h, pad_w) = padded_mean(node) or (node.inputs[0], node.attrs.get("pads", [0, 0, 0, 0])[:2])
    kernel, stride = node.attrs["kernel_shape"], node.attrs.get("strides", [1, 1])
    writer.layer(
        node.name,
        "Pooling",
        [source.name],
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


@writes("Pad")
def padding(writer: Writer, node: gs.Node) -> None:
    """Write nothing: the rules let only padding through that belongs to an average, which states it."""


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


def _pool(maximum: bool) -> Any:
    from deploycc.exporters.caffe.prototxt import Enum

    return Enum("MAX" if maximum else "AVE")
