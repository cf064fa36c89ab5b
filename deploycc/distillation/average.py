"""The running average of a network's weights, which is a better network than the last step left.

Steps of a training wander around what they approach; their average is closer to it (Polyak and Juditsky, 1992; as an
exponential average of a student in Tarvainen and Valpola, Mean teachers, 2017).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

_DECAY = 0.999
_SOONER = 10  # in a short training the average is over about the last tenth of the steps


class Average:
    """An exponential average of weights over the steps of which it is told.

    Args:
        weights: by name; as they are now they begin the average.
        known: state of an average to go on from.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], known: Mapping[str, Any] | None = None) -> None:
        self._weights = weights
        self._values = {name: weight.detach().clone() for name, weight in weights.items()}
        self._steps = 0
        if known:
            self._steps = int(known["steps"])
            for name, value in known["values"].items():
                self._values[name].copy_(value)

    def add(self) -> None:
        """Let the weights of now take part."""
        self._steps += 1
        share = 1 - min(_DECAY, self._steps / (self._steps + _SOONER))
        for name, weight in self._weights.items():
            self._values[name].lerp_(weight.detach(), share)

    @contextmanager
    def instead(self) -> Iterator[None]:
        """Let the network have the average as its weights for a while; nothing changes before `add`."""
        if not self._steps:
            yield
            return
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> dict[str, Any]:
        """Return what another average can go on from."""
        return {"steps": self._steps, "values": dict(self._values)}

    def _swap(self) -> None:
        for name, weight in self._weights.items():
            now: Tensor = weight.detach().clone()
            weight.detach().copy_(self._values[name])  # into the parameter's own memory
            self._values[name].copy_(now)
