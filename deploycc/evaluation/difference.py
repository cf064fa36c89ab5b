"""Compare two lists of detections on the same pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploycc.evaluation.nms import Detections
from deploycc.evaluation.truth import pairwise_iou

SCORE_THRESHOLD = 0.3  # weaker detections are not acted on, and may appear or vanish with rounding
MATCH_IOU = 0.5


@dataclass
class DetectionDifferences:
    """Running comparison; add the pictures one by one.

    Attributes:
        reference, other: number of detections on each side above the score threshold.
        matched: pairs of the same class with an IoU of at least MATCH_IOU; each detection is in at most one pair.
        max_score_difference, min_iou: over the pairs; None without pairs.
    """

    reference: int = 0
    other: int = 0
    matched: int = 0
    max_score_difference: float | None = None
    min_iou: float | None = None

    def add(self, reference: Detections, other: Detections) -> None:
        """Compare the detections of one picture; the pairs that overlap most are matched first."""
        shown_a, shown_b = reference.scores >= SCORE_THRESHOLD, other.scores >= SCORE_THRESHOLD
        self.reference += int(shown_a.sum())
        self.other += int(shown_b.sum())
        one, two = _shown(reference, shown_a), _shown(other, shown_b)
        for a, b, iou in matched_pairs(one, two):
            self._pair(iou, abs(float(one.scores[a]) - float(two.scores[b])))

    def _pair(self, iou: float, score_difference: float) -> None:
        self.matched += 1
        self.min_iou = min(iou, 1.0 if self.min_iou is None else self.min_iou)
        self.max_score_difference = max(score_difference, self.max_score_difference or 0.0)


def matched_pairs(reference: Detections, other: Detections) -> list[tuple[int, int, float]]:
    """Match the detections of one picture: the pairs of one class that overlap most first, down to MATCH_IOU.

    Returns:
        position in each list and IoU of every pair; each detection is in at most one.
    """
    overlap = pairwise_iou(reference.boxes, other.boxes)
    overlap[reference.classes[:, None] != other.classes[None, :]] = 0.0
    pairs = []
    while overlap.size and overlap.max() >= MATCH_IOU:
        a, b = (int(position) for position in np.unravel_index(overlap.argmax(), overlap.shape))
        pairs.append((a, b, float(overlap[a, b])))
        overlap[a, :] = 0.0
        overlap[:, b] = 0.0
    return pairs


def _shown(found: Detections, mask: NDArray[np.bool_]) -> Detections:
    return Detections(found.boxes[mask], found.scores[mask], found.classes[mask])
