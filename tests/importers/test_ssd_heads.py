from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from numpy.typing import NDArray
from ssd_tail_edits import PRIORS, TAIL, add, codes, constant, give, load
from ssd_tails import Tail, build, to_corners
from strategies import ssd_tails

from deploycc.detector import Detector, file
from deploycc.errors import ModelError
from deploycc.evaluation.decode import decode_boxes
from deploycc.importers import onnx_file
from deploycc.importers.description import Description, HeadsDescription
from deploycc.parsers.support import Contract
from deploycc.passes.drop_dead_priors import drop_dead_priors
from deploycc.passes.lower_detection import lower_detection
from deploycc.passes.options import Options


def run(model: onnx.ModelProto, picture: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"data": picture}), strict=True))


@given(tail=ssd_tails())
@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    whole = run(build(replace(tail, nms=False, best=None)), picture)
    expected = to_corners(tail, whole["boxes"])
    np.testing.assert_allclose(own, expected, rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(raw[heads.scores].reshape(-1), whole["scores"].reshape(-1), rtol=0, atol=1e-6)


@given(tail=ssd_tails())
@settings(max_examples=examples(8), suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("distortion", ["tanh", "softplus", "coupled", "rows"])
def test_other_decodings_stay_in_the_graph(distortion: str, tail: Tail, tmp_path: Path) -> None:
    detector = load(build(replace(tail, distortion=distortion, nms=False, best=None, seed=1)), tmp_path)
    if distortion in ("tanh", "rows") and detector.heads is not None:
        # legitimate: the distortion itself stays in the network, the decoding after it is cut off
        heads = detector.heads
        picture = np.random.default_rng(1).uniform(-1, 1, detector.input.shape).astype(np.float32)
        own = decode_boxes(run(gs.export_onnx(detector.graph), picture)[heads.locations].reshape(-1, 4), heads)
        whole = run(build(replace(tail, distortion=distortion, nms=False, best=None, seed=1)), picture)
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


def predict(model: onnx.ModelProto, name: str, width: int, rows: int) -> None:
    """Values from a convolution of their own, ``width`` for each prior."""
    weight = np.random.default_rng(5).normal(0, 1, (2 * width, 3, 1, 1))
    add(model, "Conv", ["data", constant(model, f"{name}_w", weight)], f"{name}_map", strides=[8, 8])
    add(model, "Transpose", [f"{name}_map"], f"{name}_last", perm=[0, 2, 3, 1])
    add(model, "Reshape", [f"{name}_last", constant(model, f"{name}_s", [1, rows, width], np.int64)], name)


def test_outputs_besides_the_detections_are_kept(tmp_path: Path) -> None:
    model = build(TAIL)
    predict(model, "landmarks", 10, len(PRIORS))
    give(model, "landmarks", [1, len(PRIORS), 10])
    detector = load(model, tmp_path)
    assert detector.heads is not None
    assert (detector.heads.scores, detector.extra_outputs) == ("scores", ("landmarks",))
    note = next(note for note in detector.notes if note.code == "ssd-extra-outputs")
    assert note.reason == "the network has further outputs, which are kept: landmarks [1, 24, 10]"

    file.save(detector, tmp_path / "saved.onnx")
    again = onnx_file.load(tmp_path / "saved.onnx")
    assert again.extra_outputs == ("landmarks",)
    lowered = lower_detection(again, Options(Contract("onnxruntime"), detection="onnx-nms")).detector
    assert lowered.extra_outputs == ("landmarks",)
    picture = np.random.default_rng(0).uniform(-1, 1, detector.input.shape).astype(np.float32)
    ours = run(gs.export_onnx(lowered.graph), picture)["landmarks"]
    np.testing.assert_array_equal(ours, run(model, picture)["landmarks"])

    saved = onnx.load(tmp_path / "saved.onnx")
    del saved.graph.output[2]
    onnx.save(saved, tmp_path / "saved.onnx")
    with pytest.raises(ModelError, match="describes landmarks, which its network does not have"):
        onnx_file.load(tmp_path / "saved.onnx")


def test_what_outputs_take_along_with_the_kept_boxes_is_kept(tmp_path: Path) -> None:
    model = build(replace(TAIL, nms=True))
    predict(model, "landmarks", 10, len(PRIORS))
    add(model, "Gather", ["selected", constant(model, "column", 2, np.int64)], "kept", axis=1)
    add(model, "Gather", ["landmarks", "kept"], "points", axis=1)
    give(model, "points", [1, "n", 10])
    detector = load(model, tmp_path)
    assert detector.extra_outputs == ("landmarks",)
    replaced = next(note for note in detector.notes if note.code == "ssd-outputs-replaced")
    assert replaced.reason == "the heads replace the outputs that are made of the boxes and scores: selected, points"


def test_priors_that_extra_outputs_refer_to_are_not_dropped(tmp_path: Path) -> None:
    model = build(TAIL)
    weight, bias = model.graph.node[3].input[1:]
    for tensor in model.graph.initializer:  # the second anchor's scores are constants: background
        values = onnx.numpy_helper.to_array(tensor).copy()
        if tensor.name in (weight, bias):
            values[3:] = 0 if tensor.name == weight else [9, -9, -9]
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    assert len(drop_dead_priors(load(model, tmp_path), Options(Contract("onnxruntime"))).detector.heads.priors) == 12
    predict(model, "landmarks", 10, len(PRIORS))
    give(model, "landmarks", [1, len(PRIORS), 10])
    result = drop_dead_priors(load(model, tmp_path), Options(Contract("onnxruntime")))
    assert len(result.detector.heads.priors) == 24
    assert [note.node for note in result.notes] == ["landmarks"]


def test_logits_of_an_untrained_network_are_not_taken_for_scores(tmp_path: Path) -> None:
    for logits in (True, False):
        model = build(replace(TAIL, logits=logits))
        for tensor in model.graph.initializer:
            if tensor.name in {name for node in model.graph.node if node.op_type == "Conv" for name in node.input}:
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tensor.dims, np.float32), tensor.name))
        detector = load(model, tmp_path)
        assert ("ssd-scores-logits" in codes(detector)) == logits
        assert (detector.heads is None) == logits
    # scores that are all alike show no background
    assert "ssd-background-assumed" in codes(detector)


def test_boxes_that_are_decoded_map_by_map_are_put_together(tmp_path: Path) -> None:
    upper = build(TAIL)
    lower = onnx.compose.add_prefix(build(replace(TAIL, seed=4)), "l/")
    model = onnx.compose.merge_models(upper, lower, io_map=[])
    model.graph.input.pop()
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = "data" if name == "l/data" else name
    del model.graph.output[:]
    for name in ("boxes", "scores"):
        add(model, "Concat", [name, f"l/{name}"], f"all_{name}", axis=1)
    add(model, "Clip", ["all_boxes", constant(model, "zero", 0), constant(model, "unit", 1)], "clipped")
    give(model, "clipped", [1, 48, 4])
    give(model, "all_scores", [1, 48, 3])
    detector = load(model, tmp_path)
    heads = detector.heads
    assert heads is not None, detector.notes
    assert (len(heads.priors), heads.clip) == (48, True)
    picture = np.random.default_rng(0).uniform(-1, 1, detector.input.shape).astype(np.float32)
    raw, whole = run(gs.export_onnx(detector.graph), picture), run(model, picture)
    own = decode_boxes(raw[heads.locations].reshape(-1, 4), heads)
    np.testing.assert_allclose(own, whole["clipped"][0], rtol=1e-5, atol=2e-5)
    np.testing.assert_allclose(raw[heads.scores], whole["all_scores"], rtol=0, atol=1e-6)


def test_clipping_to_another_size_is_said(tmp_path: Path) -> None:
    model = build(replace(TAIL, pixels=True))
    height, width = TAIL.picture
    limits = constant(model, "edge", [width - 1, height - 1, width - 1, height - 1])
    add(model, "Max", ["boxes", constant(model, "zero", 0)], "low")
    add(model, "Min", ["low", limits], "clipped")
    model.graph.output[0].name = "clipped"
    detector = load(model, tmp_path)
    assert detector.heads is not None
    np.testing.assert_allclose(detector.heads.priors, TAIL.corners, rtol=0, atol=1e-6)
    note = next(note for note in detector.notes if note.code == "ssd-clip-differs")
    assert note.reason == (
        "the file clips x to 0..0.9688 and y to 0..0.9583 of the picture; the compiled decoding clips to the picture"
    )


def test_scores_that_cannot_be_told_apart_can_be_named(tmp_path: Path) -> None:
    model = build(TAIL)
    predict(model, "other", 2, len(PRIORS))
    add(model, "Sigmoid", ["other"], "attributes")
    give(model, "attributes", [1, len(PRIORS), 2])
    detector = load(model, tmp_path)
    assert detector.heads is None
    note = next(note for note in detector.notes if note.code == "ssd-scores-unknown")
    assert "several tensors may hold their scores (scores [1, 24, 3], attributes [1, 24, 2])" in note.reason
    named = describe(model, tmp_path, HeadsDescription(scores="scores"))
    assert named.heads is not None
    assert (named.heads.scores, named.extra_outputs) == ("scores", ("attributes",))
    with pytest.raises(ModelError, match="scores have one row for each of 24 priors"):
        describe(model, tmp_path, HeadsDescription(scores="data"))
    with pytest.raises(ModelError, match="the file states its own heads; clip cannot be changed"):
        describe(model, tmp_path, HeadsDescription(scores="scores", clip=True))


def test_what_was_tried_is_said_in_a_few_lines(tmp_path: Path) -> None:
    detector = load(build(replace(TAIL, distortion="coupled")), tmp_path)
    note = next(note for note in detector.notes if note.code == "ssd-decoding-unknown")
    assert note.reason.startswith("no tensor is computed by an SSD decoding with priors: boxes: ")
    assert "boxes and scores may be raw offsets and scores" in note.reason
    assert len(note.reason) < 1000
