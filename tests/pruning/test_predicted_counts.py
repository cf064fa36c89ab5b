"""How many kernels a layer keeps where times are predicted."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from published_networks.builder import Builder

from deploycc.documents.costs import Convolution
from deploycc.graph.channels.labels import channel_groups
from deploycc.pruning.decide import Choice
from deploycc.pruning.predicted_counts import cheapest_counts


def staircase(width: int) -> Callable[[Convolution], float]:
    """Planted times: whole tiles of this many kernels."""
    return lambda c: math.ceil(c.kernels / width) * width * c.inputs * math.prod(c.kernel)


def kept(useless: int, time_ms: Callable[[Convolution], float], spare: int = 0) -> int:
    """Kernels that the first of two convolutions, 128 wide, keeps."""
    net = Builder("two", 8)
    first = net.conv(net.input, 128, 3)
    graph = net.finish(net.conv(first, 16, 3))
    name = graph.nodes[0].name
    groups = channel_groups(graph)
    labels = groups.layers[name].tolist()
    use = {name: np.linspace(0, 1, 128)}
    choice = Choice({name: tuple(range(useless + spare))}, use, "planted")
    going, (decided,) = cheapest_counts(
        graph, groups, choice, labels[:useless], [name], time_ms, labels[useless : useless + spare]
    )
    assert decided.kept == 128 - len(going)
    return decided.kept


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("useless", [1, 20, 40, 63, 64, 65, 100])
def test_the_count_is_as_cheap_as_the_best_of_all_that_may_stay(width: int, useless: int) -> None:
    time_ms = staircase(width)

    def total(count: int) -> float:
        reader = Convolution(
            inputs=count,
            kernels=16,
            groups=1,
            kernel=(3, 3),
            stride=(1, 1),
            dilation=(1, 1),
            pads=(1, 1, 1, 1),
            size=(8, 8),
        )
        return time_ms(reader.narrowed(3, count)) + time_ms(reader)

    best = min(total(count) for count in range(128 - useless, 129))
    assert total(kept(useless, time_ms)) == best


def test_kernels_that_cost_nothing_stay() -> None:
    assert kept(20, lambda c: float(math.ceil(c.kernels / 32))) == 128
    assert kept(40, lambda c: float(math.ceil(c.kernels / 32))) == 96


def test_a_few_spare_kernels_go_where_that_reaches_a_step() -> None:
    time_ms = staircase(32)
    assert kept(31, time_ms) == 97
    assert kept(31, time_ms, spare=4) == 96
