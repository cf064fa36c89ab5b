"""Networks come within a parser's contract without changing what they compute."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from examples import examples
from golden_files import assert_golden
from graph_text import detector, network, operators, run
from hypothesis import given, settings
from hypothesis import strategies as st

from deploycc.detector import Detector
from deploycc.graph.shapes import infer_shapes
from deploycc.graph.text import to_text
from deploycc.importers import caffe
from deploycc.parsers.support import Contract
from deploycc.passes.options import Options
from deploycc.passes.runner import Result

PASS = importlib.import_module("deploycc.passes.fit_parser")
TENSORRT = Contract("tensorrt-onnx", version=(8, 2, 1), max_opset=13, max_ir=7, int64=False)


def fit(source: Detector, contract: Contract = TENSORRT, **changes: Any) -> Result:
    result: Result = PASS.fit_parser(source, Options(replace(contract, **changes)))
    return result


# ---- operator set and IR --------------------------------------------------------------------------------------------

LOWERED = [
    # name, opset, target, text of the graph, constants, operators afterwards
    ("types only", 21, 13, "g (float[1,2,4,4] x, float[2,2,3,3] w) => (float[1,2,2,2] y) { a = Conv (x, w) y = Relu (a) }", {}, ["Conv", "Relu"]),
    ("pooling", 19, 9, "g (float[1,2,4,4] x) => (float[1,2,2,2] y) { y = AveragePool <kernel_shape=[2,2], strides=[2,2], dilations=[1,1]> (x) }", {}, ["AveragePool"]),
    ("softmax last", 13, 12, "g (float[1,3,4] x) => (float[1,3,4] y) { y = Softmax (x) }", {}, ["Softmax"]),
    ("softmax followed by ones", 13, 11, "g (float[1,3,1,1] x) => (float[1,3,1,1] y) { y = Softmax <axis=1> (x) }", {}, ["Softmax"]),
    ("softmax inside", 13, 9, "g (float[1,3,4] x) => (float[1,3,4] y) { y = Softmax <axis=-2> (x) }", {}, ["Transpose", "Softmax", "Transpose"]),
    ("clip", 13, 9, "g (float[1,4] x, float low, float high) => (float[1,4] y) { y = Clip (x, low, high) }", {"low": -0.5, "high": 0.5}, ["Clip"]),
    ("clip below", 13, 9, "g (float[1,4] x, float high) => (float[1,4] y) { y = Clip (x, , high) }", {"high": 0.5}, ["Clip"]),
    ("reduce sum", 13, 11, "g (float[1,2,4] x, int64[1] a) => (float[1,2,1] y) { y = ReduceSum (x, a) }", {"a": [-1]}, ["ReduceSum"]),
    ("reduce sum from the back", 13, 9, "g (float[1,2,4] x, int64[1] a) => (float[1,2] y) { y = ReduceSum <keepdims=0> (x, a) }", {"a": [-1]}, ["ReduceSum"]),
    ("reduce all", 18, 13, "g (float[1,2,4] x) => (float[1,1,1] y) { y = ReduceMean (x) }", {}, ["ReduceMean"]),
    ("reduce l2", 18, 11, "g (float[1,2,4] x, int64[2] a) => (float[1,1,1] y) { y = ReduceL2 (x, a) }", {"a": [1, 2]}, ["ReduceL2"]),
    ("squeeze", 13, 9, "g (float[1,2,1] x, int64[1] a) => (float[1,2] y) { y = Squeeze (x, a) }", {"a": [-1]}, ["Squeeze"]),
    ("unsqueeze", 13, 9, "g (float[1,2] x, int64[1] a) => (float[1,2,1] y) { y = Unsqueeze (x, a) }", {"a": [-1]}, ["Unsqueeze"]),
    ("split sizes", 18, 9, "g (float[1,4] x, int64[2] s) => (float[1,1] y, float[1,3] z) { y, z = Split <axis=-1> (x, s) }", {"s": [1, 3]}, ["Split"]),
    ("split count", 18, 9, "g (float[1,5] x) => (float[1,3] y, float[1,2] z) { y, z = Split <axis=1, num_outputs=2> (x) }", {}, ["Split"]),
    ("split halves", 13, 9, "g (float[1,4] x) => (float[1,2] y, float[1,2] z) { y, z = Split <axis=1> (x) }", {}, ["Split"]),
    ("pad", 19, 9, "g (float[1,1,2,2] x, int64[8] p, float v) => (float[1,1,4,3] y) { y = Pad (x, p, v) }", {"p": [0, 0, 1, 0, 0, 0, 1, 1], "v": 3.0}, ["Pad"]),
    ("reshape, zeros allowed", 21, 9, "g (float[1,4] x, int64[2] s) => (float[2,2] y) { y = Reshape <allowzero=1> (x, s) }", {"s": [2, -1]}, ["Reshape"]),
    ("reshape by a computed shape", 14, 9, "g (float[1,4] x, int64[1] a) => (float[2,2] y) { c = Shape (x) d = Add (c, a) y = Reshape <allowzero=1> (x, d) }", {"a": [1, -2]}, ["Shape", "Add", "Reshape"]),
    ("hardmax", 13, 9, "g (float[1,3,4] x) => (float[1,3,4] y) { y = Hardmax <axis=1> (x) }", {}, ["Transpose", "Hardmax", "Transpose"]),
    ("nothing summed", 18, 9, "g (float[1,4] x, int64[0] a) => (float[1,4] y) { y = ReduceSum <noop_with_empty_axes=1> (x, a) }", {"a": []}, ["Identity"]),
    ("pad some axes", 18, 9, "g (float[1,1,2,2] x, int64[4] p, float v, int64[2] a) => (float[1,1,4,3] y) { y = Pad (x, p, v, a) }", {"p": [1, 0, 1, 1], "v": 3.0, "a": [2, -1]}, ["Pad"]),
    ("resize some axes", 18, 13, 'g (float[1,1,2,3] x, float[2] s) => (float[1,1,4,6] y) { y = Resize <mode="linear", axes=[2,3], antialias=1> (x, , s) }', {"s": [2.0, 2.0]}, ["Resize"]),
    ("resize some axes to a size", 18, 13, 'g (float[1,1,2,3] x, int64[2] s) => (float[1,1,5,7] y) { y = Resize <mode="linear", axes=[-2,-1]> (x, , , s) }', {"s": [5, 7]}, ["Resize"]),
    ("pooling that rounds up to nothing", 19, 9, "g (float[1,2,4,4] x) => (float[1,2,2,2] y) { y = AveragePool <kernel_shape=[2,2], strides=[2,2], ceil_mode=1> (x) }", {}, ["AveragePool"]),
    ("grid", 20, 16, 'g (float[1,1,3,3] x, float[1,2,2,2] s) => (float[1,1,2,2] y) { y = GridSample <mode="linear"> (x, s) }', {"s": [[[[0.1, 0.2], [0.3, -0.4]], [[-0.5, 0.6], [0.7, 0.8]]]]}, ["GridSample"]),
    ("regions", 16, 10, 'g (float[1,2,6,6] x, float[1,4] r, int64[1] b) => (float[1,2,2,2] y) { y = RoiAlign <output_height=2, output_width=2, coordinate_transformation_mode="output_half_pixel"> (x, r, b) }', {"r": [[0, 0, 4, 4]], "b": [0]}, ["RoiAlign"]),
    ("reshape", 21, 9, "g (float[1,4] x, int64[2] s) => (float[2,2] y) { y = Reshape <allowzero=0> (x, s) }", {"s": [2, 2]}, ["Reshape"]),
    ("slice", 13, 9, "g (float[1,8] x, int64[1] s, int64[1] e, int64[1] a) => (float[1,4] y) { y = Slice (x, s, e, a) }", {"s": [2], "e": [6], "a": [-1]}, ["Slice"]),
    ("top k", 11, 9, "g (float[1,8] x, int64[1] k) => (float[1,3] y, int64[1,3] i) { y, i = TopK (x, k) }", {"k": [3]}, ["TopK"]),
    ("gemm without bias", 13, 9, "g (float[1,4] x, float[4,2] w) => (float[1,2] y) { y = Gemm (x, w) }", {}, ["Gemm"]),
    ("hard swish", 14, 13, "g (float[1,4] x) => (float[1,4] y) { y = HardSwish (x) }", {}, ["HardSigmoid", "Mul"]),
    ("mish", 18, 9, "g (float[1,4] x) => (float[1,4] y) { y = Mish (x) }", {}, ["Softplus", "Tanh", "Mul"]),
    ("gelu", 20, 9, "g (float[1,4] x) => (float[1,4] y) { y = Gelu (x) }", {}, ["Mul", "Mul", "Erf", "Add", "Mul"]),
    ("gelu by tanh", 20, 9, 'g (float[1,4] x) => (float[1,4] y) { y = Gelu <approximate="tanh"> (x) }', {}, ["Mul", "Mul", "Mul", "Mul", "Add", "Mul", "Tanh", "Add", "Mul"]),
    ("layer norm", 17, 9, "g (float[1,3,4] x, float[4] s, float[4] b) => (float[1,3,4] y) { y = LayerNormalization <epsilon=0.01> (x, s, b) }", {}, ["ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div", "Mul", "Add"]),
    ("layer norm without bias", 21, 9, "g (float[1,3,4] x, float[3,4] s) => (float[1,3,4] y) { y = LayerNormalization <axis=1> (x, s) }", {}, ["ReduceMean", "Sub", "Mul", "ReduceMean", "Add", "Sqrt", "Div", "Mul"]),
    ("batch norm", 15, 9, "g (float[1,2,3] x, float[2] s, float[2] b, float[2] m, float[2] v) => (float[1,2,3] y) { y = BatchNormalization <training_mode=0> (x, s, b, m, v) }", {"v": [1.0, 2.0]}, ["BatchNormalization"]),
    ("resize by sizes", 19, 11, 'g (float[1,1,2,2] x, int64[4] s) => (float[1,1,4,4] y) { y = Resize <mode="linear"> (x, , , s) }', {"s": [1, 1, 4, 4]}, ["Resize"]),
    ("resize asymmetric", 13, 10, 'g (float[1,1,2,2] x, float[4] s) => (float[1,1,4,4] y) { y = Resize <mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"> (x, , s) }', {"s": [1.0, 1.0, 2.0, 2.0]}, ["Resize"]),
    ("cast", 19, 9, "g (float[1,4] x) => (float[1,4] y) { a = Cast <to=6, saturate=1> (x) y = Cast <to=1> (a) }", {}, ["Cast", "Cast"]),
    ("leaky and prelu", 16, 9, "g (float[1,2,3] x, float[2,1] s) => (float[1,2,3] y) { a = LeakyRelu (x) y = PRelu (a, s) }", {}, ["LeakyRelu", "PRelu"]),
]  # fmt: skip


def typed(opset: int, text: str, values: dict[str, Any]) -> Detector:
    """The network, its constants in the types that the text declares."""
    whole = f'<ir_version: 10, opset_import: ["": {opset}]> {text}'
    inputs = onnx.parser.parse_model(whole).graph.input
    kinds = {i.name: onnx.helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type) for i in inputs}
    return network(whole, {name: np.array(value, dtype=kinds[name]) for name, value in values.items()})


@pytest.mark.parametrize("case", LOWERED, ids=[case[0] for case in LOWERED])
def test_lowered_network_computes_the_same(case: tuple[str, int, int, str, dict[str, Any], list[str]]) -> None:
    _, opset, target, text, values, ops = case
    source = typed(opset, text, values)
    expected = run(source.graph)
    result = fit(source, Contract("onnxruntime", max_opset=target, max_ir=5))
    graph = result.detector.graph
    assert (graph.opset, graph.ir_version, result.notes) == (target, 5, ())
    assert operators(graph) == ops
    for got, want in zip(run(graph), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


STUCK = [
    ("mode", 19, 18, 'g (float[1,1,2,2] x, int64[8] p) => (float[1,1,2,4] y) { [n] y = Pad <mode="wrap"> (x, p) }', {"p": [0, 0, 0, 1, 0, 0, 0, 1]}),
    ("new operator", 18, 13, "g (float[1,4] x) => (float[1,4] y) { a = Cast <to=6> (x) [n] b = BitwiseNot (a) y = Cast <to=1> (b) }", {}),
    ("statistics of a layer", 17, 13, "g (float[1,4] x, float[4] s) => (float[1,4] y, float[1,1] m) { [n] y, m = LayerNormalization (x, s) }", {}),
    ("resize rounding", 13, 10, 'g (float[1,1,2,2] x, float[4] s) => (float[1,1,4,4] y) { [n] y = Resize (x, , s) }', {"s": [1.0, 1.0, 2.0, 2.0]}),
    ("resize to the nearest", 13, 10, 'g (float[1,1,2,2] x, float[4] s) => (float[1,1,4,4] y) { [n] y = Resize <coordinate_transformation_mode="asymmetric"> (x, , s) }', {"s": [1.0, 1.0, 2.0, 2.0]}),
    ("attribute", 11, 10, "g (float[1,8] x, int64[1] k) => (float[1,3] y, int64[1,3] i) { [n] y, i = TopK <largest=0> (x, k) }", {"k": [3]}),
    ("scale of groups", 21, 20, "g (float[1,4,2,2] x, float[4] s) => (float[1,4,2,2] y) { [n] y = GroupNormalization <num_groups=2> (x, s, s) }", {"s": [1, 2, 3, 4]}),
    ("half pixels of regions", 16, 15, "g (float[1,2,6,6] x, float[1,4] r, int64[1] b) => (float[1,2,2,2] y) { [n] y = RoiAlign <output_height=2, output_width=2> (x, r, b) }", {"r": [[0, 0, 4, 4]], "b": [0]}),
    ("nothing reduced", 18, 17, "g (float[1,4] x, int64[0] a) => (float[1,4] y) { [n] y = ReduceL2 <noop_with_empty_axes=1> (x, a) }", {"a": []}),
    ("antialiasing", 18, 17, 'g (float[1,1,4,4] x, float[4] s) => (float[1,1,2,2] y) { [n] y = Resize <mode="linear", antialias=1> (x, , s) }', {"s": [1.0, 1.0, 0.5, 0.5]}),
    ("dilated pooling", 19, 18, "g (float[1,1,4,4] x) => (float[1,1,2,2] y) { [n] y = AveragePool <kernel_shape=[2,2], dilations=[2,2]> (x) }", {}),
    ("broadcast maximum", 8, 7, "g (float[1,4] x, float b) => (float[1,4] y) { [n] y = Max (x, b) }", {"b": 0.5}),
    ("types", 12, 11, "g (float[1,4] x) => (float[1,4] y) { c = Cast <to=2> (x) i = Cast <to=3> (x) [n] m = Max (i, i) y = Cast <to=1> (m) }", {}),
    ("step of a slice", 13, 9, "g (float[1,8] x, int64[1] s, int64[1] e, int64[1] a, int64[1] t) => (float[1,4] y) { [n] y = Slice (x, s, e, a, t) }", {"s": [0], "e": [8], "a": [1], "t": [2]}),
    ("oldest", 7, 5, "g (float[1,4] x) => (float[1,4] y) { [n] y = Relu (x) }", {}),
]  # fmt: skip


@pytest.mark.parametrize("case", STUCK, ids=[case[0] for case in STUCK])
def test_what_has_no_older_spelling_stays_and_is_named(case: tuple[str, int, int, str, dict[str, Any]]) -> None:
    _, opset, target, text, values = case
    source = typed(opset, text, values)
    expected = run(source.graph)
    result = fit(source, Contract("onnxruntime", max_opset=target))
    assert result.detector.graph.opset > target
    (note,) = result.notes
    assert (note.node, note.code) == ("n", "opset-stays")
    np.testing.assert_array_equal(run(result.detector.graph)[0], expected[0])


def test_the_given_graph_is_not_half_lowered() -> None:
    """One node stops the step: the others keep the spelling of the set that the network stays in."""
    text = """<ir_version: 10, opset_import: ["": 18]>
    g (float[1,2,4] x, int64[1] a) => (int32[1,2,1] y)
    { r = ReduceMean (x, a) c = Cast <to=6> (r) y = BitwiseNot (c) }"""
    source = network(text, {"a": np.array([2])})
    expected = run(source.graph)
    graph = fit(source, max_opset=13, int64=True).detector.graph
    assert graph.opset == 18
    np.testing.assert_array_equal(run(graph)[0], expected[0])


def test_branches_are_lowered_with_their_graph() -> None:
    text = """<ir_version: 10, opset_import: ["": 18]>
    g (float[1,2,4] x, int64[1] a) => (float[1,2,1] y) {
      m = ReduceMax (x)
      z = Sub (m, m)
      f = Greater (m, z)
      none = Constant <value_ints = [-1]> ()
      flat = Reshape (f, none)
      y = If (flat) <
        then_branch = t () => (float[1,2,1] t_out) { t_out = ReduceMean (x, a) },
        else_branch = e () => (float[1,2,1] e_out) { e_out = ReduceMin (x, a) }
      >
    }"""
    source = network(text, {"a": np.array([2])})
    expected = run(source.graph)
    graph = fit(source, int64=True).detector.graph
    assert graph.opset == 13
    np.testing.assert_array_equal(run(graph)[0], expected[0])


@pytest.mark.parametrize(("before", "most", "after"), [(10, 6, 6), (4, 6, 4), (3, 6, 4), (10, 3, 4), (None, 8, 8)])
def test_ir_version(before: int | None, most: int, after: int) -> None:
    source = network('<ir_version: 8, opset_import: ["": 9]> g (float[1,4] x) => (float[1,4] y) { y = Relu (x) }')
    source.graph.ir_version = before
    assert fit(source, max_ir=most).detector.graph.ir_version == after


def test_nothing_to_do_changes_nothing() -> None:
    text = '<ir_version: 7, opset_import: ["": 13]> g (float[1,4] x) => (float[1,4] y) { y = Relu (x) }'
    assert not fit(network(text)).changed


# ---- numbers --------------------------------------------------------------------------------------------------------

GATHERED = """<ir_version: 7, opset_import: ["": 13]>
g (float[1,6] x, int64[2] index, int64[2] shape, int64[1] s, int64[1] e, int64[1] a) => (float[1,1] y) {
  g = Gather <axis = 1> (x, index)
  r = Reshape (g, shape)
  y = Slice (r, s, e, a)
}"""
VALUES = {
    "index": np.array([4, 1]),
    "shape": np.array([1, 2]),
    "s": np.array([1]),
    "e": np.array([np.iinfo(np.int64).max]),
    "a": np.array([1]),
}


def test_golden() -> None:
    source = network(GATHERED.replace("13]", "15]"), VALUES)
    assert_golden("passes/fit_parser.before.txt", to_text(source.graph) + "\n")
    assert_golden("passes/fit_parser.after.txt", to_text(fit(source).detector.graph) + "\n")


def test_int64_becomes_int32_where_the_definition_allows_it() -> None:
    source = network(GATHERED, VALUES)
    (expected,) = run(source.graph)
    result = fit(source)
    graph = result.detector.graph
    kinds = {node.op: [np.dtype(t.dtype).name for t in node.inputs[1:]] for node in graph.nodes}
    assert kinds == {"Gather": ["int32"], "Reshape": ["int64"], "Slice": ["int32", "int32", "int32"]}
    assert result.notes == ()
    np.testing.assert_array_equal(run(graph)[0], expected)
    assert not fit(network(GATHERED, VALUES), int64=True).changed


def test_a_copied_graph_exports_its_narrowed_constants() -> None:
    source = network(GATHERED, VALUES)
    (expected,) = run(source.graph)
    copied = replace(source, graph=source.graph.copy())  # as the runner does; the copy pins each constant's type
    np.testing.assert_array_equal(run(fit(copied).detector.graph)[0], expected)


def test_values_beyond_int32_are_noted() -> None:
    text = """<ir_version: 7, opset_import: ["": 13]>
    g (float[1,2] x, int64[1,2] big) => (float[1,2] y) { i = Cast <to = 7> (x) s = Add (i, big) y = Cast <to = 1> (s) }"""
    source = network(text, {"big": np.array([[2**40, 1]])})
    result = fit(source)
    assert [(note.node, note.code) for note in result.notes] == [("big", "int64-range")]
    assert result.detector.graph.tensors()["big"].dtype == np.int64


def test_unproven_variables_stay_int64() -> None:
    """A cast from float may hold anything; a constant tied to it by its operator stays with it."""
    text = """<ir_version: 7, opset_import: ["": 13]>
    g (float[1,2] x, int64[1,2] one) => (float[1,2] y) { i = Cast <to = 7> (x) s = Add (i, one) y = Cast <to = 1> (s) }"""
    graph = fit(network(text, {"one": np.ones((1, 2), np.int64)})).detector.graph
    assert {graph.tensors()[name].dtype for name in ("i", "one", "s")} == {np.dtype(np.int64)}
    run(graph)


def test_a_cast_from_float_proves_nothing() -> None:
    text = """<ir_version: 7, opset_import: ["": 13]>
    g (float[1,2] x) => (float[1,2,2] y) { r = Sigmoid (x) i = Cast <to = 7> (r) y = Gather <axis = 0> (x, i) }"""
    graph = fit(network(text)).detector.graph
    assert graph.tensors()["i"].dtype == np.int64


def test_variables_that_move_proven_values_become_int32() -> None:
    text = """<ir_version: 7, opset_import: ["": 13]>
    g (float[1,2] x, int64[1,2] index) => (float[1,2] y) {
      b = Cast <to = 9> (x)
      i = Cast <to = 7> (b)
      c = Concat <axis = 1> (i, index)
      t = Transpose <perm = [1,0]> (c)
      first = Squeeze (t)
      s = Gather <axis = 1> (x, first)
      y = Slice (s, k0, k2, k1)
    }"""
    text = text.replace("int64[1,2] index)", "int64[1,2] index, int64[1] k0, int64[1] k1, int64[1] k2)")
    numbers = {"index": np.array([[0, 1]]), "k0": np.array([0]), "k1": np.array([1]), "k2": np.array([2])}
    source = network(text, numbers)
    (expected,) = run(source.graph)
    graph = fit(source).detector.graph
    assert np.dtype(np.int64) not in {np.dtype(t.dtype) for t in graph.tensors().values()}
    np.testing.assert_array_equal(run(graph)[0], expected)


def test_fp64_becomes_fp32_for_tensorrt_only() -> None:
    text = """<ir_version: 7, opset_import: ["": 13]>
    g (float[1,2] x, double[1,2] c) => (float[1,2] y) { d = Cast <to = 11> (x) m = Mul (d, c) y = Cast <to = 1> (m) }"""
    source = network(text)
    (expected,) = run(source.graph)
    result = fit(source)
    assert "fp64-to-fp32" in [note.code for note in result.notes]
    assert np.dtype(np.float64) not in {np.dtype(t.dtype) for t in result.detector.graph.tensors().values()}
    np.testing.assert_allclose(run(result.detector.graph)[0], expected, rtol=1e-6, atol=0)
    assert not fit(network(text), Contract("onnxruntime", max_ir=7)).changed


# ---- attributes -----------------------------------------------------------------------------------------------------


@settings(max_examples=examples(60))
@given(
    op=st.sampled_from(["Conv", "MaxPool", "AveragePool"]),
    auto=st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]),
    size=st.integers(5, 9),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
)
def test_auto_pad_is_written_out(op: str, auto: str, size: int, kernel: int, stride: int, dilation: int) -> None:
    dilation = dilation if op == "Conv" and auto == "VALID" and (kernel - 1) * 2 < 5 else 1
    stride = min(stride, kernel)  # ONNX Runtime's poolings refuse the negative pads that SAME means otherwise
    x, y = gs.Variable("x", np.float32, [1, 1, size, size + 1]), gs.Variable("y", np.float32)
    attrs = {"auto_pad": auto, "kernel_shape": [kernel] * 2, "strides": [stride] * 2, "dilations": [dilation] * 2}
    weight = gs.Constant("w", np.random.default_rng(0).normal(size=(1, 1, kernel, kernel)).astype(np.float32))
    if op == "AveragePool":
        del attrs["dilations"]
    node = gs.Node(op, "n", attrs, [x, weight] if op == "Conv" else [x], [y])
    graph = gs.Graph([node], [x], [y], opset=13, ir_version=7)
    infer_shapes(graph)
    expected = run(graph)
    result = fit(detector(graph))
    assert "auto_pad" not in result.detector.graph.nodes[0].attrs
    np.testing.assert_array_equal(run(result.detector.graph)[0], expected[0])


def test_auto_pad_of_a_dilated_convolution() -> None:
    """ONNX Runtime refuses auto_pad here; with explicit pads it runs, and has the size that SAME promises."""
    x, y = gs.Variable("x", np.float32, [1, 1, 9, 9]), gs.Variable("y", np.float32, [1, 1, 5, 5])
    weight = gs.Constant("w", np.ones((1, 1, 3, 3), np.float32))
    attrs = {"auto_pad": "SAME_UPPER", "strides": [2, 2], "dilations": [2, 2]}
    graph = fit(detector(gs.Graph([gs.Node("Conv", "n", attrs, [x, weight], [y])], [x], [y], opset=13))).detector.graph
    assert graph.nodes[0].attrs["pads"] == [2, 2, 2, 2]
    (got,) = run(graph, np.ones((1, 1, 9, 9), np.float32))
    np.testing.assert_array_equal(got[0, 0, 0], [4, 6, 6, 6, 4])


@pytest.mark.parametrize("sizes", [(8, 10), (3, 2), (7, 9)])
def test_half_pixels_of_tensorflow_are_rounded_as_tensorrt_reads_it(sizes: tuple[int, int]) -> None:
    x, y = gs.Variable("x", np.float32, [1, 1, 4, 5]), gs.Variable("y", np.float32, [1, 1, *sizes])
    attrs = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "tf_half_pixel_for_nn"}
    size = gs.Constant("size", np.array([1, 1, *sizes]))
    empty = gs.Variable.empty()
    graph = gs.Graph([gs.Node("Resize", "n", attrs, [x, empty, empty, size], [y])], [x], [y], opset=13, ir_version=7)
    (expected,) = run(graph)
    result = fit(detector(graph))
    assert result.changed
    assert result.detector.graph.nodes[0].attrs["coordinate_transformation_mode"] == "half_pixel"
    np.testing.assert_array_equal(run(result.detector.graph)[0], expected)


# ---- real networks --------------------------------------------------------------------------------------------------


def test_trained_network_reaches_the_oldest_parsers(assets: Path) -> None:
    folder = assets / "voc21_ssd_mobilenet"
    source = caffe.load(folder / "voc21_ssd_mnv1_075.prototxt", next(folder.glob("*075.caffemodel")))
    expected = run(source.graph)
    result = fit(source, Contract("tensorrt-onnx", version=(5, 0), max_opset=9, max_ir=4, int64=False))
    assert (result.detector.graph.opset, result.detector.graph.ir_version) == (9, 4)
    assert result.notes == ()
    for got, want in zip(run(result.detector.graph), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("op", "first"), [("Mish", (10, 0)), ("Gelu", (10, 0)), ("LayerNormalization", (8, 6))])
def test_an_operator_is_written_out_only_where_the_release_lacks_it(op: str, first: tuple[int, int]) -> None:
    """Opset 20 in both releases: what the parser imports decides."""
    operands, given = ("x, s", "float[1,4] x, float[4] s") if op == "LayerNormalization" else ("x", "float[1,4] x")
    source = typed(20, f"g ({given}) => (float[1,4] y) {{ [n] y = {op} ({operands}) }}", {})
    expected = run(source.graph)
    older = fit(source, Contract("tensorrt-onnx", (first[0] - 1, 9), max_opset=20))
    assert op not in operators(older.detector.graph)
    np.testing.assert_allclose(run(older.detector.graph)[0], expected[0], rtol=1e-6, atol=1e-6)
    assert operators(fit(source, Contract("tensorrt-onnx", first, max_opset=20)).detector.graph) == [op]


@pytest.mark.parametrize("place", [[0, 2, 1], [0, -1, 0]])
def test_one_element_is_taken_without_an_operator_that_came_later(place: list[int]) -> None:
    """TensorRT 8.0 has no GatherND; the decision of networks in a row takes one score of many."""
    text = "g (float[1,4,2] x, int64[3] p) => (float[1,4,2] y) { s = GatherND (x, p) y = Mul (x, s) }"
    source = typed(13, text, {"p": place})
    expected = run(source.graph)
    older = fit(source, Contract("tensorrt-onnx", (8, 0), max_opset=13)).detector.graph
    assert operators(older) == ["Reshape", "Gather", "Mul"]
    np.testing.assert_array_equal(run(older)[0], expected[0])
    assert operators(fit(source, Contract("tensorrt-onnx", (8, 2), max_opset=13)).detector.graph)[0] == "GatherND"
