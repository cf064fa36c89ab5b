"""TensorRT's Caffe parser refuses what its layers cannot compute."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from parser_networks import X, network

from deploycc.parsers.support import refusals
from deploycc.target import contract, load

CAFFE = contract(load("drive-px2-igpu"))

CAFFE_CASES = {
    "plain layers": (
        f"{X} => (float[1,64] z) <float[2,4,3,3] w, float[2] b, float[64,32] v>"
        " { a = Conv <pads=[1,1,1,1], strides=[2,2]> (x, w, b)  r = Relu (a)  f = Flatten (r)"
        " z = Gemm <transB=1> (f, v) }",
        None,
    ),
    "dilation without padding": (
        f"{X} => (float[1,4,4,4] y) <float[4,4,3,3] w> {{ y = Conv <dilations=[2,2]> (x, w) }}",
        None,
    ),
    "asymmetric padding of a convolution": (
        f"{X} => (float[1,4,4,4] y) <float[4,4,3,3] w> {{ y = Conv <pads=[0,0,1,1], strides=[2,2]> (x, w) }}",
        None,
    ),
    "asymmetric padding of a pooling that rounding up implies": (
        f"{X} => (float[1,4,4,4] y) {{ y = MaxPool <kernel_shape=[3,3], pads=[0,0,1,1], strides=[2,2]> (x) }}",
        None,
    ),
    "padding of a pooling that rounding up exceeds": (
        f"{X} => (float[1,4,5,5] y) {{ y = MaxPool <kernel_shape=[3,3], pads=[1,1,2,2], strides=[2,2]> (x) }}",
        None,
    ),
    "asymmetric padding of a pooling": (
        f"{X} => (float[1,4,7,7] y) {{ y = MaxPool <kernel_shape=[3,3], pads=[0,0,1,1]> (x) }}",
        "its output is [7, 7] with the padding [0, 0, 1, 1]; Caffe's rounding gives [6, 6]",
    ),
    "average with more padding after the map": (
        f"{X} => (float[1,4,4,4] y)"
        " { y = AveragePool <kernel_shape=[3,3], pads=[0,0,1,1], strides=[2,2], count_include_pad=1> (x) }",
        "counts more padding after the map",
    ),
    "average with less padding after the map": (
        f"{X} => (float[1,4,4,4] y)"
        " { y = AveragePool <kernel_shape=[2,2], pads=[1,1,0,0], strides=[2,2], count_include_pad=1> (x) }",
        "Caffe's rounding gives [5, 5]",
    ),
    "average beyond its padding": (
        f"{X} => (float[1,4,5,5] y) <int64[8] p = {{0,0,1,1,0,0,1,1}}>"
        " { d = Pad (x, p)  y = AveragePool <kernel_shape=[3,3], strides=[2,2], pads=[0,0,1,1]> (d) }",
        "its last windows reach beyond the padding",
    ),
    "padding on its own": (
        f"{X} => (float[1,4,10,10] y) <int64[8] p = {{0,0,1,1,0,0,1,1}}> {{ y = Pad (x, p) }}",
        "Caffe has no layer for the operator Pad",
    ),
    "Slice of rows": (
        f"{X} => (float[1,4,4,8] y) <int64[1] s = {{0}}, int64[1] e = {{4}}, int64[1] a = {{2}}>"
        " { y = Slice (x, s, e, a) }",
        None,
    ),
    "Slice of two axes": (
        f"{X} => (float[1,4,4,4] y) <int64[2] s = {{0,0}}, int64[2] e = {{4,4}}, int64[2] a = {{2,3}}>"
        " { y = Slice (x, s, e, a) }",
        "slices 2 axes",
    ),
    "Slice of every second": (
        f"{X} => (float[1,4,4,8] y) <int64[1] s = {{0}}, int64[1] e = {{8}}, int64[1] a = {{2}}, int64[1] t = {{2}}>"
        " { y = Slice (x, s, e, a, t) }",
        "only a range",
    ),
    "PRelu": (f"{X} => (float[1,4,8,8] y) <float[4,1,1] s> {{ y = PRelu (x, s) }}", "PReLU is not in the oldest"),
    "Resize": (
        f"{X} => (float[1,4,16,16] y) <float[4] s = {{1,1,2,2}}> {{ y = Resize (x, , s) }}", "computes Resize",
    ),
    "difference of tensors": (
        "(float[1,4,8,8] x, float[1,4,8,8] z) => (float[1,4,8,8] y) { y = Sub (x, z) }", None,
    ),
    "difference of a tensor and a number": (
        f"{X} => (float[1,4,8,8] y) <float c = {{1}}> {{ y = Sub (x, c) }}", None,
    ),
    "three-way maximum": (
        "(float[1,4,8,8] x, float[1,4,8,8] z) => (float[1,4,8,8] y) { a = Relu (z)  y = Max (x, z, a) }",
        "exactly two",
    ),
    "average without padding": (
        f"{X} => (float[1,4,8,8] y) {{ y = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1]> (x) }}", "Caffe's counts it",
    ),
    "computed statistics": (
        "(float[1,4,8,8] x, float[4] a) => (float[1,4,8,8] y) <float[4] s = {1,1,1,1}>"
        " { m = Relu (a)  y = BatchNormalization (x, s, s, m, s) }",
        "statistics are computed",
    ),
    "batch moved": (f"{X} => (float[4,1,8,8] y) {{ y = Transpose <perm=[1,0,2,3]> (x) }}", "moves the batch axis"),
    "batch kept": (f"{X} => (float[1,8,8,4] y) {{ y = Transpose <perm=[0,2,3,1]> (x) }}", None),
    "batch changed": (
        f"{X} => (float[4,64] y) <int64[2] s = {{4,64}}> {{ y = Reshape (x, s) }}", "changes the batch axis",
    ),
    "softmax of a batch": ("(float[4,3] x) => (float[4,3] y) { y = Softmax <axis=0> (x) }", "supports 1 to 3"),
    "softmax from the end": ("(float[1,9,3] x) => (float[1,9,3] y) { y = Softmax <axis=-1> (x) }", None),
    "computed exponent": (
        "(float[1,4] x, float[1,4] z) => (float[1,4] y) { y = Pow (x, z) }", "one constant exponent",
    ),
    "sum of channels": (f"{X} => (float[1,1,8,8] y) <int64[1] a = {{1}}> {{ y = ReduceSum (x, a) }}", None),
    "sum of rows": (
        f"{X} => (float[1,4,1,8] y) <int64[1] a = {{2}}> {{ y = ReduceSum (x, a) }}", "only the channel axis of a map",
    ),
    "one number per channel, computed": (
        "(float[1,4,8,8] x, float[1,4,1,1] s) => (float[1,4,8,8] y) { y = Mul (x, s) }", "Scale with two bottoms",
    ),
    "one constant per position": (
        f"{X} => (float[1,4,8,8] y) <float[4,8,8] s> {{ y = Mul (x, s) }}", "more than one value per channel",
    ),
    "inner product after inner product": (
        f"{X} => (float[1,2] z) <float[8,256] v, float[2,8] w> {{ f = Flatten (x)  a = Gemm <transB=1> (f, v)"
        " b = Sigmoid (a)  n = Neg (b)  z = Gemm <transB=1> (n, w) }",
        None,
    ),
    "inner product of a row": (
        "(float[1,8] x) => (float[1,2] z) <float[2,8] w> { z = Gemm <transB=1> (x, w) }", "needs a map",
    ),
    "scale of a list": ("(float[1,9,4] x) => (float[1,9,4] y) { y = Neg (x) }", "needs three"),
    "dilated deconvolution": (
        f"{X} => (float[1,4,10,10] y) <float[4,4,2,2] w> {{ y = ConvTranspose <dilations=[2,2]> (x, w) }}",
        "dilated deconvolution",
    ),
    "integers": ("(int32[1,4] x) => (int32[1,4] y) { y = Abs (x) }", "blobs are FP32"),
}  # fmt: skip


@pytest.mark.parametrize("case", CAFFE_CASES)
def test_caffe_layers_of_tensorrt(case: str) -> None:
    body, reason = CAFFE_CASES[case]
    found = refusals(filled(body), CAFFE)
    assert len(found) == len(set(found))
    if reason is None:
        assert found == []
    else:
        assert any(reason in refusal.reason for refusal in found), found


def filled(body: str) -> gs.Graph:
    """Return a network in which weights given only by their shape are zeros."""
    head, _, rest = body.partition("<")
    declared, _, nodes = rest.partition("> {")
    shapes = [item for item in declared.replace(">", "").split(", ") if nodes and "=" not in item]
    inputs = head.rpartition(") =>")[0]
    if not shapes:
        return network(body)
    kept = [item for item in declared.split(", ") if "=" in item]
    values = f"<{', '.join(kept)}>" if kept else ""
    graph = network(f"{inputs}, {', '.join(shapes)}) =>{head.rpartition(') =>')[2]} {values} {{{nodes}")
    for tensor in graph.inputs[len(graph.inputs) - len(shapes) :]:
        tensor.to_constant(np.zeros(tensor.shape, np.float32))
    graph.inputs = graph.inputs[: len(graph.inputs) - len(shapes)]
    return graph
