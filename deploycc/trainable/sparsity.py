"""The loss terms of engaged kernels, and schedules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from deploycc.trainable.gate import FollowingGate, KernelGate, engaged_kernels

Gates = Mapping[str, KernelGate | FollowingGate]
"""The gates of a network by the names of the layers that they gate, after a forward pass."""
_NEAR = 0.05  # distance from the target share at which the gain is full


def sparsity_loss(gates: Gates, gains: Mapping[str, float]) -> Tensor:
    """Compute ``sum over layers i of G_i / (2 m_i) * sum over gates k of sw_ik``, the batch's mean (US 11,321,613).

    Args:
        gates: of a network.
        gains: G of each gated layer by name.
    """
    return torch.stack([gains[name] / 2 * engaged_kernels(gate).mean() for name, gate in gates.items()]).sum()


def spread_loss(gates: Gates, macs: Mapping[str, int], target: float) -> Tensor:
    """Return by how much the standard deviation of the engaged shares in a batch falls short of `target`.

    With the sparsity term alone, gates may end up engaging the same kernels for every picture. The detector's loss
    determines which pictures engage fewer: those that lose least. (This term is not part of LKAM.)
    """
    return torch.clamp(target - _shares(gates, macs).std(correction=0), min=0)


def layer_gains(gates: Gates, gain: float, macs: Mapping[str, int] | None) -> dict[str, float]:
    """Return one gain per layer with mean `gain`: equal, or in proportion to the layers' MACs."""
    weights = {name: float(macs[name]) if macs else 1.0 for name in gates}
    mean = sum(weights.values()) / len(weights)
    return {name: gain * weight / mean for name, weight in weights.items()}


def gate_price(
    gates: Gates,
    macs: Mapping[str, int],
    *,
    gain: float,
    target: float | None,
    spread: float,
    spread_weight: float,
    weigh_macs: bool = True,
) -> Tensor:
    """Compute the loss of a batch for engaged kernels and for pictures that all engage equally many.

    Args:
        gates: of a network.
        macs: of each gated layer.
        gain: mean of the layers' gains.
        target: share of the gated MACs to keep engaged: the gain shrinks towards it and changes sign below it, so that
            kernels compete for a budget. None keeps the full gain.
        spread: standard deviation of the engaged share that the pictures of a batch should have.
        spread_weight: weight of the penalty if it is smaller.
        weigh_macs: gains in proportion to the layers' MACs instead of equal.
    """
    sparsity = sparsity_loss(gates, layer_gains(gates, gain, macs if weigh_macs else None))
    share = float(engaged_share(gates, macs).mean())
    pull = 1.0 if target is None else max(-1.0, min(1.0, (share - target) / _NEAR))
    return pull * sparsity + spread_weight * spread_loss(gates, macs, spread)


def engaged_share(gates: Gates, macs: Mapping[str, int]) -> Tensor:
    """Return the share [N] of the gated layers' MACs that each picture of the last forward pass engages.

    Args:
        gates: of a network.
        macs: of each gated convolution with all kernels engaged. What the next layer could save on idle input
            channels is not counted.
    """
    return _shares(gates, macs).detach()


def _shares(gates: Gates, macs: Mapping[str, int]) -> Tensor:
    total = sum(macs.values())
    parts = [engaged_kernels(gate).mean(1) * (macs[name] / total) for name, gate in gates.items()]
    return torch.stack(parts).sum(0)


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
