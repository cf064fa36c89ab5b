"""Average precision against cases worked by hand and against pycocotools."""

from __future__ import annotations

import math

import numpy as np
import pytest
from examples import examples
from hypothesis import given, settings
from strategies import AccuracyCase, accuracy_cases

from deploycc.evaluation.coco import THRESHOLDS, coco_scores
from deploycc.evaluation.truth import Predictions, Truth, pairwise_iou
from deploycc.evaluation.voc import mean_ap, voc_scores


def truth(boxes: list[list[float]], difficult: list[bool] | None = None) -> Truth:
    return Truth(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.zeros(len(boxes), np.int64),
        np.array(difficult or [False] * len(boxes), np.bool_),
    )


def found(boxes: list[list[float]], scores: list[float]) -> Predictions:
    return Predictions(np.array(boxes, np.float32).reshape(-1, 4), np.zeros(len(boxes), np.int64), np.float32(scores))


ONE, TWO, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60]


def test_everything_found_is_one() -> None:
    score = voc_scores([truth([ONE, TWO])], [found([ONE, TWO], [0.9, 0.8])], 1)[0]
    assert (score.area, score.eleven_point, score.objects) == (1.0, 1.0, 2)


def test_a_wrong_detection_between_two_right_ones() -> None:
    """Precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1: area 1/2 + 1/3; six of eleven points at 1, five at 2/3."""
    score = voc_scores([truth([ONE, TWO])], [found([ONE, FAR, TWO], [0.9, 0.8, 0.7])], 1)[0]
    assert math.isclose(score.area, 0.5 + 1 / 3, rel_tol=1e-12)
    assert math.isclose(score.eleven_point, (6 + 5 * 2 / 3) / 11, rel_tol=1e-12)


def test_a_second_detection_of_one_object_is_wrong() -> None:
    score = voc_scores([truth([ONE, TWO])], [found([ONE, ONE, TWO], [0.9, 0.8, 0.7])], 1)[0]
    assert math.isclose(score.area, 0.5 + 1 / 3, rel_tol=1e-12)


def test_difficult_objects_count_neither_way() -> None:
    score = voc_scores([truth([ONE, TWO], [False, True])], [found([TWO, TWO, ONE], [0.9, 0.8, 0.7])], 1)[0]
    assert (score.area, score.objects) == (1.0, 1)


def test_the_overlap_must_reach_the_threshold() -> None:
    half = [0, 0, 10, 5]
    assert voc_scores([truth([ONE])], [found([half], [0.9])], 1, iou_threshold=0.5)[0].area == 1.0
    assert voc_scores([truth([ONE])], [found([half], [0.9])], 1, iou_threshold=0.51)[0].area == 0.0


def test_classes_without_objects_are_left_out_of_the_mean() -> None:
    scores = voc_scores([truth([ONE])], [found([ONE], [0.9])], 3)
    assert [score.objects for score in scores] == [1, 0, 0]
    assert mean_ap(scores) == 1.0
    assert math.isnan(mean_ap(scores[1:]))


def test_iou_of_boxes_without_area_is_zero() -> None:
    assert pairwise_iou(np.float32([[1, 1, 1, 5]]), np.float32([[0, 0, 9, 9], [1, 1, 1, 5]])).tolist() == [[0.0, 0.0]]


@pytest.mark.filterwarnings("error")
def test_a_box_without_end_overlaps_nothing() -> None:
    endless = np.float32([[-np.inf, 2, np.inf, 2], [-np.inf, 0, np.inf, 4], [0, -np.inf, 1, np.inf]])
    assert not pairwise_iou(endless, np.float32([[0, 0, 9, 9], *endless])).any()


@given(accuracy_cases())
@settings(max_examples=examples(40))
def test_scores_are_those_of_pycocotools(case: AccuracyCase) -> None:
    """COCO's evaluation, with its own recalls and with the eleven of VOC; objects do not overlap one another."""
    expected = pycoco_precision(case, np.linspace(0, 1, 101))
    for label, score in enumerate(coco_scores(case.truths, case.predictions, case.classes)):
        if not score.objects:
            continue
        assert score.ap == pytest.approx(expected[:, label].mean(), rel=0, abs=1e-9)
        assert score.ap50 == pytest.approx(expected[0, label], rel=0, abs=1e-9)
        assert score.ap75 == pytest.approx(expected[5, label], rel=0, abs=1e-9)
    eleven = pycoco_precision(case, np.arange(11) * 0.1)
    for label, voc in enumerate(voc_scores(case.truths, case.predictions, case.classes)):
        if voc.objects:
            assert voc.eleven_point == pytest.approx(eleven[0, label], rel=0, abs=1e-9)


def pycoco_precision(case: AccuracyCase, recalls: np.ndarray) -> np.ndarray:
    """[thresholds, classes] mean precision as pycocotools computes it; -1 for classes without objects."""
    coco_api = pytest.importorskip("pycocotools.coco", reason="pycocotools, of the extra test, is not installed")
    from contextlib import redirect_stdout
    from io import StringIO

    from pycocotools.cocoeval import COCOeval

    annotations, results = [], []
    for picture, (one, other) in enumerate(zip(case.truths, case.predictions, strict=True), start=1):
        for box, label, hard in zip(one.boxes, one.classes, one.difficult, strict=True):
            x0, y0, x1, y1 = (float(v) for v in box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": picture,
                    "category_id": int(label),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                    "ignore": int(hard),
                }
            )
        for box, label, score in zip(other.boxes, other.classes, other.scores, strict=True):
            x0, y0, x1, y1 = (float(v) for v in box)
            results.append([picture, x0, y0, x1 - x0, y1 - y0, float(score), int(label)])
    with redirect_stdout(StringIO()):
        gold = coco_api.COCO()
        gold.dataset = {
            "images": [{"id": n + 1} for n in range(len(case.truths))],
            "annotations": annotations,
            "categories": [{"id": k} for k in range(case.classes)],
        }
        gold.createIndex()
        guess = gold.loadRes(np.array(results).reshape(-1, 7)) if results else coco_api.COCO()
        evaluation = COCOeval(gold, guess, "bbox")
        evaluation.params.imgIds = [n + 1 for n in range(len(case.truths))]
        evaluation.params.catIds = list(range(case.classes))
        evaluation.params.iouThrs = THRESHOLDS
        evaluation.params.recThrs = recalls
        evaluation.evaluate()

        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1].mean(1)
