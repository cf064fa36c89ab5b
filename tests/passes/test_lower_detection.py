"""Detection in the graph gives the host's detections; plugin nodes have the fields that their plugins read.

Plugins cannot run here: what the graph computes up to them is run, and a plain reference of the plugin does the rest.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from detection_reference import efficient_nms, nms_plugin
from examples import examples
from hypothesis import assume, given, settings
from mutation import find_example, mutant
from numerics import assert_same_detections
from numpy.typing import NDArray
from opencv_ssd import MODELS, CaffeSsd, run_caffe
from strategies import HeadsCase, heads_cases

from deploycc.detector import Detector, InputSpec, Nms, Source, SsdHeads
from deploycc.evaluation.decode import read_detections
from deploycc.evaluation.nms import Detections
from deploycc.parsers.support import Contract, refusals
from deploycc.passes.options import Detection, Options
from deploycc.passes.runner import Result

PASS = importlib.import_module("deploycc.passes.lower_detection")
TENSORRT_10 = Contract("tensorrt-onnx", (10, 3), max_opset=20, max_ir=10)
SOURCE = Source(files=("test",), sha256="0" * 64, format="caffe")
Tensors = Mapping[str, NDArray[np.generic]]


def network(heads: SsdHeads | None, nms: Nms, *, flat: bool = True, priors: int = 1, opset: int = 13) -> Detector:
    """A detector whose heads are copies of its two inputs: ``x`` offsets and ``y`` scores."""
    count, classes = (len(heads.priors), heads.classes) if heads else (priors, 2)
    shapes = ([1, count * 4], [1, count * classes]) if flat else ([1, count, 4], [1, count, classes])
    x, y = gs.Variable("x", np.float32, shapes[0]), gs.Variable("y", np.float32, shapes[1])
    locations, scores = gs.Variable("locations", np.float32, shapes[0]), gs.Variable("scores", np.float32, shapes[1])
    nodes = [gs.Node("Identity", "a", {}, [x], [locations]), gs.Node("Identity", "b", {}, [y], [scores])]
    graph = gs.Graph(nodes, [x, y], [locations, scores], name="heads", opset=opset, ir_version=8)
    return Detector(graph, InputSpec("x", 1, 1), SOURCE, heads, nms, class_names=("background", "thing"))


def lower(detector: Detector, how: Detection, module: ModuleType = PASS) -> Result:
    return module.lower_detection(detector, Options(Contract("onnxruntime"), detection=how))


def run(graph: gs.Graph, feeds: Tensors) -> dict[str, NDArray[np.generic]]:
    """Run a graph in ONNX Runtime, which must have nothing to complain about."""
    model = gs.export_onnx(graph)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = {i.name: feeds[i.name].reshape(i.shape) for i in session.get_inputs()}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))


def plugin_of(result: Result, op: str) -> gs.Node:
    (node,) = (node for node in result.detector.graph.nodes if node.op == op)
    return node


def run_plugin(result: Result, op: str, feeds: Tensors) -> dict[str, NDArray[np.generic]]:
    """Run the graph up to the plugin, then the plugin's reference; outputs by name."""
    graph = result.detector.graph.copy()
    (node,) = (node for node in graph.nodes if node.op == op)
    inputs, outputs = list(node.inputs), [tensor.name for tensor in node.outputs]
    graph.nodes.remove(node)
    graph.outputs = [tensor for tensor in inputs if isinstance(tensor, gs.Variable)]
    ran = run(graph, feeds)
    values = [ran[t.name] if isinstance(t, gs.Variable) else t.values for t in inputs]
    for tensor, value in zip(inputs, values, strict=True):
        assert list(tensor.shape) == list(value.shape)
    if op == "NMS_TRT":
        return {outputs[0]: nms_plugin(*values, node.attrs)}
    made = efficient_nms(*values, node.attrs)
    return dict(zip(outputs, (made[key] for key in ("count", "boxes", "scores", "classes")), strict=True))


def feeds_of(case: HeadsCase) -> Tensors:
    return {"x": case.offsets, "y": case.scores}


def on_host(case: HeadsCase) -> Detections:
    outputs = {"locations": case.offsets, "scores": case.scores}
    return read_detections(network(case.heads, case.nms), outputs)


def same(got: Detections, expected: Detections) -> bool:
    """Same classes and scores in the same order, boxes to the rounding of an exponential."""
    return (
        np.array_equal(got.classes, expected.classes)
        and np.array_equal(got.scores, expected.scores)
        and np.allclose(got.boxes, expected.boxes, rtol=1e-5, atol=1e-6)
    )


def in_graph(case: HeadsCase, module: ModuleType = PASS, *, flat: bool = True) -> Detections:
    result = lower(network(case.heads, case.nms, flat=flat), "onnx-nms", module)
    return read_detections(result.detector, run(result.detector.graph, feeds_of(case)))


# ---- onnx-nms -------------------------------------------------------------------------------------------------------


@settings(max_examples=examples(40))
@given(heads_cases())
def test_onnx_nms_finds_what_the_host_finds(case: HeadsCase) -> None:
    assert same(in_graph(case, flat=len(case.scores) % 2 == 0), on_host(case))


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        pytest.param("    kept = _limit(nms.top_k, count)", "    kept = count", lambda case: case.nms.top_k >= 0, id="top_k after suppression"),
        pytest.param("if label != heads.background]", "]", lambda case: True, id="background not skipped"),
        pytest.param('tail.constant("labels", labels, ', 'tail.constant("labels", range(len(labels)), ', lambda case: True, id="classes count without background"),
        pytest.param("if not heads.variance_encoded:", "if True:", lambda case: case.heads.variance_encoded, id="encoded variance applied"),
        pytest.param("[1, 0, 3, 2] if heads.y_first else [0, 1, 2, 3]", "[0, 1, 2, 3]", lambda case: case.heads.y_first, id="y_first ignored"),
        pytest.param("heads.variances[None][:, :, x_first]", "heads.variances[None]", lambda case: case.heads.y_first, id="variances of the other side"),
        pytest.param("    if heads.clip:", "    if False:", lambda case: case.heads.clip, id="not clipped"),
        pytest.param('    if heads.box_coding == "center_size":\n        return boxes\n', "    return boxes\n", lambda case: case.heads.box_coding != "center_size", id="reversed boxes overlap"),
        pytest.param("    if nms.keep_top_k >= 0:", "    if False:", lambda case: case.nms.keep_top_k >= 0, id="keep_top_k forgotten"),
    ],
)  # fmt: skip
def test_planted_bugs_are_caught(old: str, new: str, where: Callable[[HeadsCase], bool]) -> None:
    """Only cases that can show the bug are run."""
    buggy = mutant(PASS, old, new)
    shown = find_example(heads_cases(), lambda case: where(case) and not same(in_graph(case, buggy), on_host(case)))
    assert not same(in_graph(shown, buggy), on_host(shown))
    assert same(in_graph(shown), on_host(shown))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.folder)
def test_onnx_nms_finds_what_opencv_finds(assets: Path, model: CaffeSsd) -> None:
    for seen in run_caffe(assets, model):
        case = HeadsCase(seen.heads, seen.offsets, seen.scores, seen.nms)
        assert_same_detections(in_graph(case), seen.detections, score_atol=1e-6, min_iou=0.9999)


def test_onnx_nms_ends_in_boxes_scores_classes() -> None:
    heads = SsdHeads("locations", "scores", np.float32([[0, 0, 1, 1]] * 5), np.ones((5, 4), np.float32), classes=3)
    result = lower(network(heads, Nms(top_k=2)), "onnx-nms")
    assert result.changed
    assert result.detector.heads is None
    assert result.detector.class_names == ("background", "thing")
    outputs = {tensor.name: (tensor.dtype, len(tensor.shape)) for tensor in result.detector.graph.outputs}
    assert outputs == {
        "detection_boxes": (np.float32, 2),
        "detection_scores": (np.float32, 1),
        "detection_classes": (np.int64, 1),
    }
    added = [node.name for node in result.detector.graph.nodes if node.op != "Identity"]
    assert all(name.startswith("detection/") for name in added)


def test_names_in_use_are_left_alone() -> None:
    heads = SsdHeads("locations", "scores", np.float32([[0, 0, 1, 1]]), np.ones((1, 4), np.float32), classes=2)
    detector = network(heads, Nms())
    detector.graph.nodes[0].name = "detection/suppress"
    detector.graph.inputs[0].name = "detection_boxes"
    result = lower(detector, "onnx-nms")
    described = result.detector.detections
    assert described is not None
    assert described.boxes not in ("detection_boxes", "")
    offsets, scores = np.zeros((1, 4), np.float32), np.float32([[0.1, 0.9]])
    found = read_detections(result.detector, run(result.detector.graph, {"detection_boxes": offsets, "y": scores}))
    assert found.boxes.tolist() == [[0, 0, 1, 1]]


# ---- efficient-nms --------------------------------------------------------------------------------------------------


@settings(max_examples=examples(60))
@given(heads_cases())
def test_efficient_nms_finds_what_the_host_finds(case: HeadsCase) -> None:
    case = replace(case, nms=replace(case.nms, top_k=-1))  # the plugin has no limit a class
    result = lower(network(case.heads, case.nms), "efficient-nms")
    assert result.notes == ()
    found = read_detections(result.detector, run_plugin(result, "EfficientNMS_TRT", feeds_of(case)))
    expected = on_host(case)
    expected.boxes[:, 2:] = np.maximum(expected.boxes[:, :2], expected.boxes[:, 2:])  # fed without reversed sides
    assert same(found, expected)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("_just_above(nms.score_threshold)", "nms.score_threshold", id="scores at the threshold stay"),
        pytest.param("_just_above(nms.iou_threshold)", "nms.iou_threshold", id="boxes at the threshold fall"),
        pytest.param('"background_class": -1 if heads.background is None else heads.background', '"background_class": -1', id="background not skipped"),
    ],
)  # fmt: skip
def test_planted_plugin_bugs_are_caught(old: str, new: str) -> None:
    buggy = mutant(PASS, old, new)

    def differs(case: HeadsCase, module: ModuleType = buggy) -> bool:
        offsets = np.zeros_like(case.offsets)  # the priors themselves, whose IoUs are exact
        case = replace(case, nms=replace(case.nms, top_k=-1), offsets=offsets)
        result = lower(network(case.heads, case.nms), "efficient-nms", module)
        found = read_detections(result.detector, run_plugin(result, "EfficientNMS_TRT", feeds_of(case)))
        return not same(found, on_host(case))

    shown = find_example(heads_cases(), differs)
    assert differs(shown)
    assert not differs(shown, PASS)


def activated(nms: Nms, op: str) -> Detector:
    """A detector of six priors whose scores come from an activation."""
    heads = SsdHeads("locations", "scores", np.float32([[0, 0, 1, 1]] * 6), np.ones((6, 4), np.float32), classes=3)
    detector = network(heads, nms, flat=False)
    detector.graph.nodes[1].op = op
    return detector


def test_no_score_threshold_becomes_the_least_that_the_plugin_validates() -> None:
    random = np.random.default_rng(0)
    feeds = {name: random.normal(size=(1, 6, n)).astype(np.float32) for name, n in (("x", 4), ("y", 3))}
    detector = activated(Nms(score_threshold=-3.4e38), "Softmax")
    scores = run(detector.graph, feeds)["scores"]
    assert detector.heads is not None
    result = lower(detector, "efficient-nms")
    assert plugin_of(result, "EfficientNMS_TRT").attrs["score_threshold"] == 0.0
    assert refusals(result.detector.graph, TENSORRT_10) == []
    found = read_detections(result.detector, run_plugin(result, "EfficientNMS_TRT", feeds))
    case = HeadsCase(detector.heads, feeds["x"], scores, detector.nms)
    assert same(found, on_host(case))


@pytest.mark.parametrize(
    ("nms", "op", "reason"),
    [
        (Nms(score_threshold=-1.0), "Identity", "scores may be negative"),
        (Nms(iou_threshold=-0.5), "Softmax", "IoU threshold is -0.5"),
        (Nms(keep_top_k=0), "Softmax", "keeps no detections"),
        (Nms(top_k=0), "Softmax", "keeps no detections"),
    ],
)
def test_what_the_plugin_would_refuse_is_decoded_on_the_host(nms: Nms, op: str, reason: str) -> None:
    result = lower(activated(nms, op), "efficient-nms")
    assert not result.changed
    assert [note.code for note in result.notes] == ["detection-raw"]
    assert reason in result.notes[0].reason


def test_efficient_nms_node_is_what_the_plugin_reads() -> None:
    heads = SsdHeads("locations", "scores", np.float32([[0, 0, 1, 1]] * 6), np.ones((6, 4), np.float32), classes=3)
    result = lower(network(heads, Nms(keep_top_k=7)), "efficient-nms")
    node = plugin_of(result, "EfficientNMS_TRT")
    assert set(node.attrs) == {
        "plugin_version",
        "score_threshold",
        "iou_threshold",
        "max_output_boxes",
        "background_class",
        "score_activation",
        "box_coding",
    }  # TensorRT 8.0's fields: class_agnostic came with 8.6
    assert node.attrs["plugin_version"] == "1"
    assert (node.attrs["background_class"], node.attrs["max_output_boxes"], node.attrs["box_coding"]) == (0, 7, 0)
    assert [list(tensor.shape) for tensor in node.inputs] == [[1, 6, 4], [1, 6, 3]]
    assert [(t.name, list(t.shape), np.dtype(t.dtype).name) for t in node.outputs] == [
        ("num_detections", [1, 1], "int32"),
        ("detection_boxes", [1, 7, 4], "float32"),
        ("detection_scores", [1, 7], "float32"),
        ("detection_classes", [1, 7], "int32"),
    ]
    assert [tensor.name for tensor in result.detector.graph.outputs] == [tensor.name for tensor in node.outputs]
    onnx.checker.check_model(gs.export_onnx(result.detector.graph))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.folder)
def test_efficient_nms_on_real_pictures(assets: Path, model: CaffeSsd) -> None:
    """The plugin's other limit changes only detections that no application looks at."""
    seen = run_caffe(assets, model)[0]
    case = HeadsCase(seen.heads, seen.offsets, seen.scores, seen.nms)
    result = lower(network(case.heads, case.nms), "efficient-nms")
    assert [note.code for note in result.notes] == ["detection-limits"]
    found = read_detections(result.detector, run_plugin(result, "EfficientNMS_TRT", feeds_of(case)))
    likely, expected = (
        Detections(d.boxes[d.scores > 0.15], d.scores[d.scores > 0.15], d.classes[d.scores > 0.15])
        for d in (found, seen.detections)
    )
    assert len(expected) > 0
    assert_same_detections(likely, expected, score_atol=1e-6, min_iou=0.9999)


# ---- nms-plugin -----------------------------------------------------------------------------------------------------


@settings(max_examples=examples(60))
@given(heads_cases())
def test_nms_plugin_finds_what_the_host_finds(case: HeadsCase) -> None:
    case = replace(case, heads=replace(case.heads, clip=False))  # the plugin clips after suppression
    result = lower(network(case.heads, case.nms), "nms-plugin")
    assume("detection-limits" not in {note.code for note in result.notes})
    found = read_detections(result.detector, run_plugin(result, "NMS_TRT", feeds_of(case)))
    expected = on_host(case)
    assert same(found, replace(expected, boxes=np.clip(expected.boxes, 0, 1)))


def test_nms_plugin_node_is_what_the_plugin_reads() -> None:
    heads = SsdHeads(
        "locations",
        "scores",
        np.float32([[0, 0, 1, 1]] * 6),
        np.full((6, 4), 0.1, np.float32),
        classes=3,
        background=None,
        box_coding="corner_size",
    )
    result = lower(network(heads, Nms(top_k=5, keep_top_k=4)), "nms-plugin")
    node = plugin_of(result, "NMS_TRT")
    assert node.attrs == {
        "plugin_version": "1",
        "shareLocation": 1,
        "varianceEncodedInTarget": 0,
        "backgroundLabelId": -1,
        "numClasses": 3,
        "topK": 5,
        "keepTopK": 4,
        "confidenceThreshold": pytest.approx(0.01, abs=0, rel=1e-9),
        "nmsThreshold": pytest.approx(0.45, abs=0, rel=1e-9),
        "inputOrder": [0, 1, 2],
        "confSigmoid": 0,
        "isNormalized": 1,
        "codeType": 2,
    }
    assert [list(tensor.shape) for tensor in node.inputs] == [[1, 24, 1, 1], [1, 18, 1, 1], [1, 2, 24, 1]]
    assert [list(tensor.shape) for tensor in node.outputs] == [[1, 1, 4, 7], [1, 1, 1, 1]]
    assert [tensor.name for tensor in result.detector.graph.outputs] == ["detections"]
    assert {note.code for note in result.notes} == {"detection-clipped", "detection-unproven"}
    onnx.checker.check_model(gs.export_onnx(result.detector.graph))


def test_nms_plugin_never_keeps_more_than_top_k() -> None:
    heads = SsdHeads("locations", "scores", np.float32([[0, 0, 1, 1]] * 9), np.ones((9, 4), np.float32), classes=3)
    result = lower(network(heads, Nms(top_k=3, keep_top_k=8)), "nms-plugin")
    assert plugin_of(result, "NMS_TRT").attrs["keepTopK"] == 3
    assert "detection-limits" in {note.code for note in result.notes}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.folder)
def test_nms_plugin_on_real_pictures(assets: Path, model: CaffeSsd) -> None:
    seen = run_caffe(assets, model)[0]
    case = HeadsCase(seen.heads, seen.offsets, seen.scores, seen.nms)
    result = lower(network(case.heads, case.nms), "nms-plugin")
    found = read_detections(result.detector, run_plugin(result, "NMS_TRT", feeds_of(case)))
    assert same(found, replace(seen.detections, boxes=np.clip(seen.detections.boxes, 0, 1)))


# ---- what stays as it is --------------------------------------------------------------------------------------------


def test_raw_heads_stay() -> None:
    heads = SsdHeads("locations", "scores", np.float32([[0, 0, 1, 1]]), np.ones((1, 4), np.float32), classes=2)
    detector = network(heads, Nms())
    result = lower(detector, "raw")
    assert result == Result(detector, changed=False)


@pytest.mark.parametrize("how", ["raw", "onnx-nms", "efficient-nms", "nms-plugin"])
def test_an_opaque_network_stays_and_says_so(how: Detection) -> None:
    detector = network(None, Nms())
    result = lower(detector, how)
    assert result.detector is detector
    assert not result.changed
    assert [note.code for note in result.notes] == ["opaque"]


def test_a_lowered_network_is_not_lowered_again() -> None:
    heads = SsdHeads("locations", "scores", np.float32([[0, 0, 1, 1]]), np.ones((1, 4), np.float32), classes=2)
    once = lower(network(heads, Nms()), "onnx-nms")
    assert lower(once.detector, "efficient-nms") == Result(once.detector, changed=False)


def test_an_old_operator_set_is_decoded_on_the_host() -> None:
    heads = SsdHeads("locations", "scores", np.float32([[0, 0, 1, 1]]), np.ones((1, 4), np.float32), classes=2)
    result = lower(network(heads, Nms(), opset=9), "onnx-nms")
    assert not result.changed
    assert [note.code for note in result.notes] == ["detection-raw"]
    assert "operator set is 9" in result.notes[0].reason


def test_a_network_of_background_alone_stays() -> None:
    heads = SsdHeads("locations", "scores", np.float32([[0, 0, 1, 1]]), np.ones((1, 4), np.float32), classes=1)
    result = lower(network(heads, Nms()), "onnx-nms")
    assert not result.changed
    assert [note.code for note in result.notes] == ["detection-raw"]
