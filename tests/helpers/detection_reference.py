"""Detection written down box by box, slowly and plainly: what the fast code must agree with.

`detection_output` is Caffe's DetectionOutput layer; `efficient_nms` and `nms_plugin` are the two TensorRT plugins as
their sources describe them. All compute in float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deploycc.detector import Nms, SsdHeads

F = np.float32


class Found(NamedTuple):
    """One detection."""

    label: int
    score: np.float32
    box: tuple[np.float32, ...]


def decode(offset: Sequence[float], prior: Sequence[float], variance: Sequence[float], heads: SsdHeads) -> list[float]:
    """Corners of one box, in double precision."""
    tx, ty, tw, th = (float(t) for t in offset)
    if heads.y_first:
        tx, ty, tw, th = ty, tx, th, tw
    vx, vy, vw, vh = (1.0, 1.0, 1.0, 1.0) if heads.variance_encoded else (float(v) for v in variance)
    xmin, ymin, xmax, ymax = (float(p) for p in prior)
    width, height = xmax - xmin, ymax - ymin
    if heads.box_coding == "center_size":
        x, y = (xmin + xmax) / 2 + vx * tx * width, (ymin + ymax) / 2 + vy * ty * height
        w, h = width * math.exp(vw * tw), height * math.exp(vh * th)
        corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
    elif heads.box_coding == "corner":
        corners = [xmin + vx * tx, ymin + vy * ty, xmax + vw * tw, ymax + vh * th]
    else:
        corners = [xmin + vx * tx * width, ymin + vy * ty * height, xmax + vw * tw * width, ymax + vh * th * height]
    return [min(max(corner, 0.0), 1.0) for corner in corners] if heads.clip else corners


def encode(corners: Sequence[float], prior: Sequence[float], variance: Sequence[float], heads: SsdHeads) -> list[float]:
    """Offsets of one box with positive sides: the inverse of `decode`, clipping aside."""
    xmin, ymin, xmax, ymax = (float(p) for p in prior)
    width, height = xmax - xmin, ymax - ymin
    a, b, c, d = (float(value) for value in corners)
    if heads.box_coding == "center_size":
        centre = [((a + c) - (xmin + xmax)) / 2 / width, ((b + d) - (ymin + ymax)) / 2 / height]
        offset = [*centre, math.log((c - a) / width), math.log((d - b) / height)]
    elif heads.box_coding == "corner":
        offset = [a - xmin, b - ymin, c - xmax, d - ymax]
    else:
        offset = [(a - xmin) / width, (b - ymin) / height, (c - xmax) / width, (d - ymax) / height]
    if not heads.variance_encoded:
        offset = [value / float(v) for value, v in zip(offset, variance, strict=True)]
    return [offset[1], offset[0], offset[3], offset[2]] if heads.y_first else offset


def area(box: Sequence[np.float32]) -> np.float32:
    """Zero where the sides are reversed."""
    if box[2] < box[0] or box[3] < box[1]:
        return F(0)
    return (box[2] - box[0]) * (box[3] - box[1])


def iou(one: Sequence[np.float32], other: Sequence[np.float32]) -> np.float32:
    """Common area over united area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return F(0)
    return width * height / (area(one) + area(other) - width * height)


def detection_output(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], nms: Nms, background: int | None
) -> list[Found]:
    """Caffe's DetectionOutput after decoding, best first; equal scores by class, then by prior."""
    kept: list[Found] = []
    for label in range(scores.shape[1]):
        if label == background:
            continue
        order = [p for p in range(len(scores)) if scores[p, label] > F(nms.score_threshold)]
        order.sort(key=lambda p: -scores[p, label])
        if nms.top_k > -1:
            order = order[: nms.top_k]
        chosen: list[Found] = []
        for prior in order:
            box = tuple(boxes[prior])
            if all(iou(box, found.box) <= F(nms.iou_threshold) for found in chosen):
                chosen.append(Found(label, scores[prior, label], box))
        kept += chosen
    kept.sort(key=lambda found: -found.score)
    return kept if nms.keep_top_k < 0 else kept[: nms.keep_top_k]


def efficient_nms(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], attrs: Mapping[str, object]
) -> dict[str, NDArray[np.generic]]:
    """EfficientNMS_TRT on corners [1, P, 4] and scores [1, P, C]: outputs by position name.

    Scores that reach the threshold, the best 4096 over all classes, then greedy suppression a class of whatever
    reaches the IoU threshold. The plugin leaves the order of equal scores open; here it is by class, then by prior.
    """
    assert attrs["score_activation"] == 0
    assert attrs["box_coding"] == 0
    labels = [c for c in range(scores.shape[2]) if c != attrs["background_class"]]
    threshold, overlap = F(attrs["score_threshold"]), F(attrs["iou_threshold"])
    candidates = [(c, p) for c in labels for p in range(scores.shape[1]) if scores[0, p, c] >= threshold]
    candidates.sort(key=lambda cp: -scores[0, cp[1], cp[0]])
    most = int(attrs["max_output_boxes"])  # type: ignore[call-overload]
    kept: list[Found] = []
    for label, prior in candidates[:4096]:
        box = tuple(boxes[0, prior])
        if len(kept) < most and all(iou(box, found.box) < overlap for found in kept if found.label == label):
            kept.append(Found(label, scores[0, prior, label], box))
    count = len(kept)
    out_boxes, out_scores = np.zeros((1, most, 4), F), np.zeros((1, most), F)
    out_classes = np.zeros((1, most), np.int32)
    for row, found in enumerate(kept):
        out_boxes[0, row], out_scores[0, row], out_classes[0, row] = found.box, found.score, found.label
    return {"count": np.int32([[count]]), "boxes": out_boxes, "scores": out_scores, "classes": out_classes}


def nms_plugin(
    offsets: NDArray[np.float32],
    scores: NDArray[np.float32],
    prior_data: NDArray[np.float32],
    attrs: Mapping[str, object],
) -> NDArray[np.float32]:
    """NMS_TRT on [1, P*4, 1, 1], [1, P*C, 1, 1] and [1, 2, P*4, 1]: rows [1, 1, keepTopK, 7].

    It decodes, keeps Caffe's limits, clips what it returns, marks unused rows by the class -1, and writes nothing at
    all where it is asked to keep more than topK.
    """
    assert attrs["inputOrder"] == [0, 1, 2]
    assert (attrs["shareLocation"], attrs["isNormalized"], attrs["confSigmoid"]) == (1, 1, 0)
    classes, top_k, keep_top_k = (int(attrs[key]) for key in ("numClasses", "topK", "keepTopK"))  # type: ignore[call-overload]
    assert keep_top_k <= top_k
    count = offsets.shape[1] // 4
    assert top_k <= count
    coding = {0: "corner", 1: "center_size", 2: "corner_size"}[attrs["codeType"]]  # type: ignore[index]
    priors, variances = prior_data.reshape(2, count, 4)
    encoded = bool(attrs["varianceEncodedInTarget"])
    heads = SsdHeads("", "", priors, variances, classes, box_coding=coding, variance_encoded=encoded)  # type: ignore[arg-type]
    rows = zip(offsets.reshape(count, 4), priors, variances, strict=True)
    boxes = np.array([decode(t, p, v, heads) for t, p, v in rows], F)
    nms = Nms(attrs["confidenceThreshold"], attrs["nmsThreshold"], top_k, keep_top_k)  # type: ignore[arg-type]
    background = None if attrs["backgroundLabelId"] == -1 else attrs["backgroundLabelId"]
    result = np.zeros((1, 1, keep_top_k, 7), F)
    result[..., 1] = -1
    kept = detection_output(boxes, scores.reshape(count, classes), nms, background)  # type: ignore[arg-type]
    for row, found in enumerate(kept):
        result[0, 0, row] = [0, found.label, found.score, *np.clip(found.box, 0, 1)]
    return result
