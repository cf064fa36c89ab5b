"""Heads before a suppression that is spelled out in the graph, as exporters of whole detectors write it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from ssd_tail_edits import TAIL, add, codes, constant, give, load
from ssd_tails import build

from deploycc.detector import Nms
from deploycc.errors import ModelError


def test_heads_are_found_before_a_suppression_for_each_class(tmp_path: Path) -> None:
    """As TensorFlow writes it: one suppression per class, the background left out, the scores outside the outputs."""
    model = build(TAIL)
    del model.graph.output[:]
    limits = [constant(model, "most", 5, np.int64), constant(model, "overlap", 0.6), constant(model, "least", 0.3)]
    axis = constant(model, "axis", [2], np.int64)
    for label in (1, 2):
        ends = [
            constant(model, f"{name}{label}", [value], np.int64) for name, value in (("b", label), ("e", label + 1))
        ]
        add(model, "Slice", ["scores", *ends, axis], f"of{label}")
        add(model, "Transpose", [f"of{label}"], f"row{label}", perm=[0, 2, 1])
        add(model, "NonMaxSuppression", ["boxes", f"row{label}", *limits], f"kept{label}")
        give(model, f"kept{label}", ["n", 3], onnx.TensorProto.INT64)
    detector = load(model, tmp_path)
    heads = detector.heads
    assert heads is not None
    assert (heads.scores, heads.classes, heads.background) == ("scores", 3, 0)
    assert detector.nms == Nms(score_threshold=float(np.float32(0.3)), iou_threshold=float(np.float32(0.6)))
    assert {"ssd-background-found", "ssd-nms-removed", "ssd-nms-limit"} <= codes(detector)


def suppressed(most: int | None, overlap: float, form: str = "corners", **attrs: int) -> onnx.ModelProto:
    """A network whose boxes and scores go into one NonMaxSuppression."""
    model = build(replace(TAIL, form=form))  # type: ignore[arg-type]
    add(model, "Transpose", ["scores"], "turned", perm=[0, 2, 1])
    limits = [] if most is None else [constant(model, "most", most, np.int64), constant(model, "overlap", overlap)]
    add(model, "NonMaxSuppression", ["boxes", "turned", *limits], "kept", **attrs)
    give(model, "kept", ["n", 3], onnx.TensorProto.INT64)
    return model


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            suppressed(9, 0.5, center_point_box=1),
            "it takes boxes as centre and size (center_point_box), but boxes holds",
        ),
        (suppressed(0, 0.5), "it keeps 0 boxes per class (max_output_boxes_per_class), so the file detects nothing"),
        (suppressed(None, 0.5), "it keeps 0 boxes per class"),
        (suppressed(-1, 0.5), "it keeps -1 boxes per class"),
    ],
)
def test_a_suppression_that_finds_other_boxes_is_not_cut(model: onnx.ModelProto, says: str, tmp_path: Path) -> None:
    """All of these were replaced in silence by a suppression of corners with limits of its own."""
    detector = load(model, tmp_path)
    assert detector.heads is None
    [note] = [note for note in detector.notes if note.code == "ssd-nms-unlike"]
    assert says in note.reason


def test_centred_boxes_that_are_suppressed_as_such_are_heads(tmp_path: Path) -> None:
    assert load(suppressed(9, 0.5, "centre", center_point_box=1), tmp_path).heads is not None


@pytest.mark.parametrize("overlap", [2.0, -1.0])
def test_an_overlap_outside_the_standard_is_refused(overlap: float, tmp_path: Path) -> None:
    """It became a traceback of ONNX Runtime's operator."""
    with pytest.raises(ModelError) as caught:
        load(suppressed(9, overlap), tmp_path)
    assert caught.value.message == f"NonMaxSuppression has the overlap threshold {overlap:g}, outside 0..1"


def test_a_selection_of_the_worst_boxes_is_not_cut(tmp_path: Path) -> None:
    model = build(replace(TAIL, best=5))
    [selects] = [node for node in model.graph.node if node.op_type == "TopK"]
    selects.attribute.append(onnx.helper.make_attribute("largest", 0))
    detector = load(model, tmp_path)
    assert detector.heads is None
    assert "ssd-nms-unlike" in codes(detector)


def test_thresholds_and_limits_around_a_suppression_inside_a_branch(tmp_path: Path) -> None:
    """As torchvision writes it: scores compared, the best taken, suppression in a branch, the best of all classes."""
    model = build(TAIL)
    del model.graph.output[:]
    for name, value in (("i1", [1]), ("flat4", [-1, 4]), ("none", [0]), ("top", [7]), ("last", [3]), ("first", [0])):
        constant(model, name, value, np.int64)
    add(model, "Gather", ["scores", constant(model, "one", 1, np.int64)], "of1", axis=2)
    add(model, "Reshape", ["of1", constant(model, "flat", [-1], np.int64)], "row")
    add(model, "Reshape", ["boxes", "flat4"], "corners")
    add(model, "Greater", ["row", constant(model, "limit", 0.25)], "above")
    add(model, "NonZero", ["above"], "where")
    add(model, "Transpose", ["where"], "places", perm=[1, 0])
    add(model, "GatherND", ["row", "places"], "good")
    add(model, "GatherND", ["corners", "places"], "good_boxes")
    add(model, "Shape", ["good"], "amount")
    add(model, "Concat", ["top", "amount"], "counts", axis=0)
    add(model, "ReduceMin", ["counts"], "least", keepdims=1)
    model.graph.node.append(onnx.helper.make_node("TopK", ["good", "least"], ["best", "index"]))
    add(model, "Gather", ["good_boxes", "index"], "best_boxes", axis=0)
    add(model, "Shape", ["good_boxes"], "left")
    add(model, "ReduceProd", ["left"], "number", keepdims=0)
    add(model, "Cast", ["number"], "any", to=onnx.TensorProto.BOOL)
    add(model, "Reshape", ["any", constant(model, "scalar", [], np.int64)], "some")
    suppress = onnx.parser.parse_graph("""then () => (int64[n] kept) {
        overlap = Constant <value = float[1] {0.55}> ()
        most = Constant <value = int64[1] {9223372036854775807}> ()
        axes = Constant <value = int64[1] {0}> ()
        both = Constant <value = int64[2] {0, 1}> ()
        b = Unsqueeze (best_boxes, axes)
        s = Unsqueeze (best, both)
        rows = NonMaxSuppression (b, s, most, overlap)
        two = Constant <value = int64 {2}> ()
        kept = Gather <axis = 1> (rows, two)
    }""")
    nothing = onnx.parser.parse_graph("otherwise () => (int64[n] empty) { empty = Constant <value = int64[0] {}> () }")
    add(model, "If", ["some"], "kept", then_branch=suppress, else_branch=nothing)
    add(model, "Slice", ["kept", "first", "last", "none"], "few")
    add(model, "Gather", ["best_boxes", "few"], "found", axis=0)
    give(model, "found", ["n", 4])
    detector = load(model, tmp_path)
    assert detector.heads is not None, detector.notes
    nms = detector.nms
    assert (round(nms.score_threshold, 6), round(nms.iou_threshold, 6)) == (0.25, 0.55)
    assert (nms.top_k, nms.keep_top_k) == (7, 3)
