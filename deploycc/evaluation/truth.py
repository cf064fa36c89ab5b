"""What is in a picture, and which detections agree with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Truth:
    """The annotated objects of one picture.

    Attributes:
        boxes: [N, 4] float32, xmin ymin xmax ymax, pixels; the right and lower edges are outside, so that
            xmax - xmin is the width.
        classes: [N] int64, index into the data set's class names (no background).
        difficult: [N] bool: neither expected nor counted as wrong.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    difficult: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Found:
    """The detections of one picture, in the terms of the data set.

    Attributes:
        boxes: [N, 4] float32, pixels, as in `Truth`.
        classes: [N] int64, index into the data set's class names; -1 for a class that the data set does not have.
        scores: [N] float32.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]


def pairwise_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Intersection over union of [N, 4] and [M, 4] boxes, as [N, M]; 0 for boxes without area."""
    a64, b64 = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    overlap = np.clip(np.minimum(a64[..., 2:], b64[..., 2:]) - np.maximum(a64[..., :2], b64[..., :2]), 0, None).prod(-1)
    union = _area(a64) + _area(b64) - overlap
    result: NDArray[np.float64] = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return result


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    sides: NDArray[np.float64] = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None)
    area: NDArray[np.float64] = sides.prod(-1)
    return area


def of_class(truths: Sequence[Truth], founds: Sequence[Found], label: int) -> list[tuple[Truth, Found]]:
    """The part of each picture that concerns one class, detections by descending score."""
    pairs = []
    for truth, found in zip(truths, founds, strict=True):
        here, there = truth.classes == label, np.flatnonzero(found.classes == label)
        there = there[np.argsort(-found.scores[there], kind="stable")]
        pairs.append(
            (
                Truth(truth.boxes[here], truth.classes[here], truth.difficult[here]),
                Found(found.boxes[there], found.classes[there], found.scores[there]),
            )
        )
    return pairs
