"""A network that ends in a TensorRT plugin finds here what the plugin would find, by plain references of the plugins."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from detection_reference import efficient_nms, nms_plugin
from hypothesis import given, settings
from mutation import find_example, mutant
from numpy.typing import NDArray
from strategies import HeadsCase, heads_cases

import deploycc
from deploycc.detector import Detector, InputSpec, Nms, Source, SsdHeads
from deploycc.errors import MeasureError
from deploycc.evaluation import plugin_tail as plugin_tail_module
from deploycc.evaluation.accuracy import measure_accuracies
from deploycc.evaluation.dataset import open_dataset
from deploycc.evaluation.decode import decode_boxes, read_detections
from deploycc.evaluation.detect import OnnxRuntimeDetector
from deploycc.evaluation.nms import Detections
from deploycc.evaluation.plugin_tail import plugin_tail
from deploycc.parsers.support import Contract
from deploycc.passes import PIPELINE, run
from deploycc.passes.for_target import options_for
from deploycc.passes.lower_detection import lower_detection
from deploycc.passes.options import Detection, Options
from deploycc.target import load as load_target


def lowered(heads: SsdHeads, case: HeadsCase, how: Detection) -> Detector:
    """A detector whose heads are its inputs."""
    count, classes = len(heads.priors), heads.classes
    x, y = gs.Variable("x", np.float32, [1, count, 4]), gs.Variable("y", np.float32, [1, count, classes])
    locations, scores = (
        gs.Variable(heads.locations, np.float32, x.shape),
        gs.Variable(heads.scores, np.float32, y.shape),
    )
    nodes = [gs.Node("Identity", "a", {}, [x], [locations]), gs.Node("Identity", "b", {}, [y], [scores])]
    graph = gs.Graph(nodes, [x, y], [locations, scores], opset=13, ir_version=8)
    detector = Detector(graph, InputSpec("x", 1, 1), Source(("test",), "0" * 64, "onnx"), heads, case.nms)
    return lower_detection(detector, Options(Contract("onnxruntime"), detection=how)).detector


def here(detector: Detector, case: HeadsCase, module: ModuleType = plugin_tail_module) -> Detections:
    """What this project finds: the inputs of the plugin are computed by plain NumPy."""
    tail = module.plugin_tail(detector)
    assert tail is not None
    assert not any(node.domain == "TRT" for node in tail.detector.graph.nodes)
    loc, conf = tail.detector.graph.outputs
    return tail.read({loc.name: plugin_input(detector, case, 0), conf.name: case.scores})


def plugin_input(detector: Detector, case: HeadsCase, index: int) -> NDArray[np.float32]:
    """Corners for EfficientNMS_TRT, offsets with x first for NMS_TRT."""
    [node] = [each for each in detector.graph.nodes if each.domain == "TRT"]
    if index == 1:
        return case.scores[None]
    if node.op == "NMS_TRT":
        return case.offsets[:, [1, 0, 3, 2]] if case.heads.y_first else case.offsets
    boxes = decode_boxes(case.offsets, case.heads)
    boxes[:, 2:] = np.maximum(boxes[:, :2], boxes[:, 2:])  # the lowering feeds no reversed sides
    return boxes


def by_reference(detector: Detector, case: HeadsCase) -> Detections:
    [node] = [each for each in detector.graph.nodes if each.domain == "TRT"]
    names = [tensor.name for tensor in node.outputs]
    first = plugin_input(detector, case, 0)
    if node.op == "NMS_TRT":
        rows = nms_plugin(
            first.reshape(1, -1, 1, 1), case.scores.reshape(1, -1, 1, 1), node.inputs[2].values, node.attrs
        )
        return read_detections(detector, {names[0]: rows})
    made = efficient_nms(first[None], case.scores[None], node.attrs)
    outputs = dict(zip(names, (made[key] for key in ("count", "boxes", "scores", "classes")), strict=True))
    return read_detections(detector, outputs)


def same(got: Detections, expected: Detections) -> bool:
    return (
        np.array_equal(got.classes, expected.classes)
        and np.array_equal(got.scores, expected.scores)
        and np.allclose(got.boxes, expected.boxes, rtol=1e-5, atol=1e-6)
    )


def agrees(case: HeadsCase, how: Detection, module: ModuleType = plugin_tail_module) -> bool:
    detector = lowered(case.heads, case, how)
    return detector.detections is None or same(here(detector, case, module), by_reference(detector, case))


@pytest.mark.parametrize("how", ["efficient-nms", "nms-plugin"])
@settings(max_examples=12)
@given(case=heads_cases())
def test_it_finds_what_the_plugin_finds(how: Detection, case: HeadsCase) -> None:
    assert agrees(case, how)


@pytest.mark.parametrize(
    ("how", "old", "new"),
    [
        ("efficient-nms", 'keep_top_k=int(attrs["max_output_boxes"])', "keep_top_k=-1"),
        ("nms-plugin", "np.clip(found.boxes, 0, 1)) if self.clips else found", "found.boxes)"),
    ],
)
def test_planted_bugs_are_caught(how: Detection, old: str, new: str) -> None:
    buggy = mutant(plugin_tail_module, old, new)
    shown = find_example(heads_cases(), lambda case: not agrees(case, how, buggy))
    assert not agrees(shown, how, buggy)


def test_the_plugin_looks_at_the_best_4096_candidates_of_all_classes() -> None:
    random = np.random.default_rng(0)
    scores = np.round(random.uniform(0, 1, (3000, 3)).astype(np.float32), 3)
    left = plugin_tail_module._best(scores, 4096, 0)
    assert np.isfinite(left).sum() == 4096
    assert not np.isfinite(left[:, 0]).any()
    assert left[np.isfinite(left)].min() >= np.sort(scores[:, 1:].reshape(-1))[-4097]


def test_what_is_not_understood_stays_as_it_is() -> None:
    case = HeadsCase(
        SsdHeads("l", "s", np.float32([[0, 0, 1, 1]]), np.ones((1, 4), np.float32), classes=2),
        np.zeros((1, 4), np.float32),
        np.float32([[0.1, 0.9]]),
        Nms(),
    )
    detector = lowered(case.heads, case, "efficient-nms")
    [node] = [each for each in detector.graph.nodes if each.domain == "TRT"]
    node.attrs["score_activation"] = 1
    assert plugin_tail(detector) is None
    with pytest.raises(MeasureError):
        OnnxRuntimeDetector(detector)
    assert plugin_tail(replace(detector, detections=None)) is None


def test_a_network_for_a_board_is_scored_as_the_model_itself() -> None:
    trained = deploycc.load("street_ssd")
    compiled = run(trained, options_for(load_target("jetson-orin-jp62")), PIPELINE).detector
    assert [node.op for node in compiled.graph.nodes if node.domain == "TRT"] == ["EfficientNMS_TRT"]
    expected, got = measure_accuracies([trained, compiled], open_dataset("generated:5:2", size=160))
    for one, other in zip(expected.predictions, got.predictions, strict=True):
        likely = one.scores > 0.1  # below, the plugin's limits may differ from those that it was trained with
        assert np.allclose(one.scores[likely], other.scores[other.scores > 0.1], rtol=0, atol=1e-4)
        assert np.allclose(one.boxes[likely], other.boxes[other.scores > 0.1], rtol=0, atol=0.05)
    assert sum((each.scores > 0.1).sum() for each in got.predictions) > 3
