"""A picture in, detections out: with real models, as OpenCV finds them in the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from numerics import assert_same_detections
from opencv_ssd import MODELS, CaffeSsd, run_caffe

from deploycc.detector import Detector, InputSpec, Nms, Source, SsdHeads
from deploycc.detector.pictures import read_picture
from deploycc.errors import MeasureError
from deploycc.evaluation.detect import OnnxRuntimeDetector
from deploycc.importers import load
from deploycc.passes import PIPELINE, Options, run
from deploycc.passes.options import Detection
from deploycc.target import contract
from deploycc.target import load as load_target

SOURCE = Source(files=("test",), sha256="0" * 64, format="onnx")


@pytest.mark.parametrize("lowering", ["raw", "onnx-nms"])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.folder)
def test_real_detectors_find_what_opencv_finds(assets: Path, model: CaffeSsd, lowering: Detection) -> None:
    """From the Caffe file through every pass to detections, on the same input tensors."""
    folder, spec = assets / model.folder, model.input
    detector = load(
        folder / model.topology, weights=folder / model.weights, mean=spec.mean, scale=spec.scale, colour=spec.colour
    )
    options = Options(contract(load_target("x86-cpu")), detection=lowering)
    runner = OnnxRuntimeDetector(run(detector, options, PIPELINE).detector)
    for seen in run_caffe(assets, model, prepared=True):
        found = runner.detect(read_picture(seen.picture))
        assert_same_detections(found, seen.detections, score_atol=1e-3, min_iou=0.99)


def tiny(op: str = "Identity") -> Detector:
    """Puts out its input of two values as the scores of one prior; the offsets are constant."""
    x, scores = gs.Variable("x", np.float32, [1, 1, 1, 2]), gs.Variable("scores", np.float32, [1, 1, 1, 2])
    locations = gs.Variable("locations", np.float32, [1, 4])
    nodes = [
        gs.Node(op, "scores", {}, [x], [scores]),
        gs.Node("Identity", "locations", {}, [gs.Constant("zero", np.zeros((1, 4), np.float32))], [locations]),
    ]
    heads = SsdHeads("locations", "scores", np.float32([[0, 0, 0.5, 1]]), np.ones((1, 4), np.float32), classes=2)
    graph = gs.Graph(nodes, [x], [locations, scores], opset=13, ir_version=8)
    spec = InputSpec("x", 1, 2, "GRAY", (0.0,), (1 / 255,))
    return Detector(graph, spec, SOURCE, heads, Nms(), class_names=("background", "bright"))


def test_a_picture_becomes_detections() -> None:
    picture = np.zeros((1, 2, 3), np.uint8)
    picture[0, 1] = 204
    found = OnnxRuntimeDetector(tiny(), threads=1).detect(picture)
    assert found.classes.tolist() == [1]
    assert found.scores.tolist() == pytest.approx([0.8], abs=1e-6, rel=0)
    assert found.boxes.tolist() == [[0, 0, 0.5, 1]]


def test_a_network_that_onnx_runtime_refuses_is_diagnosed() -> None:
    with pytest.raises(MeasureError) as caught:
        OnnxRuntimeDetector(tiny("NoSuchOperator"))
    assert caught.value.code == "onnxruntime-refuses"
    assert "NoSuchOperator" in (caught.value.note or "")
