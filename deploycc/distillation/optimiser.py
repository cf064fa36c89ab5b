"""The optimiser: Adam, whose steps are relative to each weight, because layers differ by orders of magnitude."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from deploycc.trainable.network import TrainableNetwork

_BETAS = (0.9, 0.99)
_LEAST_SCALE = 1e-8  # of a weight that is all zeros


class Optimiser:
    """Adam with a rate for each weight.

    Args:
        network: that is trained.
        rate: peak of a step's size, relative to the root mean square of a weight.
    """

    def __init__(self, network: TrainableNetwork, rate: float) -> None:
        groups = []
        for weight in network.weights:
            scale = float(weight.detach().square().mean().sqrt())
            groups.append({"params": [weight], "lr": rate * max(scale, _LEAST_SCALE), "peak": rate * scale})
        self._adam = torch.optim.Adam(groups, betas=_BETAS)

    def add(self, parameters: Iterable[nn.Parameter], rate: float) -> None:
        """Train other parameters too, with steps of this size at the peak."""
        self._adam.add_param_group({"params": list(parameters), "lr": rate, "peak": rate})

    def slow_down(self, factor: float) -> None:
        """Let steps be as large as this part of the peak."""
        for group in self._adam.param_groups:
            group["lr"] = group["peak"] * factor

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self._adam.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Move all parameters that have a gradient."""
        self._adam.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the state, for `load_state_dict`."""
        return self._adam.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self._adam.load_state_dict(state)
