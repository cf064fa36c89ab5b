"""Numeric helpers of the tests. Every comparison names its tolerance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deploycc.evaluation.nms import Detections


def assert_same_detections(got: Detections, expected: Detections, *, score_atol: float, min_iou: float) -> None:
    """Fail unless the two pair up one to one: same class, scores within ``score_atol``, IoU of at least ``min_iou``.

    Pairs are sought class by class, the best score first, so that near ties may stand in another order.
    """
    assert len(got) == len(expected), f"{len(got)} detections instead of {len(expected)}"
    free = list(range(len(got)))
    for score, label, box in zip(expected.scores, expected.classes, expected.boxes, strict=True):
        partners = [
            (_iou(got.boxes[i], box), i)
            for i in free
            if got.classes[i] == label and abs(float(got.scores[i]) - float(score)) <= score_atol
        ]
        best, index = max(partners, default=(0.0, -1))
        assert best >= min_iou, f"class {label}, score {score}: the nearest box has IoU {best}"
        free.remove(index)


def _iou(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    if np.array_equal(one, other):
        return 1.0  # also where they have no area
    a, b = one.astype(np.float64), other.astype(np.float64)
    common = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return float(common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common))
