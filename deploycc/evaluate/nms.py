"""Non-maximum suppression on the host, with the semantics of Caffe's DetectionOutput layer (Liu et al., SSD, 2016).

For each class but the background: scores above the threshold, the best ``top_k`` of them, greedy suppression of what
overlaps a better kept box by more than the IoU threshold; then the best ``keep_top_k`` over all classes. Equal scores
keep the order of class, then of prior. IoU is computed in float32, as Caffe does.

The layer's result is the beginning of one list: all kept boxes by descending score. Whether a box is kept depends
only on better boxes, so the best candidates alone are looked at first, and more of them only where too few are kept;
with a low threshold most candidates are never decoded nor compared. The greedy part is ONNX Runtime's own operator, on
one row a class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from deploycc.detector import Nms

_FIRST = 6  # candidates looked at first, in multiples of keep_top_k
_GROWTH = 2  # the next time so many times as many
_OPERATOR = """<ir_version: 7, opset_import: ["" : 13]>
greedy (float[c,n,4] boxes, float[c,1,n] scores, int64[1] limit, float[1] iou, float[1] least) => (int64[kept,3] rows)
{ rows = NonMaxSuppression (boxes, scores, limit, iou, least) }"""


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
    size = nms.keep_top_k * _FIRST if nms.keep_top_k > 0 else len(flat)
    while True:
        chosen = _best(score, size)
        prior, label = np.divmod(flat[chosen], classes)
        grouped = _by_label_and_score(label, score[chosen])
        starts = np.searchsorted(label[grouped], np.arange(classes + 1))
        rank = np.arange(len(grouped)) - starts[label[grouped]]
        grouped, rank = grouped[rank < limit], rank[rank < limit]
        boxes, label, best = boxes_of(prior[grouped]), label[grouped], score[chosen[grouped]]
        kept = _greedy(boxes, label, rank, best, nms.iou_threshold)
        if 0 < nms.keep_top_k <= len(kept) or len(chosen) == len(flat):
            break
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


def _by_label_and_score(label: NDArray[np.int64], score: NDArray[np.float32]) -> NDArray[np.int64]:
    """Order by label, then by descending score, then by position: what lexsort does, in a third of its time.

    The bits of a float32, read as an integer and mirrored below zero, order like the number (IEEE 754).
    """
    bits = score.view(np.int32)
    rising = bits ^ (bits >> 31 & 0x7FFFFFFF)
    keys = (~rising).astype(np.int64) << 32 | np.arange(len(score))
    by_score = np.sort(keys) & 0xFFFFFFFF
    order: NDArray[np.int64] = by_score[np.argsort(label[by_score].astype(np.int16), kind="stable")]
    return order


def _greedy(
    boxes: NDArray[np.float32],
    label: NDArray[np.int64],
    rank: NDArray[np.int64],
    score: NDArray[np.float32],
    threshold: float,
) -> NDArray[np.int64]:
    """Indices of the boxes that survive, ascending; those of one label stand together, best first.

    A class becomes a picture of a batch, so that the operator sees each candidate once. A box of reversed sides has no
    area in Caffe, where the operator would swap the sides; without its far corner it has none here either.
    """
    if not len(label):
        return label
    classes, most = int(label[-1]) + 1, int(rank.max()) + 1
    place = label * most + rank
    batch = np.zeros((classes * most, 4), np.float32)
    batch[place, :2] = boxes[:, :2]
    batch[place, 2:] = np.maximum(boxes[:, :2], boxes[:, 2:])
    scores = np.full(classes * most, -np.inf, np.float32)
    scores[place] = score
    iou, least = np.array([[threshold], [-np.inf]], np.float32)
    operands = {"limit": np.array([most]), "iou": iou, "least": least}
    shaped = {"boxes": batch.reshape(classes, most, 4), "scores": scores.reshape(classes, 1, most)}
    [rows] = _operator().run(None, shaped | operands)
    kept: NDArray[np.int64] = np.searchsorted(place, np.sort(rows[:, 0] * most + rows[:, 2]))
    return kept


@cache
def _operator() -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(
        onnx.parser.parse_model(_OPERATOR).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
