"""The FP16 comparison rounds as FP16 does, and finds the layers that lose accuracy."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graph_text import FP16, RTX, detector, network, picture, run
from PIL import Image

from deploycc.detector import Detector
from deploycc.errors import MeasureError
from deploycc.importers import caffe
from deploycc.passes import PIPELINE
from deploycc.passes import run as run_passes
from deploycc.passes.convert_precision import convert_precision
from deploycc.passes.options import Options
from deploycc.precision import comparison as precision
from deploycc.precision.comparison import compare_precision, store_as_half

THOUSAND = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,4] x, float[1] k) => (float[1,4] y) { [up] a = Add (x, k) [down] y = Sub (a, k) }"""


def half_of(source: Detector, *keep: str) -> Detector:
    copy = detector(source.graph.copy())
    return convert_precision(copy, replace(FP16, keep_fp32=frozenset(keep))).detector


def thousand() -> Detector:
    return network(THOUSAND, {"k": np.array([1024], np.float32)})


X = np.array([[0.1, 0.4, 0.6, 0.9]], np.float32)


def test_intermediate_results_are_rounded() -> None:
    """At 1024 the next FP16 number is 1025, so that x + 1024 - 1024 is x rounded to a whole number."""
    typed = half_of(thousand()).graph
    np.testing.assert_array_equal(run(store_as_half(typed), X)[0], [[0, 0, 1, 1]])
    # why the roundings are written out: by itself ONNX Runtime's CPU provider leaves them out
    assert np.abs(run(typed, X)[0] - X).max() < 1e-3


def test_figures_by_hand() -> None:
    source = thousand()
    report = compare_precision(source, half_of(source), [X, 2 * X])
    assert report.pictures == 2
    assert report.provenance == "measured"
    assert report.device == "ONNX Runtime CPU: FP16 storage, FP32 arithmetic"
    up, down = report.layers
    (output,) = report.outputs
    assert [layer.name for layer in report.layers] == ["up", "down"]
    assert up.half
    assert not output.half
    expected = np.concatenate([X, 2 * X])
    got = np.round(expected)  # 0.2 0.8 1.2 1.8 -> 0 1 1 2
    reference = (expected + np.float32(1024)) - np.float32(1024)
    for figure in (down, output):
        assert figure.max_abs_error == pytest.approx(np.abs(got - reference).max(), abs=1e-6)
        ratio = np.linalg.norm(got - reference) / np.linalg.norm(reference)
        assert figure.relative_error == pytest.approx(ratio, rel=1e-5)
        assert (figure.elements, figure.overflows) == (8, 0)
    assert up.largest == pytest.approx(1025.8, rel=1e-6)
    assert up.headroom == pytest.approx(65504 / 1025.8, rel=1e-6)
    assert report.worst(1) == (down,)
    assert report.overflowing == ()


def test_layers_that_overflow_are_named_in_order() -> None:
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,4] x, float[1] k) => (float[1,4] y) {
      [fine] a = Relu (x) [square] b = Mul (a, k) [after] c = Neg (b) [back] y = Div (c, k)
    }"""
    source = network(text, {"k": np.array([60000], np.float32)})
    x = np.array([[0.5, 1.0, 2.0, 3.0]], np.float32)
    report = compare_precision(source, half_of(source), [x])
    assert [layer.name for layer in report.overflowing] == ["square", "after", "back"]
    square = report.overflowing[0]
    assert (square.overflows, square.largest) == (2, 180000.0)
    assert square.headroom < 1
    assert math.isfinite(square.relative_error)  # over the elements that stayed finite
    assert report.outputs[0].overflows == 2


def test_kept_layers_are_exact_where_their_input_is() -> None:
    source = thousand()
    report = compare_precision(source, half_of(source, "up", "down"), [X])
    assert [layer.half for layer in report.layers] == [False, False]
    assert [layer.max_abs_error for layer in report.layers] == [0.0, 0.0]


def test_memory_limit_does_not_change_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    text = """<ir_version: 8, opset_import: ["": 13]>
    g (float[1,2,8,8] x, float[2,2,3,3] w, float[2,2,1,1] v) => (float[1,2,6,6] y) {
      [a] a = Conv (x, w) [b] b = Relu (a) [c] y = Conv (b, v)
    }"""
    source = network(text)
    half = half_of(source)
    pictures = [picture(source.graph, seed) for seed in range(3)]
    whole = compare_precision(source, half, pictures)
    monkeypatch.setattr(precision, "_FETCH_BYTES", 1)
    monkeypatch.setattr(precision, "_CHUNK", 7)
    split = compare_precision(source, half, iter(pictures))
    for one, other in zip([*whole.outputs, *whole.layers], [*split.outputs, *split.layers], strict=True):
        assert one.relative_error == pytest.approx(other.relative_error, rel=1e-12)
        assert replace(one, relative_error=0.0) == replace(other, relative_error=0.0)


def test_no_pictures_and_other_outputs_are_refused() -> None:
    source = thousand()
    with pytest.raises(MeasureError) as caught:
        compare_precision(source, half_of(source), [])
    assert caught.value.code == "precision-no-pictures"
    other = half_of(source)
    other.graph.outputs[0].name = "z"
    with pytest.raises(MeasureError) as caught:
        compare_precision(source, other, [X])
    assert caught.value.code == "precision-outputs-differ"


def test_trained_network_on_a_real_picture(assets: Path) -> None:
    """FP16 costs the face detector less than a hundredth of its boxes and a thousandth of its scores."""
    folder = assets / "res10_face_ssd"
    source = caffe.load(folder / "deploy.prototxt", next(folder.glob("*.caffemodel")))
    fp32 = run_passes(source, Options(RTX), PIPELINE).detector
    fp16 = run_passes(source, FP16, PIPELINE).detector
    image = Image.open(folder / "test_faces.jpg").convert("RGB").resize((300, 300))
    pixels = np.asarray(image, np.float32)[..., ::-1] - np.float32([104, 177, 123])
    report = compare_precision(fp32, fp16, [np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])])
    assert (
        [output.name for output in report.outputs] == [fp32.heads.locations, fp32.heads.scores] if fp32.heads else False
    )
    assert len(report.layers) == len(fp32.graph.nodes)
    assert report.overflowing == ()
    boxes, scores = report.outputs
    assert 1e-5 < boxes.relative_error < 1e-2
    assert 1e-6 < scores.max_abs_error < 5e-3
    assert {layer.name for layer in report.layers if not layer.half} == {
        f"conv4_3_norm/{part}" for part in ("sum", "guard", "norm", "divide")
    }
