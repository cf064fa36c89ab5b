"""The loss terms of engaged kernels, and schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deploycc.lkam.gate import engaged_kernels
from deploycc.lkam.insert import gated_convs


def sparsity_loss(model: nn.Module, gains: Mapping[str, float]) -> Tensor:
    """Compute ``sum over layers i of G_i / (2 m_i) * sum over gates k of sw_ik``, the batch's mean (US 11,321,613).

    Args:
        model: after a forward pass.
        gains: G of each gated layer by name.
    """
    terms = []
    for name, module in gated_convs(model):
        terms.append(gains[name] / 2 * engaged_kernels(module.gate).mean())
    return torch.stack(terms).sum()


def spread_loss(model: nn.Module, macs: Mapping[str, int], target: float) -> Tensor:
    """Return by how much the standard deviation of the engaged shares in a batch falls short of `target`.

    With the sparsity term alone, gates may end up engaging the same kernels for every picture. The detector's loss
    determines which pictures engage fewer: those that lose least. (This term is not part of LKAM.)
    """
    return torch.clamp(target - _shares(model, macs).std(correction=0), min=0)


def layer_gains(model: nn.Module, gain: float, macs: Mapping[str, int] | None) -> dict[str, float]:
    """Return one gain per layer with mean `gain`: equal, or in proportion to the layers' MACs."""
    names = [name for name, _ in gated_convs(model)]
    weights = {n: float(macs[n]) if macs else 1.0 for n in names}
    mean = sum(weights.values()) / len(weights)
    return {n: gain * w / mean for n, w in weights.items()}


def engaged_share(model: nn.Module, macs: Mapping[str, int]) -> Tensor:
    """Return the share [N] of the gated layers' MACs that each picture of the last forward pass engages.

    Args:
        model: after a forward pass.
        macs: of each gated convolution with all kernels engaged. What the next layer could save on idle input
            channels is not counted.
    """
    return _shares(model, macs).detach()


def _shares(model: nn.Module, macs: Mapping[str, int]) -> Tensor:
    total = sum(macs.values())
    parts = []
    for name, module in gated_convs(model):
        parts.append(engaged_kernels(module.gate).mean(1) * (macs[name] / total))
    return torch.stack(parts).sum(0)


def conv_macs(model: nn.Module, picture: Tensor) -> dict[str, int]:
    """Count the MACs of each gated convolution for one picture [1, C, H, W], all kernels engaged."""
    counts: dict[str, int] = {}
    hooks = []
    for name, module in gated_convs(model):

        def count(conv: nn.Module, _inputs: object, output: Tensor, name: str = name) -> None:
            weight = conv.get_parameter("weight")
            counts[name] = math.prod(output.shape[1:]) * math.prod(weight.shape[1:])

        hooks.append(module.conv.register_forward_hook(count))
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model(picture)
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    return counts


@dataclass(frozen=True)
class Ramp:
    """A value that changes linearly from `first` to `last` between two fractions of the training."""

    first: float
    last: float
    start: float = 0.0
    stop: float = 0.5

    def at(self, progress: float) -> float:
        """Return the value at a progress of 0..1."""
        t = min(1.0, max(0.0, (progress - self.start) / max(self.stop - self.start, 1e-9)))
        return self.first + (self.last - self.first) * t
