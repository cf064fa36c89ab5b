"""Boxes and detections out of raw outputs: against plain arithmetic, and against OpenCV on real models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from detection_reference import decode, encode
from hypothesis import assume, given
from mutation import find_example, mutant
from numerics import assert_same_detections
from opencv_ssd import MODELS, CaffeSsd, run_caffe
from strategies import HeadsCase, heads_cases

from deploycc.detector import DetectionOutputs, Detector, InputSpec, Nms, Source, SsdHeads
from deploycc.errors import ModelError
from deploycc.evaluation import decode as decode_module
from deploycc.evaluation.decode import decode_boxes, read_detections
from deploycc.evaluation.nms import suppress

SOURCE = Source(files=("test",), sha256="0" * 64, format="caffe")


def detector_with(
    heads: SsdHeads | None = None, nms: Nms | None = None, detections: DetectionOutputs | None = None
) -> Detector:
    return Detector(gs.Graph(name="tiny"), InputSpec("data", 1, 1), SOURCE, heads, nms or Nms(), detections)


def decodes(case: HeadsCase, module: ModuleType = decode_module) -> bool:
    """Whether the module decodes every box as plain double-precision arithmetic does."""
    rows = zip(case.offsets, case.heads.priors, case.heads.variances, strict=True)
    expected = [decode(t, p, v, case.heads) for t, p, v in rows]
    return np.allclose(module.decode_boxes(case.offsets, case.heads), expected, rtol=1e-5, atol=1e-6)


@given(heads_cases())
def test_decoding_is_the_formula(case: HeadsCase) -> None:
    assert decodes(case)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("offsets = offsets * variances", "offsets = offsets * variances**2", id="variance twice"),
        pytest.param("if not heads.variance_encoded:", "if True:", id="encoded variance applied"),
        pytest.param("    if heads.y_first:", "    if False:", id="y_first ignored"),
        pytest.param("if heads.clip else boxes", "if False else boxes", id="not clipped"),
        pytest.param("low + shift * size, high", "low + shift, high", id="corner_size as corner"),
        pytest.param("* size / 2\n", "* size\n", id="whole size for half"),
    ],
)
def test_planted_bugs_are_caught(old: str, new: str) -> None:
    buggy = mutant(decode_module, old, new)
    shown = find_example(heads_cases(), lambda case: not decodes(case, buggy))
    assert not decodes(shown, buggy)
    assert decodes(shown)


@given(heads_cases())
def test_decoding_undoes_encoding(case: HeadsCase) -> None:
    heads = replace(case.heads, clip=False)
    corners = np.stack(
        [decode(t, p, v, heads) for t, p, v in zip(case.offsets, heads.priors, heads.variances, strict=True)]
    )
    assume(np.all(corners[:, 2:] - corners[:, :2] > 1e-3))
    offsets = [encode(c, p, v, heads) for c, p, v in zip(corners, heads.priors, heads.variances, strict=True)]
    assert np.allclose(decode_boxes(np.float32(offsets), heads), corners, rtol=1e-4, atol=1e-5)


@given(heads_cases())
def test_some_rows_decode_as_in_the_whole(case: HeadsCase) -> None:
    rows = np.arange(len(case.offsets))[::2]
    some = decode_boxes(case.offsets, case.heads, rows)
    assert np.array_equal(some, decode_boxes(case.offsets, case.heads)[rows])


@given(heads_cases())
def test_raw_heads_are_decoded_then_suppressed(case: HeadsCase) -> None:
    outputs = {"locations": case.offsets.reshape(1, -1), "scores": case.scores[None]}
    found = read_detections(detector_with(case.heads, case.nms), outputs)
    boxes = decode_boxes(case.offsets, case.heads)
    expected = suppress(boxes, case.scores, case.nms, case.heads.background)
    assert np.array_equal(found.boxes, expected.boxes)
    assert np.array_equal(found.scores, expected.scores)
    assert np.array_equal(found.classes, expected.classes)


def test_columns_are_cut_at_their_count() -> None:
    outputs = {
        "n": np.int32([[2]]),
        "b": np.float32([[[0, 0, 1, 1], [0, 0, 0.5, 0.5], [9, 9, 9, 9]]]),
        "s": np.float32([[0.9, 0.8, 0]]),
        "c": np.int32([[3, 1, 0]]),
    }
    found = read_detections(detector_with(detections=DetectionOutputs("b", "s", "c", "n")), outputs)
    assert found.classes.tolist() == [3, 1]
    assert found.boxes[1].tolist() == [0, 0, 0.5, 0.5]


def test_rows_without_a_class_are_unused() -> None:
    rows = np.float32([[0, 2, 0.5, 0, 0, 1, 1], [0, 7, 0.75, 0.25, 0, 1, 1], [0, -1, 0, 0, 0, 0, 0]])
    described = DetectionOutputs("d", "d", "d", layout="rows")
    found = read_detections(detector_with(detections=described), {"d": rows[None, None]})
    assert found.classes.tolist() == [7, 2]
    assert found.scores.tolist() == [0.75, 0.5]
    assert found.boxes[0].tolist() == [0.25, 0, 1, 1]


def test_an_opaque_network_cannot_be_read() -> None:
    with pytest.raises(ModelError) as caught:
        read_detections(detector_with(), {"y": np.zeros(3, np.float32)})
    assert caught.value.code == "opaque-network"


def test_wrong_outputs_are_named() -> None:
    heads = SsdHeads("loc", "conf", np.zeros((2, 4), np.float32), np.ones((2, 4), np.float32), classes=3)
    with pytest.raises(ModelError, match="'conf'") as missing:
        read_detections(detector_with(heads), {"loc": np.zeros((1, 8), np.float32)})
    assert missing.value.code == "output-missing"
    outputs = {"loc": np.zeros((1, 8), np.float32), "conf": np.zeros((1, 7), np.float32)}
    with pytest.raises(ModelError, match=r"\[1, 7\]") as wrong:
        read_detections(detector_with(heads), outputs)
    assert wrong.value.code == "output-shape"


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.folder)
def test_detections_are_opencvs(assets: Path, model: CaffeSsd) -> None:
    for seen in run_caffe(assets, model):
        detector = detector_with(seen.heads, seen.nms)
        found = read_detections(detector, {"locations": seen.offsets, "scores": seen.scores})
        assert len(found) > 0
        assert_same_detections(found, seen.detections, score_atol=1e-6, min_iou=0.9999)
