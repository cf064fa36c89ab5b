"""Constant parts become numbers, nodes that do nothing are removed, and the rest stays."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from examples import examples
from golden_files import assert_golden
from graph_text import FP16, detector, network, operators, run
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import reshaping_networks

from deploycc.graph.text import to_text
from deploycc.importers import caffe

PASS = importlib.import_module("deploycc.passes.fold_constants")

SHAPES = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,4,5] x) => (float[1,60] y) {
  whole = Shape (x)
  zero = Constant <value_int = 0> ()
  axis = Constant <value_ints = [0]> ()
  batch = Gather (whole, zero)
  first = Unsqueeze (batch, axis)
  rest = Constant <value_ints = [-1]> ()
  shape = Concat <axis = 0> (first, rest)
  flat = Flatten (x)
  same = Identity (flat)
  y = Reshape (same, shape)
}"""


def test_golden() -> None:
    source = network(SHAPES)
    assert_golden("passes/fold_constants.before.txt", to_text(source.graph) + "\n")
    result = PASS.fold_constants(source, FP16)
    assert result.changed
    assert_golden("passes/fold_constants.after.txt", to_text(result.detector.graph) + "\n")


@settings(max_examples=examples(75))
@given(reshaping_networks())
def test_moving_data_around_keeps_every_value(graph: gs.Graph) -> None:
    expected = run(graph)
    result = PASS.fold_constants(detector(graph.copy()), FP16)
    folded = result.detector.graph
    assert [output.name for output in folded.outputs] == [output.name for output in graph.outputs]
    assert len(folded.nodes) <= len(graph.nodes)
    for got, want in zip(run(folded), expected, strict=True):
        np.testing.assert_array_equal(got, want)
    again = PASS.fold_constants(result.detector, FP16)
    assert not again.changed


def test_dropout_and_its_unread_mask_go() -> None:
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,4] x) => (float[1,4] y) { d, mask = Dropout (x) y = Relu (d) }"""
    assert operators(PASS.fold_constants(network(text), FP16).detector.graph) == ["Relu"]


def test_a_chain_between_input_and_output_keeps_one_node() -> None:
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,4] x) => (float[1,4] y) { a = Identity (x) b = Identity (a) y = Identity (b) }"""
    folded = PASS.fold_constants(network(text), FP16).detector.graph
    assert operators(folded) == ["Identity"]
    assert (folded.inputs[0].name, folded.outputs[0].name) == ("x", "y")


def test_float_constants_stay_float32() -> None:
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,2] x) => (float[1,2] y) {
      one = Constant <value_float = 1.5> ()
      two = Constant <value_floats = [2.0, 3.0]> ()
      a = Mul (x, one)
      y = Add (a, two)
    }"""
    source = network(text)
    folded = PASS.fold_constants(source, FP16).detector.graph
    assert operators(folded) == ["Mul", "Add"]
    assert {np.dtype(tensor.dtype) for tensor in folded.tensors().values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(run(folded, np.ones((1, 2), np.float32))[0], [[3.5, 4.5]])


def test_narrowing_casts_stay() -> None:
    """float -> int32 -> float rounds; only the input of a widening Cast may be read directly."""
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,4] x) => (float[1,4] y) { a = Cast <to = 6> (x) y = Cast <to = 1> (a) }"""
    source = network(text)
    result = PASS.fold_constants(source, FP16)
    assert operators(result.detector.graph) == ["Cast", "Cast"]
    widened = text.replace("to = 6", "to = 11")
    assert len(PASS.fold_constants(network(widened), FP16).detector.graph.nodes) == 1


def test_a_constant_output_is_still_written_by_a_node() -> None:
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,4] x, float[1,4] c) => (float[1,4] y, float[1,4] priors) { y = Relu (x) priors = Add (c, c) }"""
    folded = PASS.fold_constants(network(text), FP16).detector.graph
    assert operators(folded) == ["Relu", "Identity"]
    assert [output.name for output in folded.outputs] == ["y", "priors"]
    assert len(run(folded)) == 2


def test_plugins_and_random_sources_are_not_evaluated() -> None:
    text = """<ir_version: 8, opset_import: ["": 13, "TRT": 1]>
    g (float[1,4] x, float[1,4] c) => (float[1,4] y) {
      p = TRT.Plugin (c)
      r = RandomNormal <shape = [1,4]> ()
      a = Add (x, p)
      y = Add (a, r)
    }"""
    result = PASS.fold_constants(network(text), FP16)
    assert sorted(operators(result.detector.graph)) == ["Add", "Add", "Plugin", "RandomNormal"]
    assert result.notes == ()


def test_what_cannot_be_evaluated_is_noted() -> None:
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,4] x, float[2,2] c, int64[1] s) => (float y) { r = Reshape (c, s) y = Add (x, r) }"""
    result = PASS.fold_constants(network(text, {"s": np.array([3], np.int64)}), FP16)
    assert [note.code for note in result.notes] == ["constants-not-folded"]


def test_an_if_on_a_constant_becomes_its_branch() -> None:
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,4] x) => (float[1,4] y) {
      yes = Constant <value = bool {1}> ()
      y = If (yes) <
        then_branch = a () => (float[1,4] t) { t = Relu (x) },
        else_branch = b () => (float[1,4] e) { e = Sigmoid (x) }
      >
    }"""
    assert operators(PASS.fold_constants(network(text), FP16).detector.graph) == ["Relu"]


def test_unfolded_export_loses_its_shape_arithmetic(assets: Path) -> None:
    graph = gs.import_onnx(onnx.load(assets / "ultralight_rfb320" / "version-RFB-320.onnx"))
    expected = run(graph)
    folded = PASS.fold_constants(detector(graph), FP16).detector.graph
    assert not {"Constant", "Shape", "Gather", "Unsqueeze"} & set(operators(folded))
    assert len(folded.nodes) == 163  # of 242
    for got, want in zip(run(folded), expected, strict=True):
        np.testing.assert_array_equal(got, want)


def test_weights_are_neither_copied_nor_written(assets: Path) -> None:
    """26 million weights: the pass touches none of them."""
    detector_ = caffe.load(assets / "prototxt" / "vgg_ssd300_voc_deploy.prototxt", random_weights=1)
    before = {name: t.values for name, t in detector_.graph.tensors().items() if isinstance(t, gs.Constant)}
    folded = PASS.fold_constants(detector(detector_.graph.copy()), FP16).detector.graph
    for name, tensor in folded.tensors().items():
        if isinstance(tensor, gs.Constant) and name in before:
            assert tensor.values is before[name]


def test_the_strategy_makes_something_to_fold() -> None:
    """The property test would hold for a pass that does nothing; this one would not."""
    folded = 0

    @settings(max_examples=40, database=None)
    @given(reshaping_networks(), st.just(None))
    def count(graph: gs.Graph, _: None) -> None:
        nonlocal folded
        folded += PASS.fold_constants(detector(graph), FP16).changed

    count()
    assert folded >= 20


@pytest.mark.parametrize("op", ["Squeeze", "Unsqueeze"])
def test_reshaping_chains_become_one_reshape(op: str) -> None:
    axes = {"Squeeze": "(a, zero)", "Unsqueeze": "(a, zero)"}[op]
    shape = {"Squeeze": "6,4", "Unsqueeze": "1,1,6,4"}[op]
    text = f"""<ir_version: 8, opset_import: ["": 13]>
    g (float[1,2,3,4] x) => (float[{shape}] y) {{
      zero = Constant <value_ints = [0]> ()
      to = Constant <value_ints = [1,6,4]> ()
      a = Reshape (x, to)
      y = {op} {axes}
    }}"""
    assert operators(PASS.fold_constants(network(text), FP16).detector.graph) == ["Reshape"]
