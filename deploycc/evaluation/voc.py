"""Average precision as Pascal VOC defines it (Everingham et al., 2010, section 4.2).

A detection is right when its IoU with the annotated box that it overlaps most is at least the threshold and no better
detection has claimed that box. Detections on difficult objects count neither way. The curve's area is either taken at
eleven recalls (VOC 2007) or whole (VOC 2010 and later).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploycc.evaluation.truth import Found, Truth, of_class, pairwise_iou

# As the development kit and its ports compute them: 3 * 0.1 is slightly more than a recall of 3 / 10, so that recall
# does not reach it. Exact tenths would give up to 0.01 more than the published figures of small data sets.
_ELEVEN = np.arange(11) * 0.1


@dataclass(frozen=True)
class VocScore:
    """Average precision of one class; NaN where the data has no object of it.

    Attributes:
        area: area under the curve of precision that never rises with recall (VOC 2010).
        eleven_point: mean of that precision at recalls 0, 0.1, ... 1 (VOC 2007).
        objects: annotated objects that are not difficult.
    """

    area: float
    eleven_point: float
    objects: int


def voc_scores(
    truths: Sequence[Truth], founds: Sequence[Found], classes: int, iou_threshold: float = 0.5
) -> list[VocScore]:
    """Score every class.

    Args:
        truths: annotations, one a picture.
        founds: detections, in the same order.
        classes: number of classes (no background).
        iou_threshold: overlap that makes a detection right.
    """
    return [_score(of_class(truths, founds, label), iou_threshold) for label in range(classes)]


def mean_ap(scores: Sequence[VocScore], eleven_point: bool = False) -> float:
    """Mean over the classes that occur; NaN where none does."""
    values = [s.eleven_point if eleven_point else s.area for s in scores if s.objects]
    return float(np.mean(values)) if values else float("nan")


def _score(pictures: Sequence[tuple[Truth, Found]], iou_threshold: float) -> VocScore:
    objects = sum(int(np.count_nonzero(~truth.difficult)) for truth, _ in pictures)
    if objects == 0:
        return VocScore(float("nan"), float("nan"), 0)
    scores = np.concatenate([found.scores for _, found in pictures])
    right = np.concatenate([_judge(truth, found, iou_threshold) for truth, found in pictures])
    order = np.argsort(-scores, kind="stable")
    verdict = right[order]
    verdict = verdict[verdict >= 0]
    hits, total = np.cumsum(verdict == 1), np.arange(1, len(verdict) + 1)
    recall, precision = hits / objects, hits / total
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(recall, prepend=0.0)
    first = np.searchsorted(recall, _ELEVEN)
    eleven = np.where(first < len(recall), np.append(envelope, 0.0)[np.minimum(first, len(recall))], 0.0)
    return VocScore(float(np.sum(steps * envelope)), float(np.mean(eleven)), objects)


def _judge(truth: Truth, found: Found, iou_threshold: float) -> NDArray[np.int8]:
    """1 right, 0 wrong, -1 not counted, for detections in descending score."""
    verdict = np.zeros(len(found.scores), np.int8)
    if not len(truth.boxes):
        return verdict
    overlap = pairwise_iou(found.boxes, truth.boxes)
    taken = np.zeros(len(truth.boxes), np.bool_)
    for row, best in enumerate(overlap.argmax(1)):
        if overlap[row, best] < iou_threshold:
            continue
        if truth.difficult[best]:
            verdict[row] = -1
        elif not taken[best]:
            verdict[row], taken[best] = 1, True
    return verdict
