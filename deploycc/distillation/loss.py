"""How far a student's raw heads are from its teacher's (Hinton et al., Distilling the knowledge, 2015).

Scores are compared three times. As they are, over all priors: then only the class that is seen has a gradient.
Softened, where the teacher sees an object: the scores of all other classes have one too, so that a class which the
pictures hardly show is not forgotten. And as logits, wherever the teacher does not rule a class out: probabilities of
0.05 and 0.1 are nearly the same, yet the order of doubtful detections decides much of the average precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from deploycc.distillation.heads import Activation
from deploycc.distillation.processes import total

SEEN = 0.05
"""Probability from which a teacher's prior counts as one that sees an object."""
TEMPERATURE = 4.0
"""By which logits are divided where they are softened: Hinton et al. use 2 to 20."""
DOUBT = 0.01
"""Probability from which the order of a class's detections matters: average precision compares them all."""
DOUBT_WEIGHT = 0.1
_LEAST = 1e-6


@dataclass(frozen=True)
class Loss:
    """Terms of a batch, each a scalar; they are added as they are.

    Attributes:
        scores: divergence from the teacher's scores, summed over priors, plus that of softened and of doubtful ones.
        locations: smooth L1 of the offsets where the teacher sees an object.
        maps: mean square of what the feature maps differ by, relative to the teacher's.
        labels: the SSD objective on labelled objects; 0 without labels.
    """

    scores: Tensor
    locations: Tensor
    maps: Tensor
    labels: Tensor = field(default_factory=lambda: torch.zeros(()))

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.scores + self.locations + self.maps + self.labels


def distillation_loss(
    scores: Tensor,
    locations: Tensor,
    teacher_probabilities: Tensor,
    teacher_locations: Tensor,
    activation: Activation,
    background: int | None,
) -> Loss:
    """Compare a batch with its teacher.

    Args:
        scores: [N, P, C] logits, or probabilities where `activation` says so.
        locations: [N, P, 4] offsets.
        teacher_probabilities: [N, P, C], without gradient.
        teacher_locations: [N, P, 4], likewise.
        activation: of the scores.
        background: index of the background class, or None.

    Returns:
        Sums over priors, divided by the number of priors in which the teacher sees an object, in the batch of all
        processes.
    """
    seen = foreground(teacher_probabilities, background)
    count = total((seen > SEEN).sum()).clamp(min=1)
    weight = torch.where(seen > SEEN, seen, torch.zeros_like(seen))
    distance = functional.smooth_l1_loss(locations, teacher_locations, reduction="none").sum(2)
    divergence = _divergence(scores, teacher_probabilities, activation)
    softened = _divergence(*_softened(scores, teacher_probabilities, activation), _soft(activation))
    divergence = divergence + weight * TEMPERATURE**2 / scores.shape[2] * softened
    divergence = divergence + DOUBT_WEIGHT * _doubts(scores, teacher_probabilities, activation, background)
    return Loss(divergence.sum() / count, (weight * distance).sum() / count, torch.zeros(()))


def map_distance(mine: Tensor, teachers: Tensor) -> Tensor:
    """Energy of the difference of two maps, [N, C, H, W], relative to the teacher's in the whole batch."""
    return (mine - teachers).square().sum() / total(teachers.square().sum()).clamp(min=_LEAST)


def foreground(probabilities: Tensor, background: int | None) -> Tensor:
    """The largest probability of a class that is an object, [N, P]."""
    if background is None:
        return probabilities.amax(2)
    kept = [k for k in range(probabilities.shape[2]) if k != background]
    return probabilities[..., kept].amax(2)


def doubt_weight(probabilities: Tensor, background: int | None) -> Tensor:
    """Rise from 0 where an object is ruled out to 1 where it is not, half way up at `DOUBT`; [..., C]."""
    square = probabilities.square()
    weight = square / (square + DOUBT**2)
    if background is not None:
        weight[..., background] = 0
    return weight


def probabilities_of(scores: Tensor, activation: Activation) -> Tensor:
    """Apply the activation."""
    if activation == "sigmoid":
        return scores.sigmoid()
    return scores.softmax(2) if activation == "softmax" else scores


def soft_probabilities(probabilities: Tensor, activation: Activation) -> Tensor:
    """Return the probabilities, [..., C], that the same scores divided by `TEMPERATURE` give."""
    if activation == "softmax":
        return (probabilities.clamp(min=_LEAST).log() / TEMPERATURE).softmax(-1)
    return (torch.logit(probabilities, _LEAST) / TEMPERATURE).sigmoid()


def _softened(scores: Tensor, teacher_probabilities: Tensor, activation: Activation) -> tuple[Tensor, Tensor]:
    return logits_of(scores, activation) / TEMPERATURE, soft_probabilities(teacher_probabilities, activation)


def logits_of(scores: Tensor, activation: Activation) -> Tensor:
    """Return logits that end at the same least probability for all networks, so that equal scores are equal here too.

    Args:
        scores: [N, P, C] logits, or probabilities where `activation` says so.
        activation: of the scores.
    """
    if activation == "softmax":
        return functional.log_softmax(scores, 2).clamp(min=math.log(_LEAST))
    most = math.log(1 / _LEAST - 1)
    return torch.logit(scores, _LEAST) if activation == "probabilities" else scores.clamp(-most, most)


def _soft(activation: Activation) -> Activation:
    """The activation of softened scores, which are logits."""
    return "sigmoid" if activation == "probabilities" else activation


def _doubts(scores: Tensor, target: Tensor, activation: Activation, background: int | None) -> Tensor:
    """Smooth L1 of the logits of all objects that the teacher does not rule out, summed over classes, [N, P]."""
    its = target.clamp(min=_LEAST).log() if activation == "softmax" else torch.logit(target, _LEAST)
    distance = functional.smooth_l1_loss(logits_of(scores, activation), its, reduction="none")
    return (doubt_weight(target, background) * distance).sum(2)


def _divergence(scores: Tensor, target: Tensor, activation: Activation) -> Tensor:
    """Cross-entropy with the target minus the target's own entropy: 0 where both agree."""
    if activation == "softmax":
        return functional.kl_div(functional.log_softmax(scores, 2), target, reduction="none").sum(2)
    if activation == "probabilities":
        scores = torch.logit(scores, _LEAST)
    own = functional.binary_cross_entropy(target, target, reduction="none")
    return (functional.binary_cross_entropy_with_logits(scores, target, reduction="none") - own).sum(2)
