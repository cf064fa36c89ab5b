"""Average precision as COCO defines it: IoU thresholds 0.50 to 0.95, precision at 101 recalls.

As in COCO's own evaluation, each detection takes the free object of its class that it overlaps most, at most 100
detections per picture and class count, and difficult objects are treated as COCO treats crowds: a detection that
matches only such an object is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploycc.evaluation.truth import Predictions, Truth, of_class, pairwise_iou

THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_MOST = 100


@dataclass(frozen=True)
class CocoScore:
    """Average precision of one class; NaN if the data has no object of it.

    Attributes:
        ap: mean over the ten thresholds.
        ap50, ap75: at IoU 0.5 and 0.75.
        objects: annotated objects that are not difficult.
    """

    ap: float
    ap50: float
    ap75: float
    objects: int


def coco_scores(truths: Sequence[Truth], predictions: Sequence[Predictions], classes: int) -> list[CocoScore]:
    """Score every class; see `voc.voc_scores` for the arguments."""
    result = []
    for label in range(classes):
        pictures = of_class(truths, predictions, label)
        objects = sum(int(np.count_nonzero(~truth.difficult)) for truth, _ in pictures)
        values = [float("nan")] * len(THRESHOLDS)
        if objects:
            overlaps = [pairwise_iou(predicted.boxes[:_MOST], truth.boxes) for truth, predicted in pictures]
            highest = [float(overlap.max(initial=-1.0)) for overlap in overlaps]
            values = [_precision(pictures, overlaps, highest, float(t), objects) for t in THRESHOLDS]
        result.append(CocoScore(float(np.mean(values)), values[0], values[5], objects))
    return result


def _precision(
    pictures: Sequence[tuple[Truth, Predictions]],
    overlaps: Sequence[NDArray[np.float64]],
    highest: Sequence[float],
    threshold: float,
    objects: int,
) -> float:
    scores = np.concatenate([predicted.scores[:_MOST] for _, predicted in pictures])
    verdict = np.zeros(len(scores), np.int8)
    first = 0
    for (truth, _), overlap, best in zip(pictures, overlaps, highest, strict=True):
        if best >= threshold:
            verdict[first : first + len(overlap)] = _judge(truth, overlap, threshold)
        first += len(overlap)
    verdict = verdict[np.argsort(-scores, kind="stable")]
    verdict = verdict[verdict >= 0]
    if not len(verdict):
        return 0.0
    hits = np.cumsum(verdict == 1)
    recall, precision = hits / objects, hits / np.arange(1, len(verdict) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    rank = np.searchsorted(recall, _RECALLS, side="left")
    return float(np.mean(np.where(rank < len(recall), envelope[np.minimum(rank, len(recall) - 1)], 0.0)))


def _judge(truth: Truth, overlap: NDArray[np.float64], threshold: float) -> NDArray[np.int8]:
    """Return 1 (right), 0 (wrong) or -1 (ignored) for the best detections, in descending order of score.

    Args:
        truth: of one picture.
        overlap: [detections, objects], IoU.
        threshold: least IoU of a hit.
    """
    verdict = np.zeros(len(overlap), np.int8)
    difficult = truth.difficult.any()
    free = ~truth.difficult
    for row in np.flatnonzero(overlap.max(axis=1) >= threshold):
        candidates = np.where(free, overlap[row], -1.0)
        best = len(candidates) - 1 - int(candidates[::-1].argmax())  # the last of equal overlaps, as in COCO's loop
        if candidates[best] >= threshold:
            verdict[row], free[best] = 1, False
        elif difficult and overlap[row][truth.difficult].max() >= threshold:
            verdict[row] = -1
    return verdict
