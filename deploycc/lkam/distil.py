"""Knowledge distillation from a dense detector, whose outputs are targets for every prior.

A gated network starts as a copy of a dense one and must recover the accuracy lost by switching kernels off. The dense
network's scores and offsets carry more information per picture than the annotated boxes (Hinton et al., Distilling
the Knowledge in a Neural Network, 2015, at temperature 1).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def distillation_loss(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """Compute the Kullback-Leibler divergence of the scores plus smooth L1 of the offsets on the teacher's foreground.

    Args:
        student: offsets [B, P, 4] and class logits [B, P, C], class 0 is background.
        teacher: outputs of the dense network in the same form, without gradient.

    Returns:
        A scalar: sums over priors, divided by the teacher's number of foreground priors (the sum of its foreground
        probabilities), so that it has the scale of the SSD objective's terms.
    """
    offsets, logits = student
    target_offsets, target_logits = teacher
    target = functional.softmax(target_logits, 2)
    foreground = 1 - target[..., 0]
    count = foreground.sum().clamp(min=1)
    divergence = functional.kl_div(functional.log_softmax(logits, 2), target, reduction="none").sum(2)
    distance = functional.smooth_l1_loss(offsets, target_offsets, reduction="none").sum(2)
    return (divergence.sum() + (foreground * distance).sum()) / count
