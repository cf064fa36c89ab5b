"""A board that is made up: the time of each convolution is a known staircase, told with noise and disturbances."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deploycc.documents.costs import Convolution
from deploycc.pruning.count_options import CountOptions, State
from deploycc.timing.staircase import NetworkTimes

LAUNCH_MS = 0.02
MACS_PER_MS = 3e8  # a TX2 computes about as many in FP16
DISTURBED = (1.5, 3.0)


@dataclass
class PlantedBoard:
    """Times of a network's convolutions; see `exact_ms`.

    Attributes:
        options: of the network.
        width: kernels of a tile.
        step: inputs that are read at once.
        noise: relative standard deviation of each time.
        disturbed: share of the times that are 1.5 to 3 times as long.
        profiles: that the oracle takes of each engine.
        persistent: a disturbance meets all profiles of an engine alike.
        engines: options of the networks that were built.
    """

    options: CountOptions
    width: int
    step: int = 8
    noise: float = 0.02
    disturbed: float = 0.2
    profiles: int = 3
    persistent: bool = False
    seed: int = 0
    engines: list[State] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._generator = np.random.default_rng(self.seed)
        self._windows = np.array([_window(convolution) for convolution in self.options.convolutions])

    def exact_ms(self, state: State) -> NDArray[np.float64]:
        """Launches and multiply-accumulates of whole tiles, [convolutions]."""
        return self._times_ms(self.options.channels(state), self._windows)

    def times_ms(self, layer: int, channels: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """As fitted staircases tell the times of one convolution, without a doubt."""
        return self._times_ms(channels, self._windows[layer]), np.zeros(len(channels))

    def _times_ms(self, channels: NDArray[np.int64], windows: NDArray[np.int64]) -> NDArray[np.float64]:
        inputs, kernels = channels.T
        inputs, kernels = -(-inputs // self.step) * self.step, -(-kernels // self.width) * self.width
        return np.asarray(LAUNCH_MS + inputs * kernels * windows / MACS_PER_MS, np.float64)

    def total_ms(self, state: State) -> float:
        return float(self.exact_ms(state).sum())

    def best(self) -> State:
        """The options of least time, and of those the ones with the most kernels: a staircase never falls."""
        state = [0] * len(self.options.bundles)
        for number, of in enumerate(self.options.bundles):
            least_ms = self.total_ms(tuple(state))
            for option in range(1, len(of.gone)):
                higher = (*state[:number], option, *state[number + 1 :])
                if self.total_ms(higher) <= least_ms * (1 + 1e-9):
                    state[number] = option
        return tuple(state)

    def __call__(self, state: State) -> NetworkTimes:
        self.engines.append(state)
        exact_ms = self.exact_ms(state)
        shape = (self.profiles, len(exact_ms))
        hit = self._generator.random(shape) < self.disturbed
        factor = self._generator.uniform(*DISTURBED, shape)
        if self.persistent:
            hit, factor = hit[:1], factor[:1]
        noise = 1 + self.noise * self._generator.standard_normal(shape)
        return NetworkTimes(self.options.channels(state), exact_ms * noise * np.where(hit, factor, 1.0))


def _window(convolution: Convolution) -> int:
    """Multiply-accumulates per kernel and input."""
    top, left, bottom, right = convolution.pads
    padded = convolution.size[0] + top + bottom, convolution.size[1] + left + right
    rows, columns = (
        (size - dilation * (window - 1) - 1) // stride + 1
        for size, window, stride, dilation in zip(
            padded, convolution.kernel, convolution.stride, convolution.dilation, strict=True
        )
    )
    return rows * columns * convolution.kernel[0] * convolution.kernel[1]
