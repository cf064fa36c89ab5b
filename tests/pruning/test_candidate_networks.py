"""Kernel counts chosen by profiles of a few networks, on made-up boards whose staircases are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from graph_text import network
from planted_stairs import PlantedBoard

from deploycc.graph.channels.labels import channel_groups
from deploycc.pruning.candidate_networks import choose_by_profiles, time_networks
from deploycc.pruning.count_options import CountOptions
from deploycc.pruning.decide import by_norm, kept
from deploycc.pruning.goal_search import GoalSearch
from deploycc.pruning.stair_parts import stair_parts
from deploycc.pruning.worth import ShareOfLayer
from deploycc.timing.staircase import NetworkTimes, Staircases

CHAIN = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,64,64] x, float[96,3,3,3] w1, float[160,96,3,3] w2, float[160,1,3,3] w3, float[192,160,1,1] w4,
   float[8,192,1,1] w5) => (float[1,8,64,64] y) {
  [conv1] c1 = Conv <pads = [1,1,1,1]> (x, w1)
  [conv2] c2 = Conv <pads = [1,1,1,1]> (c1, w2)
  [conv3] c3 = Conv <pads = [1,1,1,1], group = 160> (c2, w3)
  [conv4] c4 = Conv (c3, w4)
  [conv5] y = Conv (c4, w5)
}"""


@pytest.fixture(scope="module")
def options() -> CountOptions:
    graph = network(CHAIN).graph
    groups = channel_groups(graph)
    choice = by_norm(graph, groups, 0.45, groups.layers)
    return CountOptions(graph, groups, choice, groups.of_kernels(choice.kernels), groups.layers)


def test_options_are_whole_eighths_from_the_useful_kernels_to_all(options: CountOptions) -> None:
    assert [(of.asked, of.kept[0], of.kept[1], of.kept[-1]) for of in options.bundles] == [
        (53, 56, 64, 96),
        (88, 88, 96, 160),
        (106, 112, 120, 192),
    ]
    for of in options.bundles:
        assert all(more > less for less, more in itertools.pairwise(of.kept))
        assert all(less > more for less, more in itertools.pairwise(of.gone))
    assert options.channels(options.everything()).tolist() == [[3, 96], [96, 160], [1, 160], [160, 192], [192, 8]]
    assert options.channels((0, 0, 0)).tolist() == [[3, 56], [56, 88], [1, 88], [88, 112], [112, 8]]
    assert options.narrowed((0, 0, 0))[2].groups == 88
    layers, channels = options.around(1, (0, 0, 1))
    assert layers.tolist() == [1, 2, 3]
    assert channels[3].tolist() == options.channels((0, 3, 1))[1:4].tolist()


@pytest.mark.parametrize("width", [32, 48, 64])
def test_the_choice_is_the_best_that_exhaustive_search_finds(options: CountOptions, width: int) -> None:
    """Within 2 % of the time, with at most 12 engines, though a fifth of the times is disturbed."""
    board = PlantedBoard(options, width, seed=width)
    chosen = choose_by_profiles(options, board)
    every = itertools.product(*(range(len(of.gone)) for of in options.bundles))
    best_ms = min(board.total_ms(state) for state in every)
    assert board.total_ms(chosen.state) <= 1.02 * best_ms
    assert chosen.state in board.engines  # it was built too
    assert len(board.engines) == len(set(board.engines)) <= 12


def test_the_least_loss_for_a_goal_is_the_best_that_exhaustive_search_finds(options: CountOptions) -> None:
    """On tiles of 32 kernels, though a fifth of the times is disturbed, no other choice loses less and is 2 % faster."""
    graph = network(CHAIN).graph
    groups = channel_groups(graph)
    every = by_norm(graph, groups, 1.0, groups.layers)
    able = groups.of_kernels(every.kernels)
    wide = CountOptions(graph, groups, every, able, groups.layers)
    board = PlantedBoard(wide, 32, seed=5)
    stairs = Staircases(time_networks(wide, board))
    search = GoalSearch(groups, ShareOfLayer(every.use), able, groups.layers, stair_parts(graph, wide, stairs), 8)
    gone = search.least_loss(0.7 * search.full_cost)
    state = tuple(of.kept.index(kept(groups, of.bundle.layers[0], gone)) for of in wide.bundles)
    took_ms = board.total_ms(state)
    assert took_ms == pytest.approx(0.7 * board.total_ms(wide.everything()), rel=0.02)
    losses = [[search.loss_of(of.gone[option]) for option in range(len(of.gone))] for of in wide.bundles]
    loss = sum(row[option] for row, option in zip(losses, state, strict=True))
    better = [
        board.total_ms(other)
        for other in itertools.product(*(range(len(of.gone)) for of in wide.bundles))
        if sum(row[option] for row, option in zip(losses, other, strict=True)) <= loss
    ]
    assert took_ms <= 1.02 * min(better)
    assert len(board.engines) <= 12


def test_kernels_that_cost_nothing_stay(options: CountOptions) -> None:
    board = PlantedBoard(options, 48, step=32, noise=0.0, disturbed=0.0)
    kept = [
        of.kept[option] for of, option in zip(options.bundles, choose_by_profiles(options, board).state, strict=True)
    ]
    assert kept == [of.kept[option] for of, option in zip(options.bundles, board.best(), strict=True)] == [64, 96, 128]


def test_known_networks_are_not_built_again_and_a_budget_ends_it(options: CountOptions) -> None:
    board, timed = PlantedBoard(options, 64, seed=1), list[NetworkTimes]()

    def oracle(state: tuple[int, ...]) -> NetworkTimes:
        timed.append(board(state))
        return timed[-1]

    choose_by_profiles(options, oracle, go_on=lambda: len(timed) < 3)
    assert len(timed) == 3
    first = choose_by_profiles(options, oracle, timed[:])
    built = len(timed)
    again = choose_by_profiles(options, oracle, timed[:])
    assert (again.state, len(timed)) == (first.state, built)
    assert len(set(board.engines)) == built
    none = PlantedBoard(options, 64)
    choose_by_profiles(options, none, go_on=lambda: False)
    assert none.engines == [options.everything()]  # one is always built


def test_layers_that_no_profile_names_do_not_make_networks_be_built_twice(options: CountOptions) -> None:
    board = PlantedBoard(options, 32)

    def oracle(state: tuple[int, ...]) -> NetworkTimes:
        told = board(state)
        return NetworkTimes(told.channels, np.where(np.arange(5) == 1, np.nan, told.times_ms))

    choose_by_profiles(options, oracle)
    assert len(board.engines) == len(set(board.engines))
