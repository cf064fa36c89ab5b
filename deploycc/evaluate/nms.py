"""Non-maximum suppression on the host, with the semantics of Caffe's DetectionOutput layer (Liu et al., SSD, 2016).

For each class but the background: scores above the threshold, the best ``top_k`` of them, greedy suppression of what
overlaps a better kept box by more than the IoU threshold; then the best ``keep_top_k`` over all classes. Equal scores
keep the order of class, then of prior. IoU is computed in float32, as Caffe does.

The layer's result is the beginning of one list: all kept boxes by descending score. Whether a box is kept depends
only on better boxes, so candidates are taken in portions of descending score until ``keep_top_k`` are kept; with a low
threshold most candidates are never decoded nor compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploycc.detector import Nms

_PORTION = 4  # first portion of candidates, in multiples of keep_top_k
_GROWTH = 2  # each portion reaches this much further; what fell in an earlier one is not looked at again
_ROWS = 64  # boxes compared with all that may share a label with them, at once


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one picture, by descending score; equal scores by class, then by prior.

    Attributes:
        boxes: [N, 4] float32, xmin ymin xmax ymax, 0..1 of the picture (may reach outside it).
        scores: [N] float32.
        classes: [N] int64, counted like the scores of the network (background included).
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)


def suppress(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], nms: Nms, background: int | None = 0
) -> Detections:
    """Suppress decoded boxes.

    Args:
        boxes: [P, 4], xmin ymin xmax ymax; a box whose sides are reversed has no area and overlaps nothing.
        scores: [P, C].
        nms: thresholds and limits.
        background: class that is never detected, or None.
    """
    return suppress_lazily(lambda rows: boxes[rows], scores, nms, background)


def suppress_lazily(
    boxes_of: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    scores: NDArray[np.float32],
    nms: Nms,
    background: int | None = 0,
) -> Detections:
    """Suppress boxes that are decoded only when they matter: ``boxes_of(rows)`` returns [len(rows), 4] corners.

    See `suppress` for the other arguments.
    """
    classes = scores.shape[1]
    above = scores > np.float32(nms.score_threshold)
    if background is not None:
        above[:, background] = False
    flat = np.flatnonzero(above)  # in the order of the priors, then of the classes
    score = scores.reshape(-1)[flat]
    limit = nms.top_k if nms.top_k > -1 else len(scores)
    size = nms.keep_top_k * _PORTION if nms.keep_top_k > 0 else len(flat)
    fallen = np.zeros(len(flat), bool)
    reach = None  # candidates that suppression may see, over all classes
    while True:
        chosen = _best(score, size)
        prior, label = np.divmod(flat[chosen], classes)
        grouped = np.lexsort((-score[chosen], label))  # stable: equal scores stay in the order of the priors
        starts = np.searchsorted(label[grouped], np.arange(classes + 1))
        grouped = grouped[np.arange(len(grouped)) - starts[label[grouped]] < limit]
        standing = grouped[~fallen[chosen[grouped]]]
        boxes, label, best = boxes_of(prior[standing]), label[standing], score[chosen[standing]]
        stands = _greedy(boxes, label, np.float32(nms.iou_threshold))
        kept = np.flatnonzero(stands)
        if 0 < nms.keep_top_k <= len(kept) or len(chosen) == len(flat):
            break
        if reach is None:
            reach = np.minimum(np.bincount(flat % classes), limit).sum()
        if len(grouped) == reach:
            break
        fallen[chosen[standing[~stands]]] = True
        size *= _GROWTH
    kept = kept[np.argsort(-best[kept], kind="stable")]
    if nms.keep_top_k > -1:
        kept = kept[: nms.keep_top_k]
    return Detections(boxes[kept], best[kept], label[kept])


def _best(score: NDArray[np.float32], size: int) -> NDArray[np.int64]:
    """Indices of the ``size`` best scores and of all that equal the last of them, ascending."""
    if size >= len(score):
        return np.arange(len(score))
    last = np.partition(score, len(score) - size)[len(score) - size]
    return np.flatnonzero(score >= last)


def _greedy(boxes: NDArray[np.float32], label: NDArray[np.int64], threshold: np.float32) -> NDArray[np.bool_]:
    """Which boxes survive; those of one label stand together, best first."""
    better, worse = _overlapping_pairs(boxes, label, threshold)
    # A box falls when any better box that stands overlaps it. Starting with all standing, each round settles one
    # more link of the longest chain of overlaps; the greedy result is the only fixed point.
    stands = np.ones(len(label), bool)
    while True:
        after = np.ones(len(label), bool)
        after[worse[stands[better]]] = False
        if np.array_equal(after, stands):
            return stands
        stands = after


def _overlapping_pairs(
    boxes: NDArray[np.float32], label: NDArray[np.int64], threshold: np.float32
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs (better, worse) of one label whose IoU exceeds the threshold."""
    ends = np.searchsorted(label, label, side="right").tolist()
    sides = np.ascontiguousarray(boxes.T)
    pairs = [(np.empty(0, np.int64), np.empty(0, np.int64))]
    with np.errstate(all="ignore"):  # a network may put out anything: inf - inf compares false, as in Caffe
        area = (sides[2] - sides[0]) * (sides[3] - sides[1])  # nothing is ever common with a box of reversed sides
        for row in range(0, len(label), _ROWS):
            last = min(row + _ROWS, len(label))
            stop = ends[last - 1]  # further boxes share no label with these rows
            hits = _overlap(sides, area, slice(row, last), slice(row, stop)) > threshold
            one, other = np.divmod(np.flatnonzero(hits), stop - row)
            pair = (other > one) & (label[one + row] == label[other + row])
            pairs.append((one[pair] + row, other[pair] + row))
    better, worse = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return better, worse


def _overlap(
    sides: NDArray[np.float32], area: NDArray[np.float32], first: slice, second: slice
) -> NDArray[np.float32]:
    """IoU of each box in ``first`` with each in ``second``, in Caffe's order of operations; NaN or <= 0: none."""
    common: NDArray[np.float32]
    sizes = np.minimum(sides[2:, first, None], sides[2:, None, second])
    sizes -= np.maximum(sides[:2, first, None], sides[:2, None, second])
    common, union = np.maximum(sizes, 0, out=sizes)
    common *= union
    np.add(area[first, None], area[second], out=union)
    union -= common
    common /= union
    return common
