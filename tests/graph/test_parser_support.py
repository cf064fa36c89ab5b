"""What each parser refuses, on networks small enough to read; held against the real TensorRT-RTX where it is installed."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from deploycc.graph.parser_support import Contract, Refusal, refusals
from deploycc.graph.tensorrt_releases import LATEST, PARSERS, dotted, first_with, numbers, parser_of
from deploycc.target import capabilities, contract, load, names

RTX = contract(load("x86-rtx"))
CPU = contract(load("x86-cpu"))
CAFFE = contract(load("drive-px2-igpu"))


def network(body: str, opset: int = 13, ir: int = 3) -> gs.Graph:
    return gs.import_onnx(model(body, opset, ir))


def model(body: str, opset: int = 13, ir: int = 8) -> onnx.ModelProto:
    """ONNX text of one graph, ``(inputs) => (outputs) <initialisers> { nodes }``."""
    parsed = onnx.parser.parse_model(f'<ir_version: {ir}, opset_import: ["" : {opset}, "nowhere" : 1, "com.microsoft" : 1]> g {body}')
    return onnx.shape_inference.infer_shapes(parsed)


def tensorrt(version: str) -> Contract:
    """The ONNX parser of a release without its limit on opset and IR, so that a rule stands alone."""
    return Contract("tensorrt-onnx", numbers(version), max_opset=99, max_ir=99, int64=numbers(version) >= (9, 0))


X = "(float[1,4,8,8] x)"
HELD = "<int64[1] k = {2}, float[1] lo = {0}, float[1] hi = {6}>"

# name: (network, opset, a piece of the reason, last release that refuses, first that takes it; "" = none does)
RULES: dict[str, tuple[str, int, str, str, str]] = {
    "unknown operator": (f"{X} => (float[1,4,8,8] y) {{ y = Det2 (x) }}", 13, "has the operator Det2", "11.1", ""),
    "never supported": ("(int32[4] x) => (int32[4] y) { y = BitwiseNot (x) }", 18, "BitwiseNot", "11.1", ""),
    "HardSwish": (f"{X} => (float[1,4,8,8] y) {{ y = HardSwish (x) }}", 14, "no importer for HardSwish", "8.2", "8.4"),
    "PRelu": (
        f"{X} => (float[1,4,8,8] y) <float[1] s = {{0.1}}> {{ y = PRelu (x, s) }}",
        9, "no importer for PRelu", "5.1", "6.0",
    ),
    "LayerNormalization": (
        "(float[1,4] x) => (float[1,4] y) <float[4] s = {1,1,1,1}> { y = LayerNormalization (x, s) }",
        17, "no importer", "8.5", "8.6",
    ),
    "plugin before its release": (
        "(float[1,9,4] b, float[1,9,2] s) => (int32[1,1] n, float[1,5,4] r, float[1,5] p, int32[1,5] c)"
        " { n, r, p, c = EfficientNMS_TRT (b, s) }",
        13, "comes with TensorRT 8.0", "7.2", "8.0",
    ),
    "plugin before plugins can be named": (
        f"{X} => (float[1,4,8,8] y) {{ y = Normalize_TRT (x) }}", 11, "plugins cannot be named", "7.0", "7.1",
    ),
    "plugin after its removal": (
        f"{X} => (float[1,4,8,8] y) {{ y = NMS_TRT (x) }}", 13, "10.16 was the last", "11.1", "",
    ),
    "plugin attribute": (
        "(float[1,9,4] b, float[1,9,2] s) => (int32[1,1] n, float[1,5,4] r, float[1,5] p, int32[1,5] c)"
        " { n, r, p, c = EfficientNMS_TRT <class_agnostic=0> (b, s) }",
        13, "class_agnostic does not exist", "8.5", "8.6",
    ),
    "3-D convolution": (
        "(float[1,1,4,4,4] x) => (float[1,1,4,4,4] y) <float[1,1,1,1,1] w = {1}> { y = Conv (x, w) }",
        9, "it is 3-D", "5.1", "6.0",
    ),
    "1-D convolution": (
        "(float[1,1,4] x) => (float[1,1,4] y) <float[1,1,1] w = {1}> { y = Conv (x, w) }", 11, "it is 1-D", "8.4", "8.5",
    ),
    "4-D convolution": (
        "(float[1,1,2,2,2,2] x) => (float[1,1,2,2,2,2] y) <float[1,1,1,1,1,1] w = {1}> { y = Conv (x, w) }",
        13, "6 axes", "11.1", "",
    ),
    "computed weights": (
        "(float[1,1,4,4] x, float[1,1,1,1] v) => (float[1,1,4,4] y) { w = Relu (v)  y = Conv (x, w) }",
        13, "weights are computed", "8.4", "8.5",
    ),
    "pool indices": (
        f"{X} => (float[1,4,4,4] y, int64[1,4,4,4] i)"
        " { y, i = MaxPool <kernel_shape=[2,2], strides=[2,2]> (x) }",
        12, "Indices output", "11.1", "",
    ),
    "dilated pool": (
        f"{X} => (float[1,4,6,6] y) {{ y = MaxPool <kernel_shape=[2,2], dilations=[2,2]> (x) }}",
        12, "dilations are [2, 2]", "11.1", "",
    ),
    "Clip with inputs": (f"{X} => (float[1,4,8,8] y) {HELD} {{ y = Clip (x, lo, hi) }}", 11, "opset 11", "6.0", "7.0"),
    "Clip with computed bounds": (
        "(float[1,4,8,8] x, float v) => (float[1,4,8,8] y) { b = Relu (v)  y = Clip (x, b) }",
        13, "min or max is computed", "8.0", "8.2",
    ),
    "reflecting Pad": (
        f"{X} => (float[1,4,10,10] y) <int64[8] p = {{0,0,1,1,0,0,1,1}}> {{ y = Pad <mode=\"reflect\"> (x, p) }}",
        13, "mode 'reflect'", "8.0", "8.2",
    ),
    "Pad with a value": (
        f"{X} => (float[1,4,10,10] y) <int64[8] p = {{0,0,1,1,0,0,1,1}}, float v = {{1}}> {{ y = Pad (x, p, v) }}",
        13, "value 1", "8.0", "8.2",
    ),
    "Pad of channels": (
        f"{X} => (float[1,6,8,8] y) <int64[8] p = {{0,1,0,0,0,1,0,0}}> {{ y = Pad (x, p) }}",
        13, "pads axis 1", "7.2", "8.0",
    ),
    "Pad of three axes": (
        f"{X} => (float[1,6,10,10] y) <int64[8] p = {{0,1,1,1,0,1,1,1}}> {{ y = Pad (x, p) }}",
        13, "pads 3 axes", "8.0", "8.2",
    ),
    "TopK with computed K": (
        "(float[1,9] x, int64[1] k) => (float[1,n] y, int64[1,n] i) { j = Identity (k)  y, i = TopK (x, j) }",
        13, "K is computed", "8.5", "8.6",
    ),
    "large TopK": (
        "(float[1,8732] x) => (float[1,4000] y, int64[1,4000] i) <int64[1] k = {4000}> { y, i = TopK (x, k) }",
        13, "at most 3839", "11.1", "",
    ),
    "ReduceSum with axes": (
        f"{X} => (float[1,4,1,8] y) {HELD} {{ y = ReduceSum (x, k) }}", 13, "axes are an input", "7.2", "8.0",
    ),
    "computed reduction axes": (
        "(float[1,4,8,8] x, int64[1] a) => (float y) { b = Identity (a)  y = ReduceSum (x, b) }",
        13, "axes are computed", "11.1", "",
    ),
    "Unsqueeze with axes": (
        f"{X} => (float[1,4,1,8,8] y) {HELD} {{ y = Unsqueeze (x, k) }}", 13, "axes are an input", "7.1", "7.2",
    ),
    "Split with sizes": (
        f"{X} => (float[1,2,8,8] y, float[1,2,8,8] z) <int64[2] s = {{2,2}}> {{ y, z = Split <axis=1> (x, s) }}",
        13, "split sizes are an input", "7.1", "7.2",
    ),
    "Slice with inputs": (
        f"{X} => (float[1,4,8,8] y) <int64[1] s = {{0}}, int64[1] e = {{8}}, int64[1] a = {{2}}>"
        " { y = Slice (x, s, e, a) }",
        10, "starts and ends are inputs", "5.1", "6.0",
    ),
    "half-pixel Resize": (
        f"{X} => (float[1,4,16,16] y) <float[4] s = {{1,1,2,2}}>"
        " { y = Resize <mode=\"linear\", coordinate_transformation_mode=\"half_pixel\"> (x, , s) }",
        13, "coordinate mode is half_pixel", "7.2", "8.0",
    ),
    "rounding Resize": (
        f"{X} => (float[1,4,16,16] y) <float[4] s = {{1,1,2,2}}>"
        " { y = Resize <mode=\"nearest\", coordinate_transformation_mode=\"asymmetric\"> (x, , s) }",
        13, "nearest mode is round_prefer_floor", "7.2", "8.0",
    ),
    "cropping Resize": (
        f"{X} => (float[1,4,16,16] y) <float[8] r = {{0,0,0,0,1,1,1,1}}, float[4] s = {{1,1,2,2}}>"
        " { y = Resize <mode=\"linear\", coordinate_transformation_mode=\"tf_crop_and_resize\"> (x, r, s) }",
        13, "tf_crop_and_resize", "11.1", "",
    ),
    "If before conditionals": (
        "(float[1,4,8,8] x, bool c) => (float[1,4,8,8] y) { y = If (c) <"
        "then_branch = t () => (float[1,4,8,8] p) { p = Relu (x) },"
        "else_branch = e () => (float[1,4,8,8] q) { q = Neg (x) }> }",
        13, "condition is computed", "7.2", "8.0",
    ),
    "If of two shapes": (
        "(float[1,4,8,8] x, bool c) => (float[1,n,8,8] y) <int64[1] a = {1}, int64[1] s = {0}, int64[1] k = {2}>"
        " { y = If (c) <"
        "then_branch = t () => (float[1,4,8,8] p) { p = Relu (x) },"
        "else_branch = e () => (float[1,2,8,8] q) { m = Neg (x)  q = Slice (m, s, k, a) }> }",
        13, "the shapes must be equal", "10.10", "10.11",
    ),
    "If of two ranks": (
        "(float[1,4,8,8] x, bool c) => (float y) { y = If (c) <"
        "then_branch = t () => (float[1,4,8,8] p) { p = Relu (x) },"
        "else_branch = e () => (float[1,256] q) { q = Flatten (x) }> }",
        13, "the ranks must be equal", "11.1", "",
    ),
    "If with one name": (
        "(float[1,4,8,8] x, bool c) => (float[1,4,8,8] y) { y = If (c) <"
        "then_branch = t () => (float[1,4,8,8] p) { p = Relu (x) },"
        "else_branch = e () => (float[1,4,8,8] p) { p = Neg (x) }> }",
        13, "name their output p", "8.4", "8.5",
    ),
    "padded NonMaxSuppression": (
        "(float[1,9,4] b, float[1,2,9] s) => (int64[n,3] y) <int64 k = {5}, float i = {0.5}, float t = {0.1}>"
        " { y = NonMaxSuppression (b, s, k, i, t) }",
        11, "padded to max_output_boxes_per_class", "8.4", "8.5",
    ),
    "negative Gather": (
        "(float[3,4] x) => (float[1,4] y) <int64[1] i = {-1}> { y = Gather (x, i) }", 11, "negative indices", "8.0", "8.2",
    ),
    "adding ScatterND": (
        "(float[4] x, float[1] u) => (float[4] y) <int64[1,1] i = {0}> { y = ScatterND <reduction=\"add\"> (x, i, u) }",
        16, "reduction is 'add'", "11.1", "",
    ),
    "Einsum with a diagonal": (
        "(float[4,4] x) => (float[4] y) { y = Einsum <equation=\"ii->i\"> (x) }", 12, "a diagonal", "10.11", "10.12",
    ),
    "LayerNormalization's mean": (
        "(float[1,4] x) => (float[1,4] y, float[1,1] m) <float[4] s = {1,1,1,1}> { y, m = LayerNormalization (x, s) }",
        17, "only its first output", "11.1", "",
    ),
    "computed InstanceNormalization": (
        "(float[1,2,4,4] x, float[2] a, float[2] b) => (float[1,2,4,4] y)"
        " { c = Relu (a)  y = InstanceNormalization (x, c, b) }",
        11, "scale or bias is computed", "8.5", "8.6",
    ),
    "training Dropout": (
        f"{X} => (float[1,4,8,8] y) <bool t = {{1}}> {{ y = Dropout (x, , t) }}", 13, "it trains", "11.1", "",
    ),
    "training BatchNormalization": (
        "(float[1,2,4,4] x) => (float[1,2,4,4] y, float[2] m, float[2] v)"
        " <float[2] s = {1,1}, float[2] b = {0,0}, float[2] p = {0,0}, float[2] q = {1,1}>"
        " { y, m, v = BatchNormalization <training_mode=1> (x, s, b, p, q) }",
        15, "it trains", "11.1", "",
    ),
    "asymmetric quantisation": (
        f"{X} => (uint8[1,4,8,8] y) <float s = {{0.1}}, uint8 z = {{3}}> {{ y = QuantizeLinear (x, s, z) }}",
        13, "zero point is not zero", "11.1", "",
    ),
    "computed OneHot depth": (
        "(int64[3] x, int64 v) => (float y) <float[2] z = {0,1}> { d = Identity (v)  y = OneHot (x, d, z) }",
        11, "depth is computed", "11.1", "",
    ),
    "L3 pool": (
        f"{X} => (float[1,4,7,7] y) {{ y = LpPool <kernel_shape=[2,2], p=3> (x) }}", 11, "only L1 and L2", "11.1", "",
    ),
    "Cast before 7.0": ("(float[4] x) => (int32[4] y) { y = Cast <to=6> (x) }", 9, "only casts to FP32", "6.0", "7.0"),
    "DOUBLE": ("(float[4] x) => (double[4] y) { y = Cast <to=11> (x) }", 11, "DOUBLE", "7.1", "7.2"),
    "BOOL": ("(float[4] x) => (bool[4] y) { y = Cast <to=9> (x) }", 9, "BOOL", "6.0", "7.0"),
    "INT16": ("(int16[4] x) => (int16[4] y) { y = Identity (x) }", 13, "no type for", "11.1", ""),
    "INT64 output": ("(float[4] x) => (int64[4] y) { y = Cast <to=7> (x) }", 13, "binding differs", "8.6", "9.0"),
    "INT64 beyond INT32": (
        "(float[4] x) => (float[4] y) <int64[1] c = {4294967296}> { d = Cast <to=1> (c)  y = Add (x, d) }",
        13, "clamped to INT32", "8.6", "9.0",
    ),
    "INT8 arithmetic": ("(int8[4] x) => (int8[4] y) { y = Add (x, x) }", 14, "computes in INT8", "11.1", ""),
    "reduced BOOL": ("(bool[4] x) => (bool[1] y) { y = ReduceMax (x) }", 20, "it reduces BOOL", "11.1", ""),
    "dynamic input": ("(float[n,4] x) => (float[n,4] y) { y = Relu (x) }", 13, "is dynamic", "11.1", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", RULES)
def test_a_rule_refuses_up_to_the_release_that_takes_it(case: str) -> None:
    body, opset, reason, refusing, first = RULES[case]
    graph = network(body, opset)
    found = [r for r in refusals(graph, tensorrt(refusing)) if reason in r.reason]
    assert found, refusals(graph, tensorrt(refusing))
    if not first:
        assert {r.first_release for r in found} == {None}
        return
    assert {r.first_release for r in found} == {first}
    assert not [r for r in refusals(graph, tensorrt(first)) if reason in r.reason]


@pytest.mark.parametrize("case", RULES)
def test_a_refusal_names_a_node_or_tensor_of_the_network(case: str) -> None:
    body, opset, _, refusing, _ = RULES[case]
    graph = network(body, opset)
    known = {tensor.name for tensor in graph.tensors().values()} | {node.name for node in graph.nodes}
    for refusal in refusals(graph, tensorrt(refusing)):
        assert refusal.node in known
        assert refusal.reason


def test_every_refused_node_is_named_not_only_the_first() -> None:
    graph = network(f"{X} => (float[1,4,8,8] y) {{ a = HardSwish (x)  b = Relu (a)  y = HardSwish (b) }}", 14)
    assert [r.node for r in refusals(graph, tensorrt("8.0"))] == ["a", "y"]


def test_nodes_inside_branches_are_named() -> None:
    body = (
        "(float[4] x, bool c) => (float[4] y) { y = If (c) <"
        "then_branch = t () => (float[4] p) { p = HardSwish (x) },"
        "else_branch = e () => (float[4] q) { q = Relu (x) }> }"
    )
    assert [(r.node, r.op) for r in refusals(network(body, 14), tensorrt("8.2"))] == [("p", "HardSwish")]


def test_a_constant_condition_is_taken_from_7_1_on() -> None:
    body = (
        "(float[4] x) => (float[4] y) <bool[1] c = {1}> { y = If (c) <"
        "then_branch = t () => (float[4] p) { p = Relu (x) },"
        "else_branch = e () => (float[4] q) { q = Neg (x) }> }"
    )
    assert refusals(network(body), tensorrt("7.1")) == []
    assert [r.first_release for r in refusals(network(body), tensorrt("7.0"))] == ["7.1"]


def test_a_constant_node_counts_as_an_initialiser() -> None:
    body = f"{X} => (float[1,4,1,8] y) {{ a = Constant <value = int64[1] {{2}}> ()  y = ReduceSum (x, a) }}"
    assert refusals(network(body), tensorrt("8.0")) == []


def test_slicing_to_the_end_with_the_largest_int64_is_no_overflow() -> None:
    body = (
        f"{X} => (float[1,4,8,8] y) <int64[1] s = {{0}}, int64[1] e = {{9223372036854775807}}, int64[1] a = {{2}}>"
        " { y = Slice (x, s, e, a) }"
    )
    assert refusals(network(body), tensorrt("8.2")) == []


def test_opset_and_ir_above_the_stated_ones_are_refused_with_the_release_that_states_them() -> None:
    graph = network(f"{X} => (float[1,4,8,8] y) {{ y = Relu (x) }}", opset=17, ir=8)
    found = refusals(graph, contract(load("jetson-tx2-jp461")))
    assert [(r.op, r.first_release) for r in found] == [("opset", "8.4"), ("ir", "8.4")]
    assert "up to 13" in found[0].reason
    assert refusals(graph, contract(load("jetson-xavier-jp512"))) == []


def test_an_unknown_version_is_read_as_the_oldest_release() -> None:
    graph = network(f"{X} => (float[1,4,8,8] y) <float[1] s = {{0.1}}> {{ y = PRelu (x, s) }}", 9)
    assert refusals(graph, Contract("tensorrt-onnx")) == [
        Refusal("y", "PRelu", "TensorRT 5.0 has no importer for PRelu", "6.0")
    ]


@pytest.mark.parametrize(
    ("body", "opset", "reason"),
    [
        ("(float[4] x) => (float[4] y) { y = nowhere.Relu (x) }", 13, "its domain 'nowhere'"),
        ("(float[4] x) => (float[4] y) { y = Blur (x) }", 13, "ONNX has no operator Blur"),
        ("(float[4] x) => (float[4] y) { y = HardSwish (x) }", 13, "does not exist in opset 13"),
        ("(float[4] x) => (float[4] y) { y = Relu (x) }", 23, "states up to 21"),
    ],
)
def test_onnx_runtime_refuses_what_onnx_does_not_define(body: str, opset: int, reason: str) -> None:
    found = refusals(network(body, opset), CPU)
    assert [reason in r.reason for r in found] == [True]
    assert found[0].first_release is None


def test_onnx_runtime_takes_its_own_and_the_networks_operators() -> None:
    assert refusals(network("(float[4] x) => (float[4] y) { y = com.microsoft.Gelu (x) }"), CPU) == []
    assert refusals(network("(float[n] x) => (float[n] y) { y = Relu (x) }"), CPU) == []


CAFFE_CASES = {
    "plain layers": (
        f"{X} => (float[1,64] z) <float[2,4,3,3] w, float[2] b, float[64,32] v>"
        " { a = Conv <pads=[1,1,1,1], strides=[2,2]> (x, w, b)  r = Relu (a)  f = Flatten (r)"
        " z = Gemm <transB=1> (f, v) }",
        None,
    ),
    "asymmetric padding of a convolution": (
        f"{X} => (float[1,4,4,4] y) <float[4,4,3,3] w> {{ y = Conv <pads=[0,0,1,1], strides=[2,2]> (x, w) }}",
        None,
    ),
    "asymmetric padding of a pooling": (
        f"{X} => (float[1,4,4,4] y) {{ y = MaxPool <kernel_shape=[3,3], pads=[0,0,1,1], strides=[2,2]> (x) }}",
        "differs between the sides",
    ),
    "Slice of rows": (
        f"{X} => (float[1,4,4,8] y) <int64[1] s = {{0}}, int64[1] e = {{4}}, int64[1] a = {{2}}>"
        " { y = Slice (x, s, e, a) }",
        None,
    ),
    "Slice of two axes": (
        f"{X} => (float[1,4,4,4] y) <int64[2] s = {{0,0}}, int64[2] e = {{4,4}}, int64[2] a = {{2,3}}>"
        " { y = Slice (x, s, e, a) }",
        "no layer Slice",
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
        f"{X} => (float[1,4,8,8] y) {{ y = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1]> (x) }}", "Caffe counts it",
    ),
    "computed statistics": (
        "(float[1,4,8,8] x, float[4] a) => (float[1,4,8,8] y) <float[4] s = {1,1,1,1}>"
        " { m = Relu (a)  y = BatchNormalization (x, s, s, m, s) }",
        "statistics are computed",
    ),
    "batch moved": (f"{X} => (float[4,1,8,8] y) {{ y = Transpose <perm=[1,0,2,3]> (x) }}", "moves the batch axis"),
    "batch kept": (f"{X} => (float[1,8,8,4] y) {{ y = Transpose <perm=[0,2,3,1]> (x) }}", None),
    "batch regrouped": (
        f"{X} => (float[4,64] y) <int64[2] s = {{4,64}}> {{ y = Reshape (x, s) }}", "regroups the batch",
    ),
    "softmax of a batch": ("(float[4,3] x) => (float[4,3] y) { y = Softmax <axis=0> (x) }", "reads 1 to 3"),
    "softmax from the end": ("(float[1,9,3] x) => (float[1,9,3] y) { y = Softmax <axis=-1> (x) }", None),
    "computed exponent": (
        "(float[1,4] x, float[1,4] z) => (float[1,4] y) { y = Pow (x, z) }", "one constant exponent",
    ),
    "sum of channels": (f"{X} => (float[1,1,8,8] y) <int64[1] a = {{1}}> {{ y = ReduceSum (x, a) }}", None),
    "sum of rows": (
        f"{X} => (float[1,4,1,8] y) <int64[1] a = {{2}}> {{ y = ReduceSum (x, a) }}", "only the channels of a map",
    ),
    "integers": ("(int32[1,4] x) => (int32[1,4] y) { y = Abs (x) }", "blobs are FP32"),
}  # fmt: skip


@pytest.mark.parametrize("case", CAFFE_CASES)
def test_caffe_layers_of_tensorrt(case: str) -> None:
    body, reason = CAFFE_CASES[case]
    found = refusals(filled(body), CAFFE)
    if reason is None:
        assert found == []
    else:
        assert any(reason in refusal.reason for refusal in found), found


def filled(body: str) -> gs.Graph:
    """A network whose weights may be given by their shape alone; they become zeros."""
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


@functools.cache
def rtx_builder():
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (extra `rtx`)")
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    return trt, logger, trt.Builder(logger)


def builds_for_rtx(proto: onnx.ModelProto) -> bool:
    """Whether TensorRT-RTX parses a network and builds an engine of it, without a GPU."""
    trt, logger, builder = rtx_builder()
    network_ = builder.create_network()
    if not trt.OnnxParser(network_, logger).parse(proto.SerializeToString()):
        return False
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    return builder.build_serialized_network(network_, config) is not None


# Where the verdict and TensorRT-RTX 1.7.1 part, and why the verdict stays.
RTX_PARTS = {
    "TopK with computed K": "an input that decides a shape needs an optimisation profile, which no single node shows",
    "INT8 arithmetic": "documented as refused; without a constant it happens to build",
}


@pytest.mark.parametrize("case", RULES)
def test_tensorrt_rtx_builds_what_is_not_refused_and_nothing_else(case: str) -> None:
    body, opset, *_ = RULES[case]
    found = refusals(network(body, opset), RTX)
    agrees = builds_for_rtx(model(body, opset)) == (not found)
    assert agrees == (case not in RTX_PARTS), (found, RTX_PARTS.get(case))


@pytest.mark.parametrize("count", [3839, 3840, 3841])
def test_tensorrt_rtx_takes_the_largest_k_that_is_not_refused(count: int) -> None:
    body = f"(float[1,8732] x) => (float[1,n] y, int64[1,n] i) <int64[1] k = {{{count}}}> {{ y, i = TopK (x, k) }}"
    assert builds_for_rtx(model(body)) == (not refusals(network(body), RTX)) == (count <= 3840)


@pytest.mark.parametrize("op", ["NonZero", "Det", "DeformConv", "RoiAlign", "Compress"])
def test_tensorrt_rtx_operators_that_do_not_build_are_refused(op: str) -> None:
    graph = gs.Graph([gs.Node(op, name="n", inputs=[], outputs=[])], opset=18)
    assert [r.node for r in refusals(graph, RTX)] == ["n"]


@pytest.mark.parametrize("name", names())
def test_real_models_are_read_against_every_target(assets: Path, name: str) -> None:
    agreed = contract(load(name))
    for path in sorted(assets.rglob("*.onnx")):
        graph = gs.import_onnx(onnx.shape_inference.infer_shapes(onnx.load(path)))
        for refusal in refusals(graph, agreed):
            assert refusal.reason
            assert refusal.node or refusal.op in ("opset", "ir")
            assert refusal.first_release is None or numbers(refusal.first_release) > agreed.version


def test_the_real_onnx_detectors_fit_every_onnx_target_but_for_opset_and_ir(assets: Path) -> None:
    for path in sorted(assets.rglob("*.onnx")):
        graph = gs.import_onnx(onnx.shape_inference.infer_shapes(onnx.load(path)))
        for name in names():
            if load(name).model_format == "onnx":
                assert {r.op for r in refusals(graph, contract(load(name)))} <= {"opset", "ir"}, (path.name, name)


def test_releases_are_ordered_and_never_state_less_than_before() -> None:
    for earlier, later in itertools.pairwise(PARSERS):
        assert earlier.since < later.since
        assert earlier.opset <= later.opset
        assert earlier.ir <= later.ir
    assert parser_of(()) is PARSERS[0]
    assert parser_of((8, 2, 1)).ir == 7
    assert (first_with(opset=14), first_with(ir=13), first_with(opset=99)) == ("8.4", "11.0", None)
    assert numbers(dotted(LATEST)) == LATEST


def test_preferred_detections_are_known_to_the_parser_of_every_target() -> None:
    """The plugin or operator that a lowering needs is one that the same target's parser takes."""
    needs = {"efficient-nms": "EfficientNMS_TRT", "nms-plugin": "NMS_TRT", "onnx-nms": "NonMaxSuppression"}
    for name in names():
        target = load(name)
        for lowering in capabilities(target).detections:
            if lowering != "raw":
                graph = gs.Graph([gs.Node(needs[lowering], name="n")], opset=13)
                assert refusals(graph, contract(target)) == [], (name, lowering)
