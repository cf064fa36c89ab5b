"""Learning from a dense detector: what it says about every prior, not only what the labels say about a few.

A gated network starts as a copy of a dense one and has to regain what switching kernels off costs. The dense network's
scores and offsets tell it more for each picture than the boxes do (Hinton et al., Distilling the Knowledge in a Neural
Network, 2015, at temperature 1).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def distillation_loss(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """Kullback-Leibler divergence of the scores, and smooth L1 between the offsets where the teacher sees an object.

    Args:
        student: offsets [B, P, 4] and class logits [B, P, C], class 0 is background.
        teacher: the same of the dense network, without gradient.

    Returns:
        A scalar: sums over priors, divided by the number of objects' priors as the teacher counts them (the sum of
        its foreground probabilities), so that it weighs like the SSD objective's terms.
    """
    offsets, logits = student
    wanted_offsets, wanted_logits = teacher
    wanted = functional.softmax(wanted_logits, 2)
    foreground = 1 - wanted[..., 0]
    count = foreground.sum().clamp(min=1)
    divergence = functional.kl_div(functional.log_softmax(logits, 2), wanted, reduction="none").sum(2)
    distance = functional.smooth_l1_loss(offsets, wanted_offsets, reduction="none").sum(2)
    return (divergence.sum() + (foreground * distance).sum()) / count
