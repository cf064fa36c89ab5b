"""Typed FP16: the right things become half, the rest stays, and TensorRT builds it."""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from affine_networks import Stack
from examples import examples
from golden_files import assert_golden
from graph_text import FP16, RTX, detector, network, operators, run
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import stacks

from deploycc.errors import ModelError
from deploycc.graph.text import to_text
from deploycc.importers import caffe
from deploycc.passes import PIPELINE
from deploycc.passes import run as run_passes
from deploycc.passes.fold_constants import fold_constants
from deploycc.passes.options import Detection, Options
from deploycc.passes.runner import Result
from deploycc.precision.comparison import store_as_half

PASS = importlib.import_module("deploycc.passes.convert_precision")


def convert(source: Any, *keep: str) -> Result:
    return PASS.convert_precision(source, replace(FP16, keep_fp32=frozenset(keep)))


def types(graph: gs.Graph) -> dict[str, str]:
    """Result type of every node but the Casts."""
    return {node.name or node.op: np.dtype(node.outputs[0].dtype).name for node in graph.nodes if node.op != "Cast"}


def assert_no_spare_casts(graph: gs.Graph) -> None:
    """No Cast after a Cast, none that changes nothing, and no tensor cast to one type twice."""
    casts = [node for node in graph.nodes if node.op == "Cast"]
    for node in casts:
        assert node.inputs[0].dtype != node.outputs[0].dtype, node.name
        assert not node.inputs[0].inputs or node.inputs[0].inputs[0].op != "Cast", node.name
    assert len({(node.inputs[0].name, node.attrs["to"]) for node in casts}) == len(casts)


TWO_CONVS = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,2,4,4] x, float[3,2,3,3] w, float[3] b, float[2,3,1,1] v) => (float[1,2,2,2] y) {
  [one] c = Conv (x, w, b)
  [act] r = Relu (c)
  [two] y = Conv (r, v)
}"""


def test_golden() -> None:
    source = network(TWO_CONVS)
    assert_golden("passes/convert_precision.before.txt", to_text(source.graph) + "\n")
    assert_golden("passes/convert_precision.after.txt", to_text(convert(source).detector.graph) + "\n")


@settings(max_examples=examples(50))
@given(stack=stacks(), data=st.data())
def test_typed_network_is_valid_and_close(stack: Stack, data: st.DataObject) -> None:
    graph = stack.build()
    names = [node.name for node in graph.nodes]
    keep = data.draw(st.sets(st.sampled_from(names), max_size=3))
    typed = convert(detector(graph.copy()), *keep).detector.graph
    assert_no_spare_casts(typed)
    assert [o.dtype for o in typed.outputs] == [np.float32] * len(graph.outputs)
    assert all(types(typed)[name] == "float32" for name in keep)
    unkept = {name: kind for name, kind in types(typed).items() if name not in keep}
    assert set(unkept.values()) <= {"float16"} or keep  # a node between kept ones may stay FP32 too
    run(typed)  # valid types throughout
    for got, want in zip(run(store_as_half(typed)), run(graph), strict=True):
        # 11 bits a rounding, about 20 roundings deep: one part in a hundred of the tensor's size
        assert np.linalg.norm(got - want) <= 1e-2 * np.linalg.norm(want) + 1e-3


def test_kept_nodes_stay_fp32_with_one_cast_on_each_side() -> None:
    graph = convert(network(TWO_CONVS), "act").detector.graph
    assert types(graph) == {"one": "float16", "act": "float32", "two": "float16"}
    assert operators(graph) == ["Cast", "Conv", "Cast", "Relu", "Cast", "Conv", "Cast"]
    graph = convert(network(TWO_CONVS), "one", "act").detector.graph
    assert operators(graph) == ["Conv", "Relu", "Cast", "Conv", "Cast"]
    graph = convert(network(TWO_CONVS), "one", "act", "two").detector.graph
    assert operators(graph) == ["Conv", "Relu", "Conv"]


def test_data_that_moves_between_kept_nodes_stays_fp32() -> None:
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,2,2,2] x) => (float[8] y) {
      [a] a = Relu (x)
      [t] t = Transpose <perm = [0,2,3,1]> (a)
      [n] n = Neg (t)
      [f] f = Flatten (n)
      [s] y = Squeeze (f)
    }"""
    assert "Cast" not in operators(convert(network(text), "a", "n", "f", "s").detector.graph)


def test_a_constant_that_both_kinds_read_exists_twice() -> None:
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,2,4,4] x, float[2,2,1,1] w) => (float[1,2,4,4] y) { [a] c = Conv (x, w) [b] y = Conv (c, w) }"""
    graph = convert(network(text), "a").detector.graph
    assert [str(node.inputs[1].dtype) for node in graph.nodes if node.op == "Conv"] == ["float32", "float16"]


def test_unknown_name_is_refused_with_the_nearest() -> None:
    for options in (FP16, Options(RTX, precision="fp16"), Options(RTX)):
        with pytest.raises(ModelError) as caught:
            PASS.convert_precision(network(TWO_CONVS), replace(options, keep_fp32=frozenset({"onee"})))
        assert caught.value.code == "unknown-node"
        assert caught.value.hint == "did you mean 'one'?"


@pytest.mark.parametrize("options", [Options(RTX, precision="fp16"), Options(RTX, typed=True), Options(RTX)])
def test_nothing_changes_unless_typed_fp16(options: Options) -> None:
    source = network(TWO_CONVS)
    before = to_text(source.graph)
    result = PASS.convert_precision(source, replace(options, keep_fp32=frozenset({"one"})))
    assert not result.changed
    assert to_text(result.detector.graph) == before


def test_weights_outside_the_range_keep_their_node_fp32() -> None:
    huge, tiny = np.full((3, 2, 3, 3), 1.0, np.float32), np.full((2, 3, 1, 1), 1e-9, np.float32)
    huge[0, 0, 0, :2] = 7e4, -1e5
    result = convert(network(TWO_CONVS, {"w": huge, "v": tiny}))
    assert types(result.detector.graph) == {"one": "float32", "act": "float16", "two": "float32"}
    notes = {note.node: note for note in result.notes}
    assert notes["one"].code == "fp32-overflow"
    assert "2 of 54 constants exceed 65504 (largest 1e+05)" in notes["one"].reason
    assert notes["two"].code == "fp32-underflow"
    assert "all 6 non-zero constants become 0" in notes["two"].reason


def test_single_lost_weights_are_counted() -> None:
    weights = np.full((3, 2, 3, 3), 0.5, np.float32)
    weights.reshape(-1)[:5] = [1e-9, -1e-9, 2.0**-25, np.nextafter(np.float32(2.0**-25), np.float32(1)), 0.0]
    result = convert(
        network(TWO_CONVS, {"w": weights, "b": np.ones(3, np.float32), "v": np.ones((2, 3, 1, 1), np.float32)})
    )
    (note,) = [note for note in result.notes if note.code == "fp16-lost-weights"]
    assert note.reason.startswith("3 of 63 constants")
    assert types(result.detector.graph)["one"] == "float16"


def test_a_clip_without_upper_bound_is_no_overflow() -> None:
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,2] x, float low, float high) => (float[1,2] y) { [clip] y = Clip (x, low, high) }"""
    bounds = {"low": np.float32(0), "high": np.float32(3.4e38)}
    result = convert(network(text, {name: np.array(value) for name, value in bounds.items()}))
    assert types(result.detector.graph) == {"clip": "float16"}
    assert float(result.detector.graph.nodes[1].inputs[2].values) == np.inf


NORMALIZE = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,512,2,2] x, float eps, float[1,512,1,1] s) => (float[1,512,2,2] y) {{
  [act] a = Relu (x)
  {0}
  [div] d = Div (a, n)
  [scale] y = Mul (d, s)
}}"""
SPELLINGS = {
    "caffe": "[sum] q = ReduceSumSquare <axes = [1]> (a) [guard] g = Add (q, eps) [root] n = Sqrt (g)",
    "l2": "[sum] n = ReduceL2 <axes = [1]> (a)",
    "pow": "[two] two = Constant <value_float = 2.0> () [sq] p = Pow (a, two) axis = Constant <value_ints = [1]> () "
    "[sum] q = ReduceSum (p, axis) [guard] g = Add (q, eps) [root] n = Sqrt (g)",
    "product": "[sq] p = Mul (a, a) [turn] t = Transpose <perm = [0, 2, 3, 1]> (p) [sum] m = MatMul (t, ones) "
    "[back] q = Transpose <perm = [0, 3, 1, 2]> (m) [guard] g = Add (q, eps) [root] n = Sqrt (g)",
    "einsum": '[sum] e = Einsum <equation = "bchw,bchw->bhw"> (a, a) axis = Constant <value_ints = [1]> () '
    "[back] q = Unsqueeze (e, axis) [guard] g = Add (q, eps) [root] n = Sqrt (g)",
    "mul": "[sq] p = Mul (a, a) axis = Constant <value_ints = [1]> () "
    "[sum] q = ReduceSum (p, axis) [guard] g = Max (q, eps) [root] n = Sqrt (g)",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_l2_normalisation_sums_its_squares_in_fp32(spelling: str) -> None:
    """conv4_3 of VGG: 512 channels near 150 give a sum of 1e7, which FP16 cannot hold."""
    values = {"eps": np.array(1e-10, np.float32), "s": np.full((1, 512, 1, 1), 20.0, np.float32)}
    text = NORMALIZE.format(SPELLINGS[spelling])
    if "ones" in text:
        values["ones"] = np.ones((512, 1), np.float32)
        text = text.replace("float eps", "float eps, float[512,1] ones")
    source = network(text, values)
    fold_constants(source, FP16)
    x = np.full((1, 512, 2, 2), 150.0, np.float32)
    x[0, :, 0, 0] = 0.0
    (expected,) = run(source.graph, x)
    result = convert(source)
    kinds = types(result.detector.graph)
    assert {name for name, kind in kinds.items() if kind == "float16"} == {"act", "scale"}
    assert any(note.code == "fp32-sum-of-squares" and note.node == "sum" for note in result.notes)
    (got,) = run(store_as_half(result.detector.graph), x)
    assert np.array_equal(np.isnan(got), np.isnan(expected))  # ReduceL2 without epsilon divides 0 by 0
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=1e-3)


def test_resize_keeps_its_scales_fp32() -> None:
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,1,2,2] x, float[4] scales) => (float[1,1,4,4] y) { [up] y = Resize <mode = "nearest"> (x, , scales) }"""
    graph = convert(network(text, {"scales": np.array([1, 1, 2, 2], np.float32)})).detector.graph
    node = next(node for node in graph.nodes if node.op == "Resize")
    assert [str(np.dtype(node.inputs[i].dtype)) for i in (0, 2)] == ["float16", "float32"]
    run(graph)


def test_integers_and_their_nodes_stay() -> None:
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,4] x) => (float[1,4] y, int64[1,1] best) {
      [arg] best = ArgMax <axis = 1> (x)
      [num] f = Cast <to = 1> (best)
      [add] y = Add (x, f)
    }"""
    graph = convert(network(text)).detector.graph
    assert types(graph) == {"arg": "int64", "add": "float16"}
    assert next(node for node in graph.nodes if node.name == "num").outputs[0].dtype == np.float32
    run(graph)


def test_an_output_that_kept_nodes_read_is_cast_once() -> None:
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,4] x) => (float[1,4] y, float[1,4] z) { [a] y = Relu (x) [b] z = Exp (y) }"""
    graph = convert(network(text), "b").detector.graph
    assert operators(graph).count("Cast") == 2
    assert [output.dtype for output in graph.outputs] == [np.float32, np.float32]


def test_if_branches_agree_with_their_node() -> None:
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,2,2,2] x, float[2,2,1,1] w) => (float[1,2,2,2] y) {
      [conv] a = Conv (x, w)
      [gap] g = ReduceMax <keepdims = 0> (a)
      zero = Constant <value_float = 0.0> ()
      [gt] on = Greater (g, zero)
      [if] r = If (on) <
        then_branch = t () => (float[1,2,2,2] t_out) { [t_relu] t1 = Relu (a) [t_conv] t_out = Conv (t1, w) },
        else_branch = e () => (float[1,2,2,2] e_out) { [e_exp] e1 = Sigmoid (a) [e_neg] e_out = Neg (e1) }
      >
      [last] y = Relu (r)
    }"""
    for keep in ((), ("t_relu",), ("e_neg",), ("if",), ("conv",)):
        source = network(text)
        fold_constants(source, FP16)
        expected = run(source.graph)
        graph = convert(source, *keep).detector.graph
        branch = next(node for node in graph.nodes if node.op == "If").attrs["then_branch"]
        assert types(branch)["t_conv"] == "float16"
        np.testing.assert_allclose(run(graph)[0], expected[0], rtol=1e-2, atol=1e-2)


def test_a_loop_stays_fp32_with_its_body() -> None:
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,4] x, int64 turns, bool go) => (float[1,4] y) {
      [a] a = Relu (x)
      [loop] r = Loop (turns, go, a) <body = b (int64 i, bool c, float[1,4] s) => (bool c_out, float[1,4] s_out) {
        c_out = Identity (c)
        [inner] s_out = Add (s, a)
      }>
      [z] y = Neg (r)
    }"""
    source = network(text, {"turns": np.array(3), "go": np.array(True)})
    expected = run(source.graph)
    graph = convert(source).detector.graph
    assert types(graph) == {"a": "float16", "loop": "float32", "z": "float16"}
    np.testing.assert_allclose(run(graph)[0], expected[0], rtol=1e-2, atol=1e-2)


def decoder(assets: Path) -> gs.Graph:
    return gs.import_onnx(onnx.load(assets / "voc21_ssd_mobilenet" / "voc21_ssd_mnv1_075_boxes.onnx"))


def test_box_decoding_stays_fp32(assets: Path) -> None:
    result = convert(detector(decoder(assets)))
    graph = result.detector.graph
    kinds = types(graph)
    decoding = ["t_yx", "t_hw", "m1", "m2", "c_yx", "m3", "m4", "hw", "hw2", "p0", "p1", "yxyx", "boxes"]
    assert {kinds[name] for name in decoding} == {"float32"}
    assert kinds["loc"] == "float16"
    assert sum(kind == "float32" for kind in kinds.values()) == len(decoding)
    assert [note.code for note in result.notes] == ["fp16-borders", "fp32-decoding"]
    assert operators(graph).count("Cast") == 3  # the picture, the offsets, the scores
    assert_no_spare_casts(graph)


@pytest.mark.parametrize("detection", ["onnx-nms", "efficient-nms", "nms-plugin"])
def test_suppression_in_the_graph_stays_fp32(assets: Path, detection: Detection) -> None:
    folder = assets / "res10_face_ssd"
    source = caffe.load(folder / "deploy.prototxt", next(folder.glob("*.caffemodel")))
    options = replace(FP16, detection=detection)
    compiled = run_passes(source, options, PIPELINE[:-1])  # no parser knows the plugins here
    graph = compiled.detector.graph
    added = [node for node in graph.nodes if node.name.startswith("detection/") and node.op != "Cast"]
    floats = [t for node in added for t in [*node.inputs, *node.outputs] if t.dtype in (np.float16, np.float32)]
    assert floats
    # reshapes of the heads before decoding may be half; arithmetic is not
    for node in added:
        if node.op not in ("Reshape", "Transpose"):
            assert all(t.dtype != np.float16 for t in [*node.inputs, *node.outputs]), node.name
    assert_no_spare_casts(graph)
    assert [note.code for note in compiled.notes].count("fp32-decoding") == 1
    assert "fp32-no-half" not in [note.code for note in compiled.notes]
    if detection == "onnx-nms":
        reference = run_passes(source, replace(options, precision="fp32"), PIPELINE[:-1]).detector.graph
        for got, want in zip(run(graph), run(reference), strict=True):
            np.testing.assert_allclose(got[:1], want[:1], rtol=2e-2, atol=5e-3)


def built_by_tensorrt(graph: gs.Graph) -> Counter[tuple[str, str]]:
    """Parse and build for one architecture; return the parsed network's layer kinds with their result types."""
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed (extra: rtx)")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    parsed = builder.create_network(0)
    parser = trt.OnnxParser(parsed, logger)
    assert parser.parse(gs.export_onnx(graph).SerializeToString()), parser.get_error(0)
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    engine = builder.build_serialized_network(parsed, config)
    assert engine is not None
    assert engine.nbytes > 100_000
    layers = [parsed.get_layer(index) for index in range(parsed.num_layers)]
    return Counter((layer.type.name, layer.get_output(0).dtype.name) for layer in layers)


def test_tensorrt_builds_both_and_the_convolutions_are_half(assets: Path) -> None:
    folder = assets / "res10_face_ssd"
    source = caffe.load(folder / "deploy.prototxt", next(folder.glob("*.caffemodel")))
    fp32 = run_passes(source, Options(RTX), PIPELINE).detector.graph
    fp16 = run_passes(source, FP16, PIPELINE).detector.graph
    single, half = built_by_tensorrt(fp32), built_by_tensorrt(fp16)
    assert single["CONVOLUTION", "FLOAT"] == half["CONVOLUTION", "HALF"] == 32
    assert half["CONVOLUTION", "FLOAT"] == single["CONVOLUTION", "HALF"] == 0
    assert half["REDUCE", "FLOAT"] == 1  # conv4_3_norm
    assert [str(np.dtype(tensor.dtype)) for tensor in [*fp16.inputs, *fp16.outputs]] == ["float32"] * 3


def test_constants_that_overflow_where_fp16_is_a_flag_are_noted() -> None:
    source = network(TWO_CONVS, {"w": np.full((3, 2, 3, 3), 1e5, np.float32)})
    flag = replace(FP16, typed=False)
    result = PASS.convert_precision(source, flag)
    assert [(note.node, note.code) for note in result.notes] == [("one", "fp16-flag-overflow")]
    assert "54 of 54 constants exceed 65504" in result.notes[0].reason
    assert PASS.convert_precision(source, replace(flag, keep_fp32=frozenset({"one"}))).notes == ()
    assert PASS.convert_precision(source, replace(flag, precision="fp32")).notes == ()
