"""The least loss that meets a goal, against exhaustive search on planted staircases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
from mutation import mutant
from numpy.typing import NDArray
from published_networks.builder import Builder

from deploycc.graph.channels.groups import ChannelGroups
from deploycc.graph.channels.labels import channel_groups
from deploycc.pruning import goal_search
from deploycc.pruning.goal_search import GoalSearch
from deploycc.pruning.latency_goal import meet_goal
from deploycc.pruning.worth import ShareOfLayer

WITHIN = 1.02  # of the best loss that exhaustive search finds


@dataclass(frozen=True)
class Planted:
    """A convolution whose kernels are computed in whole tiles of a width."""

    tensors: tuple[str, str]
    width: int
    factor: float
    launch_ms: float = 0.0

    def costs(self, kept: NDArray[np.int64]) -> NDArray[np.float64]:
        tiles = np.ceil(kept[:, 1] / self.width) * self.width
        return np.asarray(self.launch_ms + self.factor * kept[:, 0] * tiles, np.float64)


@dataclass(frozen=True)
class Case:
    """A chain of convolutions with random worths, ending in one that keeps its kernels."""

    groups: ChannelGroups
    use: dict[str, NDArray[np.float64]]
    parts: list[Planted]
    layers: list[str]

    def search(self, module: ModuleType = goal_search, multiple: int = 16) -> GoalSearch:
        able, worth = self.groups.free.tolist(), ShareOfLayer(self.use)
        search: GoalSearch = module.GoalSearch(self.groups, worth, able, self.layers, self.parts, multiple, self.work)
        return search

    @property
    def work(self) -> list[Planted]:
        """Multiply-accumulates: every kernel counts, whether it fills a tile or not."""
        return [Planted(part.tensors, 1, 1.0) for part in self.parts]

    def gone(self, left: Mapping[str, int]) -> list[int]:
        """Groups that go if each layer keeps so many kernels, the most useful ones."""
        gone = []
        for name, count in left.items():
            order = np.argsort(self.use[name], kind="stable")
            gone += self.groups.layers[name][order[: len(order) - count]].tolist()
        return gone

    def ms(self, left: Mapping[str, int]) -> float:
        gone = self.gone(left)
        total = 0.0
        for part in self.parts:
            kept = [[self.kept(name, gone) for name in part.tensors]]
            total += float(part.costs(np.array(kept))[0])
        return total

    def kept(self, tensor: str, gone: Sequence[int]) -> int:
        found = self.groups.tensors.get(tensor)
        return 1 if found is None else int((~np.isin(found.groups, gone)).sum())

    def loss(self, left: Mapping[str, int]) -> float:
        return float(
            sum(-np.log(np.sort(self.use[name])[-count:].sum() / self.use[name].sum()) for name, count in left.items())
        )

    def left(self, gone: frozenset[int]) -> dict[str, int]:
        return {name: int((~np.isin(self.groups.layers[name], list(gone))).sum()) for name in self.layers}

    def best_loss(self, goal_ms: float, multiple: int = 16) -> float:
        """The least loss of all counts that are multiples."""
        return self.best(goal_ms, multiple)[0]

    def best(self, goal_ms: float, multiple: int = 16) -> tuple[float, float]:
        """The least loss of all counts that are multiples, and the most work that is left at 1.1 times of it."""
        counts = [np.arange(multiple, len(self.use[name]) + 1, multiple) for name in self.layers]
        cases = dict(zip(self.layers, (axis.ravel() for axis in np.meshgrid(*counts)), strict=True))
        made = {self.groups.outputs[name]: left for name, left in cases.items()}
        full = np.ones(math.prod(map(len, counts)), np.int64)
        ms, work, loss = np.zeros(len(full)), np.zeros(len(full)), np.zeros(len(full))
        for total, parts in ((ms, self.parts), (work, self.work)):
            for part in parts:
                left = [made.get(name, full * self.kept(name, ())) for name in part.tensors]
                total += part.costs(np.stack(left, axis=1))
        for name, count in cases.items():
            worth = np.cumsum(np.sort(self.use[name])[::-1])
            loss -= np.log(worth[count - 1] / worth[-1])
        least = float(loss[ms <= goal_ms].min())
        return least, float(work[(ms <= goal_ms) & (loss <= 1.1 * least)].max())


def case(seed: int, width: int) -> Case:
    random = np.random.default_rng(seed)
    net = Builder("chain", 4)
    x = net.input
    for kernels in random.choice([64, 96, 128], 3):
        x = net.conv(x, int(kernels), 3, act=None)
    graph = net.finish(net.conv(x, 8, 1, act=None))
    groups = channel_groups(graph)
    parts, use, layers = [], {}, []
    for node in graph.nodes:
        tensors = (node.inputs[0].name, node.outputs[0].name)
        parts.append(Planted(tensors, width, float(random.uniform(0.2, 3))))
        if node is not graph.nodes[-1]:
            layers.append(node.name)
            use[node.name] = random.gamma(2, 1, len(groups.layers[node.name]))
    return Case(groups, use, parts, layers)


CASES = [case(seed, width) for width in (32, 48, 64) for seed in range(3)]
SHARES = (0.8, 0.25)


def misses(module: ModuleType, planted: Case, share: float) -> bool:
    """Whether a choice is too slow, wastes useful kernels, or loses more than exhaustive search."""
    search = planted.search(module)
    goal_ms = share * planted.ms({name: len(use) for name, use in planted.use.items()})
    left = planted.left(gone := search.least_loss(goal_ms))
    return (
        planted.ms(left) > goal_ms
        or set(gone) != set(planted.gone(left))  # others than the least useful ones went
        or planted.loss(left) > WITHIN * planted.best_loss(goal_ms)
    )


@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_loss_is_that_of_exhaustive_search(number: int) -> None:
    assert not any(misses(goal_search, CASES[number], share) for share in SHARES)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("if (total_loss := loss.total(state)) < best_loss:", "if (total_loss := loss.total(state)) > best_loss:"),
        ("fits = np.flatnonzero(costs[:now] <= costs[now] + spare)", "fits = np.arange(now)"),
        ("key=lambda group: (worths[group], group)", "key=lambda group: (-worths[group], group)"),
        ("removed if other == number else removed[state[other]]", "removed if other == number else removed[0]"),
        ("state[other] for other in self._part_bundles[index] if other != number", "0 for _ in ()"),
        ("loss = worth.losses(groups, bundle, order)[removed]", "loss = np.arange(len(removed), dtype=float)"),
    ],
)
def test_planted_bugs_are_noticed(old: str, new: str) -> None:
    broken = mutant(goal_search, old, new)
    assert any(misses(broken, planted, share) for planted in CASES for share in SHARES)


KEPT = ((3, 0.6), (8, 0.8))
"""Cases and goals at which work that saves no time can be kept at 1.1 times the least loss."""


def saves_in_vain(module: ModuleType, number: int, share: float) -> bool:
    """Whether work goes that exhaustive search keeps at 1.1 times the least loss, or more than that is lost."""
    planted, search = CASES[number], CASES[number].search(module)
    goal_ms = share * search.full_cost
    least, most_work = planted.best(goal_ms)
    gone = search.least_loss(goal_ms, search.price_of_work(goal_ms, 1.1))
    missed = planted.ms(planted.left(gone)) > goal_ms or planted.loss(planted.left(gone)) > 1.1 * least
    return missed or search.work_of(gone) > 1.02 * (search.full_work - most_work)


def test_work_that_saves_no_time_is_kept() -> None:
    for number, share in KEPT:
        assert not saves_in_vain(goal_search, number, share)
        search = CASES[number].search()
        cheapest = search.least_loss(share * search.full_cost)
        priced = search.least_loss(share * search.full_cost, search.price_of_work(share * search.full_cost, 1.1))
        assert search.work_of(priced) < 0.8 * search.work_of(cheapest)


@pytest.mark.parametrize("tie", [1.0, 1.1])
def test_how_well_worth_is_known_decides_what_may_be_lost_for_work(tie: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShareOfLayer, "tie", tie)
    for number, share in KEPT:
        search = CASES[number].search()
        goal_ms = share * search.full_cost
        assert search.price_of_work(goal_ms) == search.price_of_work(goal_ms, tie)
        assert (search.price_of_work(goal_ms) > 0) == (tie > 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("> most_loss * least:", "> 1.4 * most_loss * least:"),
        ("loss - self.price * self.work.costs", "loss + self.price * self.work.costs"),
        ("if (work := self.work_of(gone)) < least_work:", "if (work := self.work_of(gone)) > least_work:"),
    ],
)
def test_planted_bugs_in_the_price_are_noticed(old: str, new: str) -> None:
    broken = mutant(goal_search, old, new)
    assert any(saves_in_vain(broken, number, share) for number, share in KEPT)


def test_the_loss_and_the_times_are_those_of_the_choice() -> None:
    planted = CASES[0]
    search = planted.search()
    everything = {name: len(use) for name, use in planted.use.items()}
    assert search.full_cost == pytest.approx(planted.ms(everything), rel=1e-9, abs=0)
    assert planted.left(search.all_that_may_go()) == dict.fromkeys(planted.layers, 16)
    assert search.least_cost == pytest.approx(planted.ms(dict.fromkeys(planted.layers, 16)), rel=1e-9, abs=0)
    assert search.least_loss(search.full_cost) == frozenset()
    assert search.least_loss(0.5 * search.least_cost) == search.all_that_may_go()
    gone = search.least_loss(0.6 * search.full_cost)
    assert search.loss_of(gone) == pytest.approx(planted.loss(planted.left(gone)), rel=1e-9, abs=0)


def test_kernels_that_are_never_used_go_first() -> None:
    planted = CASES[3]
    name = planted.layers[1]
    planted.use[name][:20] = 0
    search = planted.search()
    gone = search.least_loss(0.99 * search.full_cost)
    assert search.loss_of(gone) == 0
    assert gone < set(planted.groups.layers[name][:20].tolist())


def test_a_goal_of_the_whole_network_is_met_although_its_time_is_not_that_of_its_parts() -> None:
    planted = CASES[0]
    search = planted.search(multiple=2)
    asked = []

    def whole_ms(gone: frozenset[int]) -> float:
        asked.append(gone)
        return 500.0 + 0.4 * planted.ms(planted.left(gone)) ** 0.9

    slow, fast = whole_ms(frozenset()), whole_ms(search.all_that_may_go())
    for share in (0.3, 0.7):
        goal_ms = fast + share * (slow - fast)
        asked.clear()
        gone = meet_goal(search, goal_ms, whole_ms, tolerance=0.03, most=6)
        assert len(asked) <= 8
        assert 0.97 * goal_ms <= whole_ms(gone) <= goal_ms
    assert meet_goal(search, slow, whole_ms, tolerance=0.03, most=6) == frozenset()
    assert meet_goal(search, 0.9 * fast, whole_ms, tolerance=0.03, most=6) == search.all_that_may_go()
