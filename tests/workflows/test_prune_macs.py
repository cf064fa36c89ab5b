"""As many multiply-accumulates go as asked for, and no layer is cut for next to nothing."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from published_networks.builder import Builder

import deploycc
from deploycc.graph.channels.labels import channel_groups
from deploycc.pruning.decide import Choice
from deploycc.pruning.macs import layers_macs, macs_left
from deploycc.workflows import prune_macs
from deploycc.workflows.goal_choice import GoalInputs
from deploycc.workflows.prune_macs import choose_for_macs

SETTINGS = deploycc.PruneSettings(by="fisher", below=0.4, multiple=4)
FIRST, SECOND, LAST_BUT_ONE, LAST = "conv_0", "conv_2", "conv_6", "conv_8"
NEARLY_ALL = 0.96


def inputs(worth: float = 0.1) -> GoalInputs:
    """Pointwise layers of 16, 32, 128, 128 and 4 kernels; four of the first, of this worth, save 140 of 21000 MACs."""
    net = Builder("chain", 1)
    tensor = net.input
    for kernels in (16, 32, 128, 128):
        tensor = net.conv(tensor, kernels)
    graph = net.finish(net.conv(tensor, 4, act=None))
    groups = channel_groups(graph)
    use = {name: np.linspace(1, 2, len(labels)) for name, labels in groups.layers.items()}
    use[FIRST][:8], use[SECOND][:] = worth, 100.0
    every = {name: tuple(range(len(labels))) for name, labels in groups.layers.items()}
    chain: Any = SimpleNamespace(graph=graph)
    return GoalInputs(chain, chain, groups, Choice(every, use, ""), {*every} - {LAST})


def cut(case: GoalInputs, settings: deploycc.PruneSettings = SETTINGS) -> dict[str, int]:
    """Number of kernels that go, by layer."""
    choice = choose_for_macs(case, settings).choice
    parts = layers_macs(case.dense.graph, case.groups, case.layers)
    going = case.groups.of_kernels(choice.kernels)
    assert macs_left(case.groups, parts, going) <= (1 - settings.below) * macs_left(case.groups, parts, ())
    return {name: len(kernels) for name, kernels in choice.kernels.items()}


def test_a_layer_that_saves_next_to_nothing_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FIRST not in cut(inputs())
    monkeypatch.setattr(prune_macs, "_LEAST_SHARE", 0.0)
    assert cut(inputs())[FIRST] == 4


def test_it_is_cut_where_that_costs_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune_macs, "_MOST_LOSS", 1.0)
    assert cut(inputs())[FIRST] == 4


def test_it_is_cut_where_the_others_do_not_suffice() -> None:
    assert cut(inputs(), replace(SETTINGS, below=NEARLY_ALL))[FIRST] > 0


def test_what_is_left_is_counted_as_in_the_smaller_network() -> None:
    case = inputs()
    going = case.groups.of_kernels({FIRST: (0, 5), LAST_BUT_ONE: tuple(range(100))})
    parts = layers_macs(case.dense.graph, case.groups, case.layers)
    assert macs_left(case.groups, parts, going) == 3 * 14 + 14 * 32 + 32 * 128 + 128 * 28
