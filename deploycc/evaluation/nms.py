"""Non-maximum suppression on the host, with the semantics of Caffe's DetectionOutput layer (Liu et al., SSD, 2016).

For each class but the background: scores above the threshold, the best ``top_k`` of them, greedy suppression of what
overlaps a better kept box by more than the IoU threshold; then the best ``keep_top_k`` over all classes. Equal scores
keep the order of class, then of prior. IoU is computed in float32, as Caffe does.

The layer's result is the beginning of one list: all kept boxes by descending score. Whether a box is kept depends
only on better boxes, so the best candidates alone are looked at first, and more of them only where too few are kept;
with a low threshold most candidates are never decoded nor compared. A sample of the scores says where to cut: the
result is the same wherever that is. The greedy part is ONNX Runtime's own operator.

After a network has run, the caches hold its weights and the first call of anything takes some 15 us, whatever its
size: few steps matter more than small ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from deploycc.cpu_session import open_session
from deploycc.detector import Nms

_FIRST = 6  # candidates looked at first, in multiples of keep_top_k
_GROWTH = 2  # the next time so many times as many
_STRIDE = 23  # one prior in so many is sampled: a prime, since the anchors of a cell repeat every few priors
_OPERATOR = """<ir_version: 7, opset_import: ["" : 13]>
greedy (float[1,n,4] boxes, float[1,c,n] scores, int64[1] limit, float[1] iou, float[1] least) => (int64[kept,3] rows)
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
    threshold = np.float32(nms.score_threshold)
    size = nms.keep_top_k * _FIRST if nms.keep_top_k > 0 else scores.size
    while True:
        cut = _cut(scores, size, background)
        partial = bool(cut > threshold)
        candidates = scores >= cut if partial else scores > threshold
        if background is not None:
            candidates[:, background] = False
        found = _greedy(boxes_of, scores, np.flatnonzero(candidates), nms)
        if not partial or len(found) == nms.keep_top_k:
            return found
        size *= _GROWTH


def _cut(scores: NDArray[np.float32], size: int, background: int | None) -> np.float32:
    """A score that about ``size`` candidates reach; minus infinity for all of them."""
    sample = scores[::_STRIDE].copy()
    if background is not None:
        sample[:, background] = -np.inf
    values = sample.reshape(-1)
    rank = len(values) + -size // _STRIDE
    return np.partition(values, rank)[rank] if 0 < rank < len(values) else np.float32(-np.inf)


def _greedy(
    boxes_of: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    scores: NDArray[np.float32],
    candidates: NDArray[np.int64],
    nms: Nms,
) -> Detections:
    """Suppress candidates, which are ascending positions in the flattened scores.

    The operator takes all classes at once: what is no candidate of a class has no score there. A box of reversed sides
    has no area in Caffe, where the operator would swap the sides; without its far corner it has none here either.
    """
    priors, classes = scores.shape
    prior, label = np.divmod(candidates, classes)
    score = scores.reshape(-1)[candidates]
    if nms.top_k > -1:
        for crowded in np.flatnonzero(np.bincount(label, minlength=classes) > nms.top_k):
            members = np.flatnonzero(label == crowded)
            score[members[np.argsort(-score[members], kind="stable")[nms.top_k :]]] = -np.inf
    each_prior = len(prior) > priors  # a box for each candidate, or for each prior, whichever are fewer
    rows, column = (np.arange(priors), prior) if each_prior else (prior, np.arange(len(prior)))
    boxes = boxes_of(rows)
    batch = boxes.copy()
    np.maximum(boxes[:, :2], boxes[:, 2:], out=batch[:, 2:])
    by_class = np.full((classes, len(rows)), -np.inf, np.float32)
    by_class[label, column] = score
    iou, least = np.array([[nms.iou_threshold], [-np.inf]], np.float32)
    operands = {"limit": np.array([len(rows)]), "iou": iou, "least": least}
    [kept] = _operator().run(None, {"boxes": batch[None], "scores": by_class[None]} | operands)
    best = by_class[kept[:, 1], kept[:, 2]]
    order = np.argsort(-best, kind="stable")
    if nms.keep_top_k > -1:
        order = order[: nms.keep_top_k]
    kept = kept[order]
    return Detections(boxes[kept[:, 2]], best[order], kept[:, 1])


@cache
def _operator() -> ort.InferenceSession:
    return open_session(onnx.parser.parse_model(_OPERATOR), 1, {"operator": "NonMaxSuppression"})
