"""Average precision that is to be expected without labels: a detection of the teacher is an object as often as it says.

A teacher's detection with score s counts as s of an object. A student's detection that finds it is s right and 1 - s
wrong; one that finds nothing of the teacher's is wrong. Detections that the teacher is sure of are soon all found
again; this also notices what happens to doubtful ones, on which much of the average precision on labels rests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deploycc.evaluation.nms import Detections
from deploycc.evaluation.truth import pairwise_iou

Floats = NDArray[np.float64]


def expected_objects(teachers: Sequence[Detections], label: int) -> float:
    """Return how many objects of a class the teacher expects: the sum of its scores."""
    return float(sum(found.scores[found.classes == label].sum() for found in teachers))


def expected_precision(
    teachers: Sequence[Detections], students: Sequence[Detections], label: int, iou_threshold: float = 0.5
) -> float:
    """Return the area under the curve of expected precision over expected recall, as Pascal VOC computes it since 2010.

    Args:
        teachers: detections, one per picture; their scores are probabilities.
        students: likewise, in the same order; any scores in the same order give the same result.
        label: the class.
        iou_threshold: smallest overlap of a detection with one that it finds.

    Returns:
        0..1, less than 1 for the teacher itself; NaN where the teacher detects nothing of the class.
    """
    objects = expected_objects(teachers, label)
    if not objects:
        return float("nan")
    scores, right = [], []
    for teacher, student in zip(teachers, students, strict=True):
        mine = student.classes == label
        order = np.argsort(-student.scores[mine], kind="stable")
        its = teacher.classes == label
        scores.append(student.scores[mine][order])
        right.append(_found(teacher.boxes[its], teacher.scores[its], student.boxes[mine][order], iou_threshold))
    ranked = np.concatenate(right)[np.argsort(-np.concatenate(scores), kind="stable")]
    hits = np.cumsum(ranked)
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(hits / objects, prepend=0.0) * envelope))


def _found(
    boxes: NDArray[np.floating], scores: NDArray[np.floating], student: NDArray[np.floating], iou_threshold: float
) -> Floats:
    """Return the score of what each of a student's boxes finds, best first; nothing is found twice."""
    right = np.zeros(len(student))
    if not len(boxes):
        return right
    overlap = pairwise_iou(student, boxes)
    for number, row in enumerate(overlap):
        best = int(row.argmax())
        if row[best] >= iou_threshold:
            right[number] = scores[best]
            overlap[:, best] = 0.0
    return right
