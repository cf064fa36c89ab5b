"""Compare two lists of detections on the same pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
        overlap = pairwise_iou(reference.boxes[shown_a], other.boxes[shown_b])
        overlap[reference.classes[shown_a][:, None] != other.classes[shown_b][None, :]] = 0.0
        scores = np.abs(reference.scores[shown_a][:, None] - other.scores[shown_b][None, :])
        while overlap.size and overlap.max() >= MATCH_IOU:
            a, b = np.unravel_index(overlap.argmax(), overlap.shape)
            self._pair(float(overlap[a, b]), float(scores[a, b]))
            overlap[a, :] = 0.0
            overlap[:, b] = 0.0

    def _pair(self, iou: float, score_difference: float) -> None:
        self.matched += 1
        self.min_iou = min(iou, 1.0 if self.min_iou is None else self.min_iou)
        self.max_score_difference = max(score_difference, self.max_score_difference or 0.0)
