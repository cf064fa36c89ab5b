"""The SSD objective: smooth L1 on offsets, cross entropy with hard negatives (Liu et al., SSD, 2016, equation 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deploycc.detector import BoxCoding
from deploycc.trainable.matching import IGNORED, encode_boxes, match_priors

NEGATIVES = 3  # per positive
_LEAST = 16  # smallest number of negatives per picture


@dataclass(frozen=True)
class MultiboxLoss:
    """The two terms, each divided by the number of positive priors of the batch."""

    location: Tensor
    score: Tensor


def softmax_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of classes that exclude one another, [B, P].

    Args:
        logits: [B, P, C], background first.
        target: [B, P] class, 0 for background.
    """
    return functional.cross_entropy(logits.transpose(1, 2), target, reduction="none")


def sigmoid_entropy(logits: Tensor, target: Tensor, background: bool) -> Tensor:
    """Cross entropy of classes that are scored apart, summed over them, [B, P].

    Args:
        logits: [B, P, C].
        target: [B, P] class, 0 for background.
        background: whether the first of the logits is the background's; without it, background is no class at all.
    """
    wanted = functional.one_hot(target, logits.shape[2] + (not background))[..., -logits.shape[2] :]
    return functional.binary_cross_entropy_with_logits(logits, wanted.to(logits), reduction="none").sum(2)


def multibox_loss(
    offsets: Tensor,
    logits: Tensor,
    priors: Tensor,
    boxes: Tensor,
    labels: Tensor,
    variances: Tensor,
    *,
    coding: BoxCoding = "center_size",
    entropy: Callable[[Tensor, Tensor], Tensor] = softmax_entropy,
    uncertain: Tensor | None = None,
    total: Callable[[Tensor], Tensor] = lambda count: count,
) -> MultiboxLoss:
    """Compute the objective of one batch.

    Args:
        offsets: [B, P, 4] from the network.
        logits: [B, P, C] from the network, as `entropy` takes them.
        priors: [P, 4] corners, 0..1.
        boxes: [B, N, 4] corners, 0..1, padded.
        labels: [B, N] class from 1, 0 for padding, `IGNORED` for difficult objects.
        variances: [P, 4] or [4], of x y w h.
        coding: how offsets refer to priors.
        entropy: of the scores of each prior.
        uncertain: [B, P] whether a prior that has no object may show one that nobody labelled; None: none does.
        total: adds a count up over all processes that share the batch.
    """
    target, owner = match_priors(priors, boxes, labels)
    if uncertain is not None:
        target = target.masked_fill(uncertain & (target == 0), IGNORED)
    positive = target > 0
    count = total(positive.sum()).clamp(min=1)
    rows = positive.nonzero()
    matched = boxes[rows[:, 0], owner[rows[:, 0], rows[:, 1]]]
    encoded = encode_boxes(priors[rows[:, 1]], matched, variances.expand(len(priors), 4)[rows[:, 1]], coding)
    location = functional.smooth_l1_loss(offsets[rows[:, 0], rows[:, 1]], encoded, reduction="sum") / count

    values = entropy(logits, target.clamp(min=0))
    with torch.no_grad():
        hardness = values.masked_fill(positive | (target == IGNORED), -1.0)
        rank = hardness.argsort(1, descending=True).argsort(1)
        quota = (NEGATIVES * positive.sum(1, keepdim=True)).clamp(min=_LEAST)
        negative = (rank < quota) & (target == 0)
    score = (values * (positive | negative)).sum() / count
    return MultiboxLoss(location, score)
