"""The running average of a network's weights, which is a better network than the last step left.

Steps of a training wander around what they approach; their average is closer to it (Polyak and Juditsky, 1992; as an
exponential average of a student in Tarvainen and Valpola, Mean teachers, 2017).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

_DECAY = 0.999
_SOONER = 10  # in a short training the average is over about the last tenth of the steps


class Average:
    """An exponential average of parameters.

    Args:
        network: whose parameters as they are now begin the average.
        known: state of an average to go on from.
    """

    def __init__(self, network: nn.Module, known: Mapping[str, Tensor] | None = None) -> None:
        self._network = network
        self._values = {name: weight.detach().clone() for name, weight in network.named_parameters()}
        for name, value in (known or {}).items():
            self._values[name].copy_(value)

    def add(self, step: int) -> None:
        """Let the parameters of now take part, which `step` steps were taken for."""
        share = 1 - min(_DECAY, step / (step + _SOONER))
        for name, weight in self._network.named_parameters():
            self._values[name].lerp_(weight.detach(), share)

    @contextmanager
    def instead(self) -> Iterator[None]:
        """Let the network have the average as its parameters for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> dict[str, Tensor]:
        """Return what another average can go on from."""
        return dict(self._values)

    def _swap(self) -> None:
        for name, weight in self._network.named_parameters():
            now = weight.detach().clone()
            weight.detach().copy_(self._values[name])  # into the parameter's own memory
            self._values[name].copy_(now)
