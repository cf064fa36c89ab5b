"""Match priors with objects and compute their target offsets (Liu et al., SSD, 2016, section 2.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from deploycc.detector import BoxCoding

IGNORED = -1  # label of a prior that is trained neither as an object nor as background


def match_priors(priors: Tensor, boxes: Tensor, labels: Tensor, iou_threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """Assign objects to priors.

    Every object gets the prior that it overlaps most. Every other prior gets the object that it overlaps most if the
    overlap exceeds the threshold. Priors that overlap an ignored object by more than 0.4 are ignored, unless they
    have an object.

    Args:
        priors: [P, 4] corners, 0..1.
        boxes: [B, N, 4] corners, 0..1, padded.
        labels: [B, N] class from 1, 0 for padding, `IGNORED` for difficult objects.
        iou_threshold: overlap above which a prior is responsible.

    Returns:
        [B, P] labels, 0 for background; [B, P] index of the object.
    """
    overlap = _iou(boxes, priors)
    real = labels > 0
    real_overlap = overlap.masked_fill(~real.unsqueeze(2), -1.0)
    best, owner = real_overlap.max(1) if boxes.shape[1] else _no_objects(len(boxes), len(priors))
    matched = best > iou_threshold
    result = torch.zeros_like(owner)
    if boxes.shape[1]:
        ignored = overlap.masked_fill((labels != IGNORED).unsqueeze(2), -1.0).amax(1) > 0.4
        result[ignored] = IGNORED
        result = torch.where(matched, labels.gather(1, owner), result)
        best_prior = real_overlap.argmax(2)
        for picture, number in real.nonzero().tolist():
            prior = best_prior[picture, number]
            owner[picture, prior] = number
            result[picture, prior] = labels[picture, number]
    return result, owner


def encode_boxes(priors: Tensor, boxes: Tensor, variances: Tensor, coding: BoxCoding = "center_size") -> Tensor:
    """Encode boxes as offsets from priors: the inverse of `deploycc.evaluation.decode.decode_boxes`.

    With prior centre c, prior size s, variances v:

    * ``center_size``: t_xy = (centre - c) / (s v_xy), t_wh = log(size / s) / v_wh
    * ``corner``: t = (corners - prior's corners) / v
    * ``corner_size``: the same, divided by s

    Args:
        priors: [..., 4] corners.
        boxes: [..., 4] corners.
        variances: [..., 4] or [4], of x y w h.
        coding: how offsets refer to priors.
    """
    size, box_size = priors[..., 2:] - priors[..., :2], boxes[..., 2:] - boxes[..., :2]
    if coding != "center_size":
        corners = boxes - priors
        return (corners if coding == "corner" else corners / torch.cat([size, size], -1)) / variances
    shift = (boxes[..., :2] + boxes[..., 2:] - priors[..., :2] - priors[..., 2:]) / 2
    growth = torch.log(box_size.clamp(min=1e-6) / size)
    return torch.cat([shift / size / variances[..., :2], growth / variances[..., 2:]], -1)


def _iou(boxes: Tensor, priors: Tensor) -> Tensor:
    """Return the intersection over union, [B, N, P]."""
    a, b = boxes.unsqueeze(2), priors[None, None]
    overlap = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    area_a = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(-1)
    area_b = (b[..., 2:] - b[..., :2]).prod(-1)
    return overlap / (area_a + area_b - overlap).clamp(min=1e-12)


def _no_objects(pictures: int, priors: int) -> tuple[Tensor, Tensor]:
    return torch.full((pictures, priors), -1.0), torch.zeros((pictures, priors), dtype=torch.long)
