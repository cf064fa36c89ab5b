"""Annotated objects and detections of a picture, and the overlap of their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Truth:
    """The annotated objects of one picture.

    Attributes:
        boxes: [N, 4] float32, xmin ymin xmax ymax, pixels; right and lower edges are exclusive, so that xmax - xmin
            is the width.
        classes: [N] int64, index into the data set's class names (no background).
        difficult: [N] bool: detecting it counts neither as right nor as wrong.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    difficult: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Predictions:
    """The detections of one picture, with boxes and classes as in the data set.

    Attributes:
        boxes: [N, 4] float32, pixels, as in `Truth`.
        classes: [N] int64, index into the data set's class names; -1 for a class that the data set lacks.
        scores: [N] float32.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32]


def pairwise_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the intersection over union of [N, 4] and [M, 4] boxes as [N, M]; 0 for boxes without area or end."""
    a64, b64 = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    with np.errstate(invalid="ignore"):  # an untrained network may output any size, and infinity times 0 is no area
        corners = np.minimum(a64[..., 2:], b64[..., 2:]) - np.maximum(a64[..., :2], b64[..., :2])
        overlap = np.clip(corners, 0, None).prod(-1)
        union = _area(a64) + _area(b64) - overlap
    result: NDArray[np.float64] = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return result


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    sides: NDArray[np.float64] = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None)
    area: NDArray[np.float64] = sides.prod(-1)
    return area


def of_class(
    truths: Sequence[Truth], predictions: Sequence[Predictions], label: int
) -> list[tuple[Truth, Predictions]]:
    """Select the objects and detections of one class in each picture, detections by descending score."""
    pairs = []
    for truth, predicted in zip(truths, predictions, strict=True):
        objects, hits = truth.classes == label, np.flatnonzero(predicted.classes == label)
        hits = hits[np.argsort(-predicted.scores[hits], kind="stable")]
        pairs.append(
            (
                Truth(truth.boxes[objects], truth.classes[objects], truth.difficult[objects]),
                Predictions(predicted.boxes[hits], predicted.classes[hits], predicted.scores[hits]),
            )
        )
    return pairs
