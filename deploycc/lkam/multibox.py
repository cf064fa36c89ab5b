"""The SSD objective: smooth L1 on offsets, cross entropy with hard negatives (Liu et al., SSD, 2016, equation 1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deploycc.lkam.matching import IGNORED, encode_boxes, match_priors
from deploycc.lkam.priors import VARIANCES

NEGATIVES = 3  # per positive
_LEAST = 16  # smallest number of negatives per picture


@dataclass(frozen=True)
class MultiboxLoss:
    """The two terms, each divided by the number of positive priors of the batch."""

    location: Tensor
    score: Tensor


def multibox_loss(offsets: Tensor, logits: Tensor, priors: Tensor, boxes: Tensor, labels: Tensor) -> MultiboxLoss:
    """Compute the objective of one batch.

    Args:
        offsets: [B, P, 4] from the network.
        logits: [B, P, C] from the network.
        priors: [P, 4] corners, 0..1.
        boxes: [B, N, 4] corners, 0..1, padded.
        labels: [B, N] class from 1, 0 for padding, `IGNORED` for difficult objects.
    """
    target, owner = match_priors(priors, boxes, labels)
    positive = target > 0
    count = positive.sum().clamp(min=1)
    rows = positive.nonzero()
    encoded = encode_boxes(priors[rows[:, 1]], boxes[rows[:, 0], owner[rows[:, 0], rows[:, 1]]], VARIANCES)
    location = functional.smooth_l1_loss(offsets[rows[:, 0], rows[:, 1]], encoded, reduction="sum") / count

    entropy = functional.cross_entropy(logits.transpose(1, 2), target.clamp(min=0), reduction="none")
    with torch.no_grad():
        hardness = entropy.masked_fill(positive | (target == IGNORED), -1.0)
        rank = hardness.argsort(1, descending=True).argsort(1)
        quota = (NEGATIVES * positive.sum(1, keepdim=True)).clamp(min=_LEAST)
        negative = (rank < quota) & (target == 0)
    score = (entropy * (positive | negative)).sum() / count
    return MultiboxLoss(location, score)
