"""One set of weights in several spellings is one detector: from the file through every pass to the detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numerics import assert_same_detections
from opencv_ssd import VOC21

from deploycc import target
from deploycc.detector import Detector
from deploycc.detector.pictures import prepare, read_picture
from deploycc.evaluation.detect import OnnxRuntimeDetector
from deploycc.importers import load
from deploycc.passes import PIPELINE, run
from deploycc.passes.for_target import options_for

ULTRALIGHT = (
    "version-RFB-320.onnx",
    "version-RFB-320_simplified.onnx",
    "version-RFB-320_without_postprocessing.onnx",
    "RFB-320.prototxt",
)


def compiled(path: Path, detection: str, **picture: object) -> Detector:
    options = options_for(target.load("x86-cpu"), detection=detection)  # type: ignore[arg-type]
    return run(load(path, **picture), options, PIPELINE).detector  # type: ignore[arg-type]


@pytest.mark.parametrize("detection", ["raw", "onnx-nms"])
def test_voc21_caffe_stock_layers_and_onnx(assets: Path, detection: str) -> None:
    spec = VOC21.input
    picture = {"mean": spec.mean, "scale": spec.scale, "colour": spec.colour}
    files = ["voc21_ssd_mnv1_075.prototxt", "voc21_ssd_mnv1_075_bvlc.prototxt", "voc21_ssd_mnv1_075_boxes.onnx"]
    one, *others = (OnnxRuntimeDetector(compiled(assets / VOC21.folder / file, detection, **picture)) for file in files)
    for name in VOC21.pictures:
        pixels = read_picture(assets / name)
        expected = one.detect(pixels)
        assert len(expected) > 50
        for other in others:
            assert_same_detections(other.detect(pixels), expected, score_atol=1e-3, min_iou=0.99)


def test_ultralight_three_onnx_files_and_caffe(assets: Path) -> None:
    picture = {"mean": (127.0,) * 3, "scale": (1 / 128,) * 3, "colour": "RGB"}
    folder = assets / "ultralight_rfb320"
    detectors = [compiled(folder / file, "raw", **picture) for file in ULTRALIGHT]
    tensor = prepare(read_picture(assets / "res10_face_ssd" / "test_faces.jpg"), detectors[0].input)
    scores = []
    for detector in detectors:
        outputs = OnnxRuntimeDetector(detector).run(tensor)
        [found] = [values.reshape(-1, 2) for values in outputs.values() if values.size == 4420 * 2]
        scores.append(found)
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], rtol=0, atol=1e-5)
    assert (scores[0][:, 1] > 0.7).sum() >= 5
