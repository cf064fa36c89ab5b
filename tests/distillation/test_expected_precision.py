"""Expected precision against what random labels give on average, and against labels that are certain."""

from __future__ import annotations

import numpy as np
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from mutation import mutant

from deploycc.distillation import expected_precision as module
from deploycc.distillation.expected_precision import expected_objects, expected_precision
from deploycc.evaluation.nms import Detections
from deploycc.evaluation.truth import Predictions, Truth
from deploycc.evaluation.voc import voc_scores


def detections(rng: np.random.Generator, count: int, scores: np.ndarray | None = None) -> Detections:
    """Boxes that overlap now and then, in two classes."""
    corners = rng.integers(0, 3, (count, 2)) / 4
    boxes = np.concatenate([corners, corners + 0.2 + rng.uniform(0, 0.1, (count, 2))], axis=1).astype(np.float32)
    values = rng.uniform(0.05, 1, count) if scores is None else scores
    return Detections(boxes, values.astype(np.float32), rng.integers(1, 3, count))


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(1, 6))
@settings(max_examples=examples(60), deadline=None)
def test_certain_detections_are_labels(seed: int, student: int, teacher: int) -> None:
    """A teacher that is sure of all that it sees gives what Pascal VOC's precision gives with its boxes as labels."""
    rng = np.random.default_rng(seed)
    teachers = [detections(rng, teacher, np.ones(teacher)) for _ in range(3)]
    students = [detections(rng, student) for _ in range(3)]
    truths = [Truth(found.boxes, found.classes, np.zeros(len(found.boxes), bool)) for found in teachers]
    predictions = [Predictions(found.boxes, found.classes, found.scores) for found in students]
    for label, score in enumerate(voc_scores(truths, predictions, 3)):
        assert expected_precision(teachers, students, label) == pytest.approx(score.area, nan_ok=True)
        assert expected_objects(teachers, label) == score.objects


def doubtful(module: object) -> list[float]:
    """A doubtful object that the student misses, doubts too, or is sure of; and one that is found twice."""
    box = np.array([[0.1, 0.1, 0.4, 0.4], [0.6, 0.6, 0.9, 0.9]], np.float32)
    ones = np.ones(2, np.int64)
    teacher = [Detections(box, np.array([0.9, 0.3], np.float32), ones)]

    def precision(boxes: np.ndarray, scores: list[float]) -> float:
        student = [Detections(boxes, np.array(scores, np.float32), np.ones(len(scores), np.int64))]
        return float(module.expected_precision(teacher, student, 1))  # type: ignore[attr-defined]

    return [
        precision(box[:1], [0.8]),
        precision(box, [0.8, 0.1]),
        precision(box, [0.1, 0.8]),
        precision(box[[0, 0, 1]], [0.8, 0.7, 0.6]),
    ]


def test_doubtful_objects_count_as_much_as_they_are_likely() -> None:
    expected = [0.9 * 0.75, 0.9 * 0.75 + 0.6 * 0.25, 0.6 * 0.25 + 0.6 * 0.75, 0.9 * 0.75 + 0.4 * 0.25]
    assert doubtful(module) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("right[number] = scores[best]", "right[number] = 1.0"),
        ("overlap[:, best] = 0.0", "pass"),
        ("np.argsort(-np.concatenate(scores)", "np.argsort(np.concatenate(scores)"),
        ("np.maximum.accumulate(precision[::-1])[::-1]", "precision"),
    ],
)
def test_planted_bugs_are_noticed(old: str, new: str) -> None:
    assert doubtful(mutant(module, old, new)) != pytest.approx(doubtful(module))
