"""Average precision as Pascal VOC defines it (Everingham et al., 2010, section 4.2).

A detection is right if its IoU with the annotated box that it overlaps most reaches the threshold and no better
detection has claimed that box. Detections on difficult objects are ignored. The area under the curve is sampled at
eleven recalls (VOC 2007) or exact (VOC 2010 and later).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploycc.evaluation.truth import Predictions, Truth, of_class, pairwise_iou

# As the development kit and its ports compute them: 3 * 0.1 is slightly more than 3 / 10, so a recall of 3 / 10 does
# not reach it. Exact tenths would give up to 0.01 more than the published figures of small data sets.
_ELEVEN = np.arange(11) * 0.1


@dataclass(frozen=True)
class VocScore:
    """Average precision of one class; NaN if the data has no object of it.

    Attributes:
        area: area under the curve of precision, made non-increasing in recall (VOC 2010).
        eleven_point: mean of that precision at recalls 0, 0.1, ... 1 (VOC 2007).
        objects: annotated objects that are not difficult.
    """

    area: float
    eleven_point: float
    objects: int


def voc_scores(
    truths: Sequence[Truth], predictions: Sequence[Predictions], classes: int, iou_threshold: float = 0.5
) -> list[VocScore]:
    """Score every class.

    Args:
        truths: annotations, one per picture.
        predictions: detections, in the same order.
        classes: number of classes (no background).
        iou_threshold: smallest overlap of a right detection.
    """
    return [_score(of_class(truths, predictions, label), iou_threshold) for label in range(classes)]


def mean_ap(scores: Sequence[VocScore], eleven_point: bool = False) -> float:
    """Return the mean over the classes that occur, or NaN if none does."""
    values = [s.eleven_point if eleven_point else s.area for s in scores if s.objects]
    return float(np.mean(values)) if values else float("nan")


def _score(pictures: Sequence[tuple[Truth, Predictions]], iou_threshold: float) -> VocScore:
    objects = sum(int(np.count_nonzero(~truth.difficult)) for truth, _ in pictures)
    if objects == 0:
        return VocScore(float("nan"), float("nan"), 0)
    scores = np.concatenate([predicted.scores for _, predicted in pictures])
    verdict = np.concatenate([_judge(truth, predicted, iou_threshold) for truth, predicted in pictures])
    verdict = verdict[np.argsort(-scores, kind="stable")]
    verdict = verdict[verdict >= 0]
    hits, total = np.cumsum(verdict == 1), np.arange(1, len(verdict) + 1)
    recall, precision = hits / objects, hits / total
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(recall, prepend=0.0)
    first = np.searchsorted(recall, _ELEVEN)
    eleven = np.where(first < len(recall), np.append(envelope, 0.0)[np.minimum(first, len(recall))], 0.0)
    return VocScore(float(np.sum(steps * envelope)), float(np.mean(eleven)), objects)


def _judge(truth: Truth, predicted: Predictions, iou_threshold: float) -> NDArray[np.int8]:
    """Return 1 (right), 0 (wrong) or -1 (ignored) for detections in descending order of score."""
    verdict = np.zeros(len(predicted.scores), np.int8)
    if not len(truth.boxes):
        return verdict
    overlap = pairwise_iou(predicted.boxes, truth.boxes)
    taken = np.zeros(len(truth.boxes), np.bool_)
    for row, best in enumerate(overlap.argmax(1)):
        if overlap[row, best] < iou_threshold:
            continue
        if truth.difficult[best]:
            verdict[row] = -1
        elif not taken[best]:
            verdict[row], taken[best] = 1, True
    return verdict
