"""How the time of a convolution grows with its channels, fitted to a few times of which some are wrong.

A GPU computes kernels in tiles, and a tile that is not full takes as long as a full one. So time is a staircase, whose
tile width nobody tells (Lechner and Jantsch, Blackthorn, IEEE Access 9, 2021, doi 10.1109/ACCESS.2021.3101936, for one
number of channels). Here it has two, because whole networks are timed, in which both change::

    t(i, k) = launch + slope * v ceil(i / v) * w ceil(k / w)

for i inputs and k kernels, tiles of w kernels, and inputs that are read in steps of v.

Each pair of widths is a hypothesis. Its line is the one through two of the times that the most other times agree with
(consensus, as RANSAC; each time costs ``min(r^2, 9)`` for its relative error r in standard deviations, so that a time
which is wrong costs no more however wrong it is). Hypotheses are weighed by these costs, ``exp(-cost / 2)``, and by how
likely a width is: layers of one network on one GPU mostly share theirs, so each layer learns from the others.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

WIDTHS = (*range(8, 65, 8), 80, 96, 112, 128, 192, 256)
"""Kernels of a tile."""

STEPS = (8, 16, 32, 64)
"""Inputs that are read at once."""

_DEVIATION = (0.01, 0.03, 0.06)  # of a time that is right, relative: least, where few are known, most
_WRONG = 3.0  # deviations
_MOST_PAIRS = 120
_ROUNDS = 5  # of learning which widths are likely
_SHARED = 0.9  # of the belief in a width comes from all layers; the rest is the same for each width


@dataclass(frozen=True, eq=False)
class NetworkTimes:
    """Times of the layers of one network as a profile tells them.

    Attributes:
        channels: inputs and kernels of each layer, [layers, 2].
        times_ms: [profiles, layers]; NaN where a profile does not tell a layer.
    """

    channels: Counts
    times_ms: Array


class Staircases:
    """The staircases of all layers of a network.

    Attributes:
        weights: how likely each hypothesis is, [layers, hypotheses].
        deviation: of times that are right, relative.
    """

    def __init__(self, networks: Sequence[NetworkTimes]) -> None:
        """Fit.

        Args:
            networks: at least one; all with the same layers in the same order.
        """
        channels = np.stack([network.channels for network in networks], axis=1)
        times_ms = np.stack([_least(network.times_ms) for network in networks], axis=1)
        count = len(channels)
        self._launch_ms, self._slope_ms = np.zeros((count, len(_WIDTHS))), np.zeros((count, len(_WIDTHS)))
        self.deviation = _DEVIATION[1]
        for _ in range(2):  # the second time with the deviation that the first one finds
            costs, errors = np.zeros_like(self._slope_ms), []
            for layer in range(count):
                known = np.isfinite(times_ms[layer])
                work, times = _work(channels[layer][known]), times_ms[layer][known]
                fitted = _consensus(work, times, self.deviation) if len(times) else (np.zeros(len(_WIDTHS)),) * 3
                self._launch_ms[layer], self._slope_ms[layer], costs[layer] = fitted
                best = int(np.argmin(costs[layer]))
                made_ms = self._launch_ms[layer, best] + self._slope_ms[layer, best] * work[best]
                errors.append(times / np.maximum(made_ms, 1e-12) - 1)
            self.deviation = _deviation(np.concatenate(errors), len(networks))
        self.weights = _weights(costs)

    def times_ms(self, layer: int, channels: Counts) -> tuple[Array, Array]:
        """Return what one layer takes, and how far the hypotheses are from one another.

        Args:
            layer: its number.
            channels: inputs and kernels, [cases, 2].

        Returns:
            Mean and standard deviation over the hypotheses by their weights, milliseconds, [cases].
        """
        likely = self.weights[layer] > 1e-4
        weights = self.weights[layer][likely] / self.weights[layer][likely].sum()
        made = self._launch_ms[layer][likely, None] + self._slope_ms[layer][likely, None] * _work(channels, likely)
        mean = weights @ made
        return mean, np.sqrt(weights @ (made - mean) ** 2)

    def total_ms(self, channels: Counts) -> float:
        """Return what all layers take together, for their inputs and kernels, [layers, 2]."""
        return float(sum(self.times_ms(layer, row[None])[0][0] for layer, row in enumerate(channels)))

    def width(self, layer: int) -> int:
        """Return the likeliest number of kernels in a tile of a layer."""
        by_width = self.weights[layer].reshape(len(WIDTHS), len(STEPS)).sum(axis=1)
        return int(WIDTHS[np.argmax(by_width)])


_WIDTHS = np.array(list(itertools.product(WIDTHS, STEPS)), np.int64)  # [hypotheses, 2]


def _work(channels: Counts, chosen: NDArray[np.bool_] | slice = slice(None)) -> Array:
    """Products of padded inputs and kernels, [hypotheses, cases], in units of 1024."""
    widths = _WIDTHS[chosen]
    kernels = -(-channels[None, :, 1] // widths[:, :1]) * widths[:, :1]
    inputs = -(-channels[None, :, 0] // widths[:, 1:]) * widths[:, 1:]
    return np.asarray(inputs * kernels / 1024, np.float64)


def _least(times_ms: Array) -> Array:
    """The least time of each layer over the profiles of one engine: whatever else the board does only adds time."""
    known = np.where(np.isfinite(times_ms), times_ms, np.inf).min(axis=0)
    return np.where(np.isfinite(known), known, np.nan)


def _consensus(work: Array, times_ms: Array, deviation: float) -> tuple[Array, Array, Array]:
    """Return launch, slope and cost of the line of each hypothesis, for work [hypotheses, times] and times [times]."""
    first, second = _pairs(len(times_ms))
    apart = work[:, first] - work[:, second]
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(apart != 0, (times_ms[first] - times_ms[second]) / apart, 0.0)
    launch, slope = _physical(times_ms[first] - slope * work[:, first], slope, work, times_ms, first, second)
    errors = times_ms / np.maximum(launch[..., None] + slope[..., None] * work[:, None], 1e-12) - 1
    costs = np.minimum((errors / deviation) ** 2, _WRONG**2).sum(axis=-1)
    best, rows = np.argmin(costs, axis=1), np.arange(len(work))
    launch, slope, cost = launch[rows, best], slope[rows, best], costs[rows, best]
    right = np.abs(errors[rows, best]) < _WRONG * deviation
    again = _least_squares(work, times_ms, right)
    errors = times_ms / np.maximum(again[0][:, None] + again[1][:, None] * work, 1e-12) - 1
    refined = np.minimum((errors / deviation) ** 2, _WRONG**2).sum(axis=-1)
    better = refined < cost
    return np.where(better, again[0], launch), np.where(better, again[1], slope), np.where(better, refined, cost)


def _pairs(count: int) -> tuple[Counts, Counts]:
    """All pairs of so many times, or a seeded part of them; of one time with itself where it is the only one."""
    pairs = np.array(list(itertools.combinations(range(count), 2)) or [(0, 0)], np.int64)
    if len(pairs) > _MOST_PAIRS:
        pairs = pairs[np.random.default_rng(0).permutation(len(pairs))[:_MOST_PAIRS]]
    return pairs[:, 0], pairs[:, 1]


def _physical(
    launch: Array, slope: Array, work: Array, times_ms: Array, first: Counts, second: Counts
) -> tuple[Array, Array]:
    """Neither a launch nor a channel takes less than no time: the nearest lines of which that is true."""
    middle_ms = (times_ms[first] + times_ms[second]) / 2
    middle = (work[:, first] + work[:, second]) / 2
    through_zero = (launch < 0) | (work[:, first] == work[:, second])
    launch = np.where(through_zero, 0.0, np.where(slope < 0, middle_ms, launch))
    return launch, np.where(through_zero, middle_ms / middle, np.maximum(slope, 0.0))


def _least_squares(work: Array, times_ms: Array, right: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Lines of least relative error through the times that are right, [hypotheses] each."""
    weights = right / times_ms**2
    total = np.maximum(weights.sum(axis=1), 1e-300)
    work_mean, time_mean = (weights * work).sum(axis=1) / total, (weights * times_ms).sum(axis=1) / total
    away = work - work_mean[:, None]
    spread = (weights * away**2).sum(axis=1)
    slope = (weights * away * (times_ms - time_mean[:, None])).sum(axis=1) / np.maximum(spread, 1e-300)
    slope = np.maximum(np.where(spread > 0, slope, 0.0), 0.0)
    launch = time_mean - slope * work_mean
    through_zero = (weights * work * times_ms).sum(axis=1) / np.maximum((weights * work**2).sum(axis=1), 1e-300)
    return np.maximum(launch, 0.0), np.where(launch < 0, through_zero, slope)


def _deviation(errors: Array, networks: int) -> float:
    """The deviation of times that are right from their lines, by the median, which no wrong time moves far."""
    least, start, most = _DEVIATION
    if networks < 5:
        return start
    return float(np.clip(1.4826 * np.median(np.abs(errors)) * np.sqrt(networks / (networks - 3)), least, most))


def _weights(costs: Array) -> Array:
    """Weights of the hypotheses of each layer, [layers, hypotheses]; each layer learns from all."""
    even = np.full(costs.shape[1], 1 / costs.shape[1])
    likely = even
    for _ in range(_ROUNDS):
        logarithms = np.log(likely) - costs / 2
        weights = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        likely = _SHARED * weights.mean(axis=0) + (1 - _SHARED) * even
    return np.asarray(weights, np.float64)
