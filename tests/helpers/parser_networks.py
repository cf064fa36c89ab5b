"""Networks in ONNX text, one that breaks each rule of TensorRT's ONNX parser."""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs

X = "(float[1,4,8,8] x)"
HELD = "<int64[1] k = {2}, float[1] lo = {0}, float[1] hi = {6}>"

# name: (network, opset, part of the reason, last release that refuses, first that accepts; "" = none)
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
    "plugin without boxes": (
        "(float[1,9,4] b, float[1,9,2] s) => (int32[1,1] n, float[1,0,4] r, float[1,0] p, int32[1,0] c)"
        " { n, r, p, c = EfficientNMS_TRT <max_output_boxes=0> (b, s) }",
        13, "max_output_boxes is 0", "11.1", "",
    ),
    "plugin with a negative threshold": (
        "(float[1,9,4] b, float[1,9,2] s) => (int32[1,1] n, float[1,5,4] r, float[1,5] p, int32[1,5] c)"
        " { n, r, p, c = EfficientNMS_TRT <score_threshold=-1.0> (b, s) }",
        13, "must be at least 0", "8.5", "",
    ),
    "plugin that keeps no overlap": (
        "(float[1,9,4] b, float[1,9,2] s) => (int32[1,1] n, float[1,5,4] r, float[1,5] p, int32[1,5] c)"
        " { n, r, p, c = EfficientNMS_TRT <iou_threshold=0.0> (b, s) }",
        13, "must be above 0", "10.16", "",
    ),
    "plugin with another box coding": (
        "(float[1,9,4] b, float[1,9,2] s) => (int32[1,1] n, float[1,5,4] r, float[1,5] p, int32[1,5] c)"
        " { n, r, p, c = EfficientNMS_TRT <box_coding=2> (b, s) }",
        13, "must be 0 or 1", "8.6", "",
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
    "If with two outputs": (
        "(float[1,4,8,8] x, bool c) => (float[1,4,8,8] y, float[1,4,8,8] z) { y, z = If (c) <"
        "then_branch = t () => (float[1,4,8,8] p, float[1,4,8,8] r) { p = Relu (x)  r = Neg (x) },"
        "else_branch = e () => (float[1,4,8,8] q, float[1,4,8,8] s) { s = Relu (x)  q = Neg (x) }> }",
        13, "2 outputs are paired", "9.3", "10.0",
    ),
    "If without connected branches": (
        "(float[1,4,8,8] x, bool c) => (float[1,4,8,8] y) { y = If (c) <"
        "then_branch = t () => (float[1,4,8,8] p) { p = Relu (x) },"
        "else_branch = e () => (float[1,4,8,8] q) { q = Neg (x) }> }",
        13, "connects no tensor", "8.4", "8.5",
    ),
    "If whose nested If reads from outside": (
        "(float[1,4,8,8] x, bool c, bool d) => (float[1,4,8,8] y) { y = If (c) <"
        "then_branch = t () => (float[1,4,8,8] p) { p = If (d) <"
        "then_branch = u () => (float[1,4,8,8] r) { r = Relu (x) },"
        "else_branch = v () => (float[1,4,8,8] s) { s = Abs (x) }> },"
        "else_branch = e () => (float[1,4,8,8] q) { q = Neg (x) }> }",
        13, "reads x from outside", "9.3", "10.0",
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
        f"{X} => (float[1,4,8,8] y) <bool t = {{1}}> {{ y = Dropout (x, , t) }}", 13, "training_mode must be", "11.1", "",
    ),
    "training BatchNormalization": (
        "(float[1,2,4,4] x) => (float[1,2,4,4] y, float[2] m, float[2] v)"
        " <float[2] s = {1,1}, float[2] b = {0,0}, float[2] p = {0,0}, float[2] q = {1,1}>"
        " { y, m, v = BatchNormalization <training_mode=1> (x, s, b, p, q) }",
        15, "training_mode and", "11.1", "",
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
    "INT16": ("(int16[4] x) => (int16[4] y) { y = Identity (x) }", 13, "it uses INT16, which TensorRT does not support", "11.1", ""),
    "INT64 output": ("(float[4] x) => (int64[4] y) { y = Cast <to=7> (x) }", 13, "binding differs", "8.6", "9.0"),
    "INT64 beyond INT32": (
        "(float[4] x) => (float[4] y) <int64[1] c = {4294967296}> { d = Cast <to=1> (c)  y = Add (x, d) }",
        13, "clamped to INT32", "8.6", "9.0",
    ),
    "INT8 arithmetic": ("(int8[4] x) => (int8[4] y) { y = Add (x, x) }", 14, "computes in INT8", "11.1", ""),
    "reduced BOOL": ("(bool[4] x) => (bool[1] y) { y = ReduceMax (x) }", 20, "it reduces BOOL", "11.1", ""),
    "dynamic input": ("(float[n,4] x) => (float[n,4] y) { y = Relu (x) }", 13, "is dynamic", "11.1", ""),
}  # fmt: skip


def network(body: str, opset: int = 13, ir: int = 3) -> gs.Graph:
    return gs.import_onnx(model(body, opset, ir))


def model(body: str, opset: int = 13, ir: int = 8) -> onnx.ModelProto:
    """ONNX text of one graph, ``(inputs) => (outputs) <initialisers> { nodes }``."""
    parsed = onnx.parser.parse_model(
        f'<ir_version: {ir}, opset_import: ["" : {opset}, "nowhere" : 1, "com.microsoft" : 1]> g {body}'
    )
    return onnx.shape_inference.infer_shapes(parsed)
