"""Which numbers of kernels are fastest on a board, found by timing a few whole networks with different numbers.

Building an engine takes a board minutes, so convolutions are not timed one by one: an engine of the whole network tells
in its profile how long each of them takes. Staircases are fitted to what a few engines told
(`deploycc.timing.staircase`). The next network is one on which the fitted hypotheses disagree most, as Blackthorn picks
its next timing; when they no longer do, the numbers of kernels are chosen by the staircases.

Nothing here builds or measures: an oracle does, on a board or made up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploycc.pruning.count_options import CountOptions, State
from deploycc.timing.staircase import NetworkTimes, Staircases

MOST_NETWORKS = 12
_LEAST_NETWORKS = 5  # before hypotheses that agree are believed
_AGREE = 0.01  # of the whole time
_EQUAL = 0.005  # of the time that a bundle affects: below that, the more kernels the better
_SWEEPS = 3
_STARTS = 3

Array = NDArray[np.float64]
Oracle = Callable[[State], NetworkTimes]
"""Builds the network of these options and tells the times of its convolutions."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """The numbers of kernels that were chosen.

    Attributes:
        state: the options.
        stairs: the staircases that they were chosen by.
        times_ms: for each bundle the expected time of the convolutions that it affects, by option.
    """

    state: State
    stairs: Staircases
    times_ms: tuple[Array, ...]


def choose_by_profiles(
    options: CountOptions,
    oracle: Oracle,
    known: Sequence[NetworkTimes] = (),
    *,
    most: int = MOST_NETWORKS,
    go_on: Callable[[], bool] = lambda: True,
) -> Chosen:
    """Time networks until it is clear which numbers of kernels are fastest; the chosen network is one of them.

    Args:
        options: what may be chosen.
        oracle: times a network.
        known: times of networks of the same layers, measured before.
        most: networks to time, with the known ones.
        go_on: asked before each network but the first; False ends it with what is known.

    Returns:
        The choice.
    """
    timed = time_networks(options, oracle, known, most=most - 1, go_on=go_on)  # one is left for the choice
    while True:
        stairs = Staircases(timed)
        best = fastest_state(options, stairs)
        if _is_known(options, best, timed) or len(timed) >= most or not go_on():
            return Chosen(best, stairs, tuple(_expected_ms(options, stairs, best)))
        timed.append(oracle(best))


def time_networks(
    options: CountOptions,
    oracle: Oracle,
    known: Sequence[NetworkTimes] = (),
    *,
    most: int = MOST_NETWORKS,
    go_on: Callable[[], bool] = lambda: True,
) -> list[NetworkTimes]:
    """Time networks until the staircases are clear; see `choose_by_profiles`.

    Returns:
        The known networks and those that were timed.
    """
    timed = list(known)
    for state in (options.everything(), (0,) * len(options.bundles)):  # with all kernels, and with the fewest
        if not _is_known(options, state, timed) and (not timed or (len(timed) < most and go_on())):
            timed.append(oracle(state))
    while len(timed) < most:
        stairs = Staircases(timed)
        best = fastest_state(options, stairs)
        disputed, dispute_ms = most_disputed(options, stairs, best, timed)
        clear = dispute_ms < _AGREE * stairs.total_ms(options.channels(best))
        if disputed is None or (clear and len(timed) >= _LEAST_NETWORKS) or not go_on():
            break
        timed.append(oracle(disputed))
    return timed


def fastest_state(options: CountOptions, stairs: Staircases) -> State:
    """Return the options of least expected time; of options that take equally long, those with the most kernels."""
    state = [0] * len(options.bundles)
    for _ in range(_SWEEPS):
        before = list(state)
        for number in range(len(state)):
            times_ms = _sums(options, stairs, number, state)[0]
            state[number] = int(np.flatnonzero(times_ms <= times_ms.min() * (1 + _EQUAL))[-1])
        if state == before:
            break
    return tuple(state)


def most_disputed(
    options: CountOptions, stairs: Staircases, start: State, timed: Sequence[NetworkTimes]
) -> tuple[State | None, float]:
    """Return options not timed yet on which the hypotheses disagree most, and by how many milliseconds in sum.

    Args:
        options: what may be chosen.
        stairs: the hypotheses.
        start: options to start the search from; it starts from seeded ones too.
        timed: networks that are known.
    """
    generator = np.random.default_rng(len(timed))
    best, most_ms = None, -1.0
    for attempt in range(_STARTS):
        state = list(start) if attempt == 0 else [int(generator.integers(len(of.gone))) for of in options.bundles]
        for _ in range(_SWEEPS):
            before = list(state)
            for number in range(len(state)):
                state[number] = int(np.argmax(_sums(options, stairs, number, state)[1]))
            if state == before:
                break
        dispute_ms = sum(
            float(stairs.times_ms(layer, row[None])[1][0]) for layer, row in enumerate(options.channels(state))
        )
        if dispute_ms > most_ms and not _is_known(options, tuple(state), timed):
            best, most_ms = tuple(state), dispute_ms
    return best, max(most_ms, 0.0)


def _sums(options: CountOptions, stairs: Staircases, number: int, state: Sequence[int]) -> tuple[Array, Array]:
    """Expected times and disagreements of the convolutions that a bundle affects, by its option."""
    layers, channels = options.around(number, state)
    sums = np.zeros((2, len(channels)))
    for column, layer in enumerate(layers.tolist()):
        sums += stairs.times_ms(layer, channels[:, column])
    return sums[0], sums[1]


def _expected_ms(options: CountOptions, stairs: Staircases, state: State) -> list[Array]:
    return [_sums(options, stairs, number, state)[0] for number in range(len(state))]


def _is_known(options: CountOptions, state: State, timed: Sequence[NetworkTimes]) -> bool:
    channels = options.channels(state)
    return any(np.array_equal(network.channels, channels) for network in timed)
