"""Affine nodes fold into their neighbours only where the result stays the same."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from affine_networks import Stack
from examples import examples
from golden_files import assert_golden
from graph_text import FP16, detector, network, operators, run
from hypothesis import given, settings
from mutation import find_example, mutant
from strategies import stacks

from deploycc.detector import Detector
from deploycc.graph.affine import affine_of
from deploycc.graph.edit import producer, sole_reader
from deploycc.graph.text import to_text
from deploycc.importers import caffe
from deploycc.passes.fold_constants import fold_constants
from deploycc.passes.runner import Result

PASS = importlib.import_module("deploycc.passes.fold_affine")
RTOL, ATOL = 1e-4, 1e-4


def fold(source: Detector, module: ModuleType = PASS) -> Result:
    return module.fold_affine(detector(source.graph.copy()), FP16)


def worst_error(stack: Stack, module: ModuleType = PASS) -> float:
    """Largest error in units of ``ATOL + RTOL * |expected|``; infinite if the folded network is not valid."""
    graph = stack.build()
    expected = run(graph)
    try:
        got = run(fold(detector(graph), module).detector.graph)
    except (ValueError, IndexError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return np.inf
    pairs = zip(got, expected, strict=True)
    return max(float((np.abs(a - b) / (ATOL + RTOL * np.abs(b))).max()) for a, b in pairs)


@settings(max_examples=examples(75))
@given(stacks())
def test_folding_keeps_every_output(stack: Stack) -> None:
    graph = stack.build()
    expected = run(graph)
    folded = fold(detector(graph)).detector.graph
    for got, want in zip(run(folded), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=RTOL, atol=ATOL)
    for got, want in zip(run(graph), expected, strict=True):  # the original's weights are not touched
        np.testing.assert_array_equal(got, want)


@settings(max_examples=examples(40))
@given(stacks())
def test_nothing_that_can_fold_backwards_is_left(stack: Stack) -> None:
    folded = fold(detector(stack.build()))
    for node in folded.detector.graph.nodes:
        before = producer(node.inputs[0])
        if before is not None and before.op in ("Conv", "ConvTranspose", "Gemm") and affine_of(node) is not None:
            assert sole_reader(folded.detector.graph, node.inputs[0]) is None
            assert any(note.code == "affine-kept" for note in folded.notes)
    again = fold(folded.detector)
    assert not again.changed


BUGS = {
    "a shift goes through padding": (
        'return node.op == "Conv" and not _pads(node)',
        'return node.op == "Conv"',
    ),
    "a shift goes through a transposed convolution": (
        'return node.op == "Conv" and not _pads(node)',
        'return node.op == "ConvTranspose" or not _pads(node)',
    ),
    "the second reader is ignored": (
        "return len(tensor.outputs) == 1 and not is_output(graph, tensor)",
        "return True",
    ),
    "groups share the first one's scales": (
        "factor = scale.reshape(len(stacked), 1, weight.shape[1]",
        "factor = scale[: weight.shape[1]].reshape(1, 1, weight.shape[1]",
    ),
    "the convolution's bias is not scaled": (
        "np.zeros_like(scale) if bias is None else bias * scale",
        "np.zeros_like(scale) if bias is None else bias",
    ),
    "the convolution's bias is forgotten": (
        "return np.zeros_like(scale) if bias is None else bias * scale",
        "return np.zeros_like(scale)",
    ),
    "ConvTranspose's weight axes are swapped": (
        'return _scale_first_axis(weight, scale) if node.op == "Conv" else _scale_second_axis(node, weight, scale)',
        "return _scale_first_axis(weight, scale)",
    ),
    "a shared weight changes under its other reader": (
        'set_constant(graph, node, 1, change.weight, f"{name}_weight")',
        "node.inputs[1].values = change.weight",
    ),
    "a Gemm's beta is applied again": (
        'node.attrs["beta"] = 1.0',
        "pass",
    ),
    "a Gemm's alpha is forgotten": (
        'node.attrs.get("alpha", 1.0) * (shift @ matrix)',
        "shift @ matrix",
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bug_is_noticed(bug: str) -> None:
    broken = mutant(PASS, *BUGS[bug])
    shown = find_example(stacks(), lambda stack: worst_error(stack, broken) > 1.0)
    assert worst_error(shown, broken) > 1.0
    assert worst_error(shown) <= 1.0


BN = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,2,4,4] x, float[2,2,3,3] w, float[2] b, float[2] gamma, float[2] beta, float[2] mean, float[2] var)
=> (float[1,2,4,4] y) {
  [conv] c = Conv <pads = [1,1,1,1]> (x, w, b)
  [norm] n = BatchNormalization (c, gamma, beta, mean, var)
  [act] y = Relu (n)
}"""


def test_golden() -> None:
    source = network(BN, {"var": np.array([1.0, 4.0], np.float32)})
    assert_golden("passes/fold_affine.before.txt", to_text(source.graph) + "\n")
    result = fold(source)
    assert result.changed
    assert result.notes == ()
    assert_golden("passes/fold_affine.after.txt", to_text(result.detector.graph) + "\n")


def test_values_by_hand() -> None:
    """y = 3 (2 x + 1) + 5 = 6 x + 8."""
    source = network(
        """<ir_version: 8, opset_import: ["": 13]>
        g (float[1,1,1,1] x, float[1,1,1,1] w, float[1] b, float[1,1,1,1] s, float[1] t) => (float[1,1,1,1] y) {
          c = Conv (x, w, b)
          m = Mul (s, c)
          y = Add (m, t)
        }""",
        {"w": np.full((1, 1, 1, 1), 2.0, np.float32), "b": np.ones(1, np.float32)}
        | {"s": np.full((1, 1, 1, 1), 3.0, np.float32), "t": np.full(1, 5.0, np.float32)},
    )
    graph = fold(source).detector.graph
    assert operators(graph) == ["Conv"]
    assert [tensor.values.item() for tensor in graph.nodes[0].inputs[1:]] == [6.0, 8.0]
    assert graph.outputs[0].name == "y"


def test_a_shift_in_front_of_padding_stays_and_says_why() -> None:
    result = fold(
        network("""<ir_version: 8, opset_import: ["": 13]>
        g (float[1,2,4,4] x, float[1,2,1,1] s, float[1,2,1,1] t, float[2,2,3,3] w) => (float[1,2,4,4] y) {
          [scale] m = Mul (x, s)
          [shift] a = Add (m, t)
          [conv] y = Conv <pads = [1,1,1,1]> (a, w)
        }""")
    )
    assert operators(result.detector.graph) == ["BatchNormalization", "Conv"]  # Mul and Add became one node
    (note,) = result.notes
    assert (note.node, note.code) == ("scale", "affine-kept")
    assert "conv pads with zeros" in note.reason


def test_a_scale_in_front_of_padding_folds() -> None:
    result = fold(
        network("""<ir_version: 8, opset_import: ["": 13]>
        g (float[1,4,4,4] x, float[1,4,1,1] s, float[4,1,3,3] w) => (float[1,4,4,4] y) {
          m = Mul (x, s)
          y = Conv <pads = [1,1,1,1], group = 4> (m, w)
        }""")
    )
    assert operators(result.detector.graph) == ["Conv"]


def test_zero_variance_is_left_alone() -> None:
    text = BN.replace("BatchNormalization (", "BatchNormalization <epsilon = 0.0> (")
    result = fold(network(text, {"var": np.zeros(2, np.float32)}))
    assert not result.changed
    assert "would not be finite" in result.notes[0].reason


def test_a_scale_that_32_bits_cannot_hold_is_left_alone_without_a_warning_of_numpy() -> None:
    """A warning is an error here; on a terminal, numpy's warnings with their source lines came between the notes."""
    small = np.full(2, 1e-5, np.float32)
    result = fold(network(BN, {"gamma": np.full(2, 3e38, np.float32), "mean": small, "var": small}))
    assert not result.changed
    assert "would not be finite" in result.notes[0].reason


def test_affine_nodes_that_would_overflow_together_are_not_merged() -> None:
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,2,4,4] x, float[1,2,1,1] a, float[1,2,1,1] b) => (float[1,2,4,4] y) {
      r = Relu (x)  m = Mul (r, a)  y = Mul (m, b) }"""
    huge = np.full((1, 2, 1, 1), 1e30, np.float32)
    result = fold(network(text, {"a": huge, "b": huge}))
    assert operators(result.detector.graph) == ["Relu", "Mul", "Mul"]


def test_a_lone_batch_norm_stays_with_a_note() -> None:
    result = fold(
        network(
            """<ir_version: 8, opset_import: ["": 13]>
            g (float[1,2,4,4] x, float[2] gamma, float[2] beta, float[2] mean, float[2] var) => (float[1,2,4,4] y) {
              [act] r = Relu (x)
              [norm] y = BatchNormalization (r, gamma, beta, mean, var)
            }""",
            {"var": np.ones(2, np.float32)},
        )
    )
    assert not result.changed
    assert [note.code for note in result.notes] == ["batchnorm-kept"]


@pytest.mark.parametrize(
    "text",
    [
        # a constant along the width, not the channels
        "g (float[1,4,4,4] x, float[4,4,1,1] w, float[4] s) => (float[1,4,4,4] y) { c = Conv (x, w) y = Mul (c, s) }",
        # a constant that enlarges the result
        "g (float[1,1,2,2] x, float[1,1,1,1] w, float[1,3,1,1] s) => (float[1,3,2,2] y) { c = Conv(x, w) y = Mul(c, s) }",
        # c / x is not an affine of x
        "g (float[1,2,2,2] x, float[2,2,1,1] w, float[1] s) => (float[1,2,2,2] y) { c = Conv (x, w) y = Div (s, c) }",
    ],
)
def test_what_is_no_affine_of_the_channels_is_left(text: str) -> None:
    source = network(f'<ir_version: 8, opset_import: ["": 13]> {text}')
    result = fold(source)
    assert not result.changed
    np.testing.assert_array_equal(run(result.detector.graph)[0], run(source.graph)[0])


def test_res10_loses_its_batch_norms_and_nothing_else(assets: Path) -> None:
    folder = assets / "res10_face_ssd"
    source = caffe.load(folder / "deploy.prototxt", next(folder.glob("*.caffemodel")))
    constants = fold_constants(detector(source.graph.copy()), FP16).detector
    folded = fold(constants).detector.graph
    # 19 BatchNorm and 19 Scale layers: 14 pairs fold backwards; 5 lie between sums or the padded input and a ReLU
    assert Counter(operators(folded))["BatchNormalization"] == 5
    assert len(constants.graph.nodes) - len(folded.nodes) == 26
    for got, want in zip(run(folded), run(constants.graph), strict=True):
        np.testing.assert_allclose(got, want, rtol=RTOL, atol=ATOL)


def test_unfolded_onnx_export(assets: Path) -> None:
    graph = gs.import_onnx(onnx.load(assets / "ultralight_rfb320" / "version-RFB-320.onnx"))
    expected = run(graph)
    folded = fold(fold_constants(detector(graph), FP16).detector).detector.graph
    assert "BatchNormalization" not in operators(folded)
    assert len(folded.nodes) == 128
    for got, want in zip(run(folded), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=RTOL, atol=ATOL)
