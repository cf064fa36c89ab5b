"""Non-maximum suppression on the host, with the semantics of Caffe's DetectionOutput layer (Liu et al., SSD, 2016).

For each class but the background: select scores above the threshold, keep the best ``top_k``, suppress boxes greedily
that overlap a better one by more than the IoU threshold; then keep the best ``keep_top_k`` of all classes. Equal
scores are ordered by class, then by prior. IoU is computed in float32, as in Caffe.

Whether a box is kept depends only on better boxes. So only the best candidates are examined first, and more only if
too few of them are kept; with a low threshold most candidates are never decoded nor compared. The score at which to
cut is estimated from a sample; it does not affect the result. ONNX Runtime's own operator does the greedy part.

After a network has run, the caches hold its weights and the first call of any function takes about 15 us, whatever
the size of its data: few calls matter more than small ones.
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

_FIRST = 6  # candidates examined first, in multiples of keep_top_k
_GROWTH = 2  # factor for each further attempt
_STRIDE = 23  # every 23rd prior is sampled: a prime, since the priors of a cell repeat in a short cycle
_OPERATOR = """<ir_version: 7, opset_import: ["" : 13]>
greedy (float[1,n,4] boxes, float[1,c,n] scores, int64[1] limit, float[1] iou, float[1] least) => (int64[kept,3] rows)
{ rows = NonMaxSuppression (boxes, scores, limit, iou, least) }"""


@dataclass(frozen=True, eq=False)
class Detections:
    """The detections of one picture by descending score; equal scores by class, then by prior.

    Attributes:
        boxes: [N, 4] float32, xmin ymin xmax ymax, 0..1 of the picture (may reach outside it).
        scores: [N] float32.
        classes: [N] int64, numbered like the network's scores (background included).
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
        boxes: [P, 4], xmin ymin xmax ymax; a box with reversed sides has no area and overlaps nothing.
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
    """Suppress boxes that are decoded only when needed: ``boxes_of(rows)`` returns [len(rows), 4] corners.

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
        detections = _greedy(boxes_of, scores, np.flatnonzero(candidates), nms)
        if not partial or len(detections) == nms.keep_top_k:
            return detections
        size *= _GROWTH


def _cut(scores: NDArray[np.float32], size: int, background: int | None) -> np.float32:
    """Return a score that about ``size`` candidates reach, or minus infinity to include all."""
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
    """Suppress candidates, given as ascending positions in the flattened scores.

    The operator takes all classes at once; a box that is not a candidate of a class has the score -inf there. The
    operator would swap reversed sides of a box, which in Caffe has no area; clamping its far corner gives it none.
    """
    priors, classes = scores.shape
    prior, label = np.divmod(candidates, classes)
    score = scores.reshape(-1)[candidates]
    if nms.top_k > -1:
        for crowded in np.flatnonzero(np.bincount(label, minlength=classes) > nms.top_k):
            members = np.flatnonzero(label == crowded)
            score[members[np.argsort(-score[members], kind="stable")[nms.top_k :]]] = -np.inf
    per_prior = len(prior) > priors  # one box per candidate or per prior, whichever are fewer
    rows, column = (np.arange(priors), prior) if per_prior else (prior, np.arange(len(prior)))
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
