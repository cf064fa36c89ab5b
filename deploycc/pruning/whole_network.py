"""Timing whole networks against one another: what finally decides how many kernels stay.

Times of single convolutions leave out what happens between them. For example, a concatenation of channel counts that
are not multiples of the runtime's block makes ONNX Runtime rearrange every map that it joins.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.errors import MeasureError
from deploycc.graph.channels.groups import ChannelGroups
from deploycc.graph.channels.removal import remove_channels
from deploycc.graph.export import to_onnx
from deploycc.progress import Say, prefixed, quiet
from deploycc.timing.timer import Timer

_LEAST_ROUNDS, _MOST_ROUNDS = 6, 60
_SECONDS = 10.0  # for all rounds, unless the least number of rounds takes longer
_WORTH = 0.99  # another network must be 1 % faster than the reference in the median of the rounds
_ROUNDS_WON = 0.75  # and faster in three of four rounds: by chance that happens in one of nine runs of six rounds

Key = TypeVar("Key", bound=Hashable)
Ratios = NDArray[np.float64]


def relative_times(
    graph: gs.Graph,
    groups: ChannelGroups,
    candidates: Mapping[Key, frozenset[int]],
    reference: Key,
    timer: Timer,
    say: Say = quiet,
) -> dict[Key, Ratios]:
    """Time a network with different channels removed, in turns.

    Args:
        graph: stays as it is.
        groups: of the graph.
        candidates: for each candidate the groups to remove.
        reference: the candidate that the others are compared with.
        timer: of the machine that they are for.
        say: told how many seconds of the rounds are over.

    Returns:
        For each candidate its time divided by the reference's, one number per round: load on the machine that comes
        and goes affects all runs of a round alike.

    Raises:
        MeasureError: ``onnxruntime-refuses``.
    """

    def networks() -> Iterator[tuple[Key, gs.Graph]]:
        for key, going in candidates.items():
            small = graph.copy()
            remove_channels(small, groups, going)  # what the channels hold does not matter here
            yield key, small

    times_ms = network_times(networks(), timer, say)
    return {key: times_ms[key] / times_ms[reference] for key in candidates}


def network_times(
    networks: Iterable[tuple[Key, gs.Graph]], timer: Timer, say: Say = quiet, seconds: float = _SECONDS
) -> dict[Key, Ratios]:
    """Time whole networks in turns.

    Args:
        networks: each with its name, all with the same input; one at a time is held.
        timer: of the machine that they are for.
        say: told how many seconds of the rounds are over.
        seconds: for all rounds, unless the least number of rounds takes longer.

    Returns:
        For each network its times in milliseconds, one number per round.

    Raises:
        MeasureError: ``onnxruntime-refuses``.
    """
    loaded, shape = {}, ()
    for key, graph in networks:
        shape = graph.inputs[0].shape
        try:
            loaded[key] = timer.load(to_onnx(graph), {"network": graph.name})
        except MeasureError as error:
            error.hint = "`round_to=16` needs no timing"
            raise
    times_ms = timer.time_pictures(
        loaded,
        [np.random.default_rng(0).standard_normal(shape, np.float32)],
        most_rounds=_MOST_ROUNDS,
        least_rounds=_LEAST_ROUNDS,
        seconds=seconds,
        warm_up=1,
        say=prefixed(say, "pruned networks"),
    )
    return {key: times[:, 0] for key, times in times_ms.items()}


def fastest(ratios: Mapping[Key, Ratios], reference: Key) -> Key:
    """Return the fastest candidate of those that are clearly faster than the reference, or the reference.

    On a loaded machine times vary by more than candidates differ; the result is the reference then.
    """
    clear = [key for key, ratio in ratios.items() if np.median(ratio) <= _WORTH and np.mean(ratio < 1) >= _ROUNDS_WON]
    return min(clear, key=lambda key: float(np.median(ratios[key])), default=reference)
