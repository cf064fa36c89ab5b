from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from ssd_tails import Tail, build, grid_priors, to_corners
from strategies import ssd_tails

from deploycc.detector import Detector
from deploycc.errors import ModelError
from deploycc.evaluation.decode import decode_boxes
from deploycc.importers import onnx_file
from deploycc.importers.description import Description, HeadsDescription

PRIORS = grid_priors((3, 4), np.array([[0.25, 0.5], [0.5, 0.25]], dtype=np.float32))
VARIANCES = np.tile(np.array([0.1, 0.1, 0.2, 0.2], dtype=np.float32), (len(PRIORS), 1))
TAIL = Tail(grid=(3, 4), centres=PRIORS, variances=VARIANCES)


def run(model: onnx.ModelProto, picture: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"data": picture}), strict=True))


def load(model: onnx.ModelProto, folder: Path) -> Detector:
    path = folder / "tail.onnx"
    onnx.save(model, path)
    return onnx_file.load(path)


def codes(detector: Detector) -> set[str]:
    return {note.code for note in detector.notes}


@given(tail=ssd_tails())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_spelling_is_recognised_and_decodes_to_the_files_own_boxes(tail: Tail, tmp_path: Path) -> None:
    model = build(tail)
    detector = load(model, tmp_path)
    heads = detector.heads
    assert heads is not None, detector.notes
    np.testing.assert_allclose(heads.priors, tail.corners, rtol=0, atol=1e-6)
    np.testing.assert_allclose(heads.variances, tail.variances, rtol=1e-4, atol=0)
    assert (heads.y_first, heads.clip, heads.classes) == (tail.y_offsets, tail.clip, tail.classes)

    picture = np.random.default_rng(tail.seed).uniform(-1, 1, detector.input.shape).astype(np.float32)
    raw = run(gs.export_onnx(detector.graph), picture)
    own = decode_boxes(raw[heads.locations].reshape(-1, 4), heads)
    whole = run(build(replace(tail, nms=False)), picture)
    expected = to_corners(tail, whole["boxes"])
    np.testing.assert_allclose(own, expected, rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(raw[heads.scores].reshape(-1), whole["scores"].reshape(-1), rtol=0, atol=1e-6)


@given(tail=ssd_tails())
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("distortion", ["tanh", "softplus", "coupled", "rows"])
def test_other_decodings_stay_in_the_graph(distortion: str, tail: Tail, tmp_path: Path) -> None:
    detector = load(build(replace(tail, distortion=distortion, nms=False, seed=1)), tmp_path)
    if distortion in ("tanh", "rows") and detector.heads is not None:
        # legitimate: the distortion itself stays in the network, the decoding after it is cut off
        heads = detector.heads
        picture = np.random.default_rng(1).uniform(-1, 1, detector.input.shape).astype(np.float32)
        own = decode_boxes(run(gs.export_onnx(detector.graph), picture)[heads.locations].reshape(-1, 4), heads)
        whole = run(build(replace(tail, distortion=distortion, nms=False, seed=1)), picture)
        np.testing.assert_allclose(own, to_corners(tail, whole["boxes"]), rtol=1e-5, atol=2e-5)
        return
    assert detector.heads is None
    assert [output.name for output in detector.graph.outputs] == ["boxes", "scores"]
    assert "ssd-decoding-unknown" in codes(detector)


def describe(model: onnx.ModelProto, folder: Path, heads: HeadsDescription) -> Detector:
    path = folder / "tail.onnx"
    onnx.save(model, path)
    return onnx_file.load(path, Description(heads=heads))


def test_a_following_nms_gives_its_thresholds(tmp_path: Path) -> None:
    detector = load(build(replace(TAIL, nms=True)), tmp_path)
    assert (detector.nms.iou_threshold, detector.nms.score_threshold) == (0.5, 0.25)
    assert "ssd-nms-removed" in codes(detector)
    assert "NonMaxSuppression" not in {node.op for node in detector.graph.nodes}


def test_logits_are_not_taken_for_scores(tmp_path: Path) -> None:
    model = build(replace(TAIL, logits=True, seed=3))
    detector = load(model, tmp_path)
    assert detector.heads is None
    assert codes(detector) == {"input-assumed", "ssd-scores-logits"}
    assert [output.name for output in detector.graph.outputs] == ["boxes", "scores"]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_described_activation_is_appended_to_logits(activation: str, tmp_path: Path) -> None:
    model = build(replace(TAIL, logits=True, seed=3))
    wanted = HeadsDescription.model_validate({"activation": activation})
    detector = describe(model, tmp_path, wanted)
    assert detector.heads is not None
    picture = np.random.default_rng(0).uniform(-1, 1, detector.input.shape).astype(np.float32)
    logits = run(model, picture)["scores"].astype(np.float64)
    exp = np.exp(logits)
    expected = exp / exp.sum(axis=2, keepdims=True) if activation == "softmax" else 1 / (1 + 1 / exp)
    found = run(gs.export_onnx(detector.graph), picture)[detector.heads.scores]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=0)


def test_an_activation_that_is_there_is_not_doubled(tmp_path: Path) -> None:
    detector = describe(build(TAIL), tmp_path, HeadsDescription(activation="softmax"))
    assert detector.heads is not None
    assert detector.heads.scores == "scores"
    with pytest.raises(ModelError) as caught:
        describe(build(TAIL), tmp_path, HeadsDescription(activation="sigmoid"))
    assert caught.value.message == "the description asks for a sigmoid, but the network already ends in a softmax"


def test_the_background_is_found_assumed_or_described(tmp_path: Path) -> None:
    model = build(replace(TAIL, seed=1))
    assumed = load(model, tmp_path)
    assert assumed.heads is not None
    assert assumed.heads.background == 0
    assert "ssd-background-assumed" in codes(assumed)

    bias = next(node for node in model.graph.node if node.op_type == "Conv" and node.name != "n0").input[2]
    tensor = next(t for t in model.graph.initializer if t.name == bias)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[1::3] += 99  # of three classes, the second wins everywhere
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, bias))
    found = load(model, tmp_path)
    assert found.heads is not None
    assert found.heads.background == 1
    assert "ssd-background-found" in codes(found)

    for described, background in (("none", None), (2, 2)):
        detector = describe(model, tmp_path, HeadsDescription.model_validate({"background": described}))
        assert detector.heads is not None
        assert detector.heads.background == background
    with pytest.raises(ModelError) as caught:
        describe(model, tmp_path, HeadsDescription(background=3))
    assert (caught.value.code, caught.value.hint) == ("description-background", '0 to 2, or "none"')


def test_a_background_dropped_by_the_network_is_not_a_class(tmp_path: Path) -> None:
    model = build(TAIL)
    model.graph.output[1].CopyFrom(onnx.helper.make_tensor_value_info("rest", 1, [1, len(PRIORS), 2]))
    for name, value in (("begin", 1), ("end", 3), ("axis", 2)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value]), name))
    model.graph.node.append(onnx.helper.make_node("Slice", ["scores", "begin", "end", "axis"], ["rest"]))
    detector = load(model, tmp_path)
    assert detector.heads is not None
    assert (detector.heads.background, detector.heads.classes) == (None, 2)
    assert "ssd-no-background" in codes(detector)


def test_scores_that_lie_class_by_class_are_turned(tmp_path: Path) -> None:
    model = build(TAIL)
    model.graph.output[1].CopyFrom(onnx.helper.make_tensor_value_info("turned", 1, [1, 3, len(PRIORS)]))
    model.graph.node.append(onnx.helper.make_node("Transpose", ["scores"], ["turned"], perm=[0, 2, 1]))
    detector = load(model, tmp_path)
    assert detector.heads is not None
    picture = np.random.default_rng(0).uniform(-1, 1, detector.input.shape).astype(np.float32)
    found = run(gs.export_onnx(detector.graph), picture)[detector.heads.scores]
    assert found.shape == (1, len(PRIORS), 3)
    np.testing.assert_allclose(found[0].T, run(model, picture)["turned"][0], rtol=0, atol=1e-7)


def test_an_operator_that_cannot_be_run_here_leaves_the_network_whole(tmp_path: Path) -> None:
    model = build(TAIL)
    next(node for node in model.graph.node if node.op_type == "Exp").domain = "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    detector = load(model, tmp_path)
    assert detector.heads is None
    assert "Exp" in {node.op for node in detector.graph.nodes}
