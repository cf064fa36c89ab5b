"""Suppression on the host agrees with Caffe's layer, written down box by box."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from detection_reference import detection_output
from examples import examples
from hypothesis import given, settings
from mutation import find_example, mutant
from strategies import SuppressionCase, suppression_cases

from deploycc.detector import Nms
from deploycc.evaluation import nms as nms_module
from deploycc.evaluation.nms import suppress


def agrees(case: SuppressionCase, module: ModuleType = nms_module) -> bool:
    """Whether the module's suppression gives exactly the reference's detections, in its order."""
    expected = detection_output(case.boxes, case.scores, case.nms, case.background)
    got = module.suppress(case.boxes, case.scores, case.nms, case.background)
    return (
        got.classes.tolist() == [found.label for found in expected]
        and got.scores.tolist() == [found.score for found in expected]
        and np.array_equal(got.boxes.reshape(-1), [side for found in expected for side in found.box])
    )


# every prior sampled and few candidates at first, so that small examples are cut and need more of them
ONE_BY_ONE = mutant(nms_module, "_FIRST = 6", "_FIRST = 1")
ONE_BY_ONE._STRIDE = 1


@settings(max_examples=examples(150))
@given(suppression_cases())
def test_suppression_is_caffes(case: SuppressionCase) -> None:
    assert agrees(case)


@settings(max_examples=examples(75))
@given(suppression_cases())
def test_the_number_of_candidates_looked_at_first_does_not_matter(case: SuppressionCase) -> None:
    assert agrees(case, ONE_BY_ONE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(
            '"iou": iou', '"iou": np.nextafter(iou, np.float32(0))', id="drops at the IoU threshold, not beyond"
        ),
        pytest.param("else scores > threshold", "else scores >= threshold", id="keeps scores at the threshold"),
        pytest.param("            candidates[:, background] = False", "            pass", id="background not skipped"),
        pytest.param("[nms.top_k :]]] = -np.inf", "[nms.top_k :]]] *= 1", id="top_k forgotten"),
        pytest.param("members[np.argsort(-score[members]", "members[np.argsort(score[members]", id="the worst top_k"),
        pytest.param(
            "np.bincount(label, minlength=classes) > nms", "np.bincount(label) > 1 + nms", id="one more than top_k"
        ),
        pytest.param('{"limit": np.array([len(rows)])', '{"limit": np.array([1])', id="one box per class"),
        pytest.param("    if nms.keep_top_k > -1:", "    if False:", id="keep_top_k forgotten"),
        pytest.param("by_class[label, column]", "by_class[0 * label, column]", id="classes in one row"),
        pytest.param("partial = bool(cut > threshold)", "partial = size < scores.size", id="cut below the threshold"),
        pytest.param(
            "    np.maximum(boxes[:, :2], boxes[:, 2:], out=batch[:, 2:])\n", "", id="reversed sides make an area"
        ),
        pytest.param("size *= _GROWTH", "return detections", id="the best candidates are taken for all"),
        pytest.param("order = np.argsort(-best", "order = np.argsort(best", id="worst first"),
    ],
)
def test_planted_bugs_are_caught(old: str, new: str) -> None:
    buggy = mutant(nms_module, old, new)
    buggy._FIRST, buggy._STRIDE = ONE_BY_ONE._FIRST, ONE_BY_ONE._STRIDE
    shown = find_example(suppression_cases(), lambda case: not agrees(case, buggy))
    assert not agrees(shown, buggy)
    assert agrees(shown, ONE_BY_ONE)


def test_a_box_at_the_threshold_stays() -> None:
    boxes = np.float32([[0, 0, 1, 1], [0, 0, 1, 0.5], [0, 0, 1, 0.75]])
    scores = np.float32([[0.9], [0.8], [0.7]])
    kept = suppress(boxes, scores, Nms(iou_threshold=0.5), background=None)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.8], abs=1e-7, rel=0)


def test_nothing_above_the_threshold() -> None:
    kept = suppress(np.zeros((5, 4), np.float32), np.zeros((5, 3), np.float32), Nms())
    assert len(kept) == 0
    assert kept.boxes.shape == (0, 4)


def test_every_box_of_a_large_untrained_head() -> None:
    """All priors are candidates of all classes, without limits: memory stays bounded and the result is the greedy one."""
    rng = np.random.default_rng(0)
    low = rng.random((3000, 2), np.float32)
    boxes = np.concatenate([low, low + 0.05], axis=1)
    scores = rng.random((3000, 2), np.float32)
    nms = Nms(top_k=-1, keep_top_k=-1)
    kept = suppress(boxes, scores, nms, background=0)
    best = boxes[np.argmax(scores[:, 1])]
    assert np.array_equal(kept.boxes[0], best)
    assert np.all(np.diff(kept.scores) <= 0)
    again = suppress(kept.boxes, kept.scores[:, None], nms, background=None)
    assert len(again) == len(kept)  # what was kept does not overlap


def test_infinite_and_undefined_values_do_no_harm() -> None:
    boxes = np.float32([[-np.inf, 0, np.inf, 1], [0, 0, 1, 1], [np.nan, 0, 1, 1]])
    scores = np.float32([[0.9], [0.8], [np.nan]])
    kept = suppress(boxes, scores, Nms(), background=None)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.8], abs=1e-7, rel=0)
