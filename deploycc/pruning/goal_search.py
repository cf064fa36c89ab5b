"""Choose the kernels whose removal brings a network's cost down to a goal at the least loss.

A cost is in whatever unit the parts count: milliseconds on a target, or multiply-accumulates. Kernels go in order of
what they are worth (`deploycc.pruning.worth`) per cost that their removal saves, and no layer is emptied. Times are
staircases over the number of kernels: a step goes to the count that saves most per loss, which is the edge of a stair.

Many choices lose about the same. A price of work decides among them: multiply-accumulates that save no cost are kept.
More than a tie is not paid for that: what is kept at a greater loss made networks less accurate, not more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deploycc.graph.channels.groups import ChannelGroups
from deploycc.pruning.decide import Bundle, bundles
from deploycc.pruning.worth import Worth

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

_AHEAD = 3  # later counts of a layer that an exchange tries
_EXCHANGES = 50
_LEAST_SAVING = 1e-9  # of the whole cost: less is rounding
_PRICES = 2.0 ** np.arange(-3, 4)  # of all work that the least loss saves, in units of that loss
_HALVINGS = 3  # between two of these prices


class Part(Protocol):
    """Something that runs at once and costs less where its tensors have fewer channels."""

    @property
    def tensors(self) -> Sequence[str]:
        """Tensors that it reads and writes, by name."""

    def costs(self, kept: Counts) -> Array:
        """Return its costs, [cases], for the channels that `tensors` keep, [cases, tensors]; all parts in one unit."""


@dataclass(frozen=True, eq=False)
class _Stairs:
    """A bundle of layers and the numbers of kernels that it may keep.

    Attributes:
        bundle: the layers.
        order: removable groups, those worth least first.
        removed: how many of them each candidate removes, ascending from 0.
        loss: of each candidate.
    """

    bundle: Bundle
    order: Counts
    removed: Counts
    loss: Array


class GoalSearch:
    """Looks for the least loss at which a network's parts cost no more than a goal.

    Attributes:
        full_cost, least_cost: cost of all parts with every kernel, and with as few as possible.
        full_work: with every kernel.
    """

    def __init__(
        self,
        groups: ChannelGroups,
        worth: Worth,
        removable: Iterable[int],
        layers: Iterable[str],
        parts: Sequence[Part],
        multiple: int,
        work: Sequence[Part] = (),
    ) -> None:
        """Prepare.

        Args:
            groups: channel groups of the graph.
            worth: what is lost with kernels.
            removable: groups that may go.
            layers: names of layers that may lose kernels.
            parts: of the network, those whose cost depends on channels.
            multiple: of kernels that layers keep; half of it, a quarter... in layers narrower than twice that.
            work: parts that cost what the network computes, where that has a price.
        """
        able = frozenset(removable)
        self._tie = worth.tie
        found = (_stairs(groups, worth, able & bundle.groups, bundle, multiple) for bundle in bundles(groups, layers))
        self._stairs = [stairs for stairs in found if len(stairs.removed) > 1]
        self._parts = _Parts(groups, self._stairs, parts)
        self._work = _Parts(groups, self._stairs, work)
        self._steps: dict[tuple[float, ...], tuple[float, int]] = {}
        self.full_cost = self._parts.total_cost(self._nothing())
        self.least_cost = self._parts.total_cost(self._everything())
        self.full_work = self._work.total_cost(self._nothing())

    def all_that_may_go(self) -> frozenset[int]:
        """Return the groups whose removal gives ``least_cost``."""
        return self._gone(self._everything())

    def least_loss(self, goal: float, price: float = 0.0) -> frozenset[int]:
        """Return the groups to remove so that the parts cost at most ``goal``; all that may go if none suffice.

        Args:
            goal: for the cost of all parts.
            price: what removing one unit of work counts as, beside the loss.
        """
        loss = _Loss(self._stairs, self._work, price)
        state = self._nothing()
        total = self._give_back(state, self._descend(state, self.full_cost, goal, loss), goal, loss)
        for _ in range(_EXCHANGES):
            better = self._exchange(state, total, goal, loss)
            if better is None:
                break
            state, total = better
        return self._gone(state)

    def loss_of(self, gone: Iterable[int], price: float = 0.0) -> float:
        """Return the loss of removing these groups, which `least_loss` returned, and the price of their work."""
        return _Loss(self._stairs, self._work, price).total(self._state(gone)) + price * self.full_work

    def work_of(self, gone: Iterable[int]) -> float:
        """Return the work that removing these groups saves, which `least_loss` returned."""
        return self.full_work - self._work.total_cost(self._state(gone))

    def price_of_work(self, goal: float, most_loss: float | None = None) -> float:
        """Return the price at which least work goes for a goal.

        Args:
            goal: for the cost of all parts.
            most_loss: that it may cost, as a multiple of the least loss; None: what `Worth.tie` says.
        """
        most_loss = most_loss or self._tie
        least_work = self.work_of(gone := self.least_loss(goal))
        least = self.loss_of(gone)
        if least <= 0 or least_work <= 0 or self.least_cost >= goal:
            return 0.0
        unit, best = least / least_work, 0.0

        def pays(price: float) -> bool:
            nonlocal least, least_work, best
            gone = self.least_loss(goal, price)
            least = min(least, self.loss_of(gone))
            if self.loss_of(gone) > most_loss * least:
                return False
            if (work := self.work_of(gone)) < least_work:
                least_work, best = work, price
            return True

        low = 0.0
        for factor in _PRICES.tolist():
            if not pays(unit * factor):
                for _ in range(_HALVINGS if low else 0):
                    middle = math.sqrt(low * factor)
                    low, factor = (middle, factor) if pays(unit * middle) else (low, middle)
                break
            low = factor
        return best

    def _state(self, gone: Iterable[int]) -> list[int]:
        gone = set(gone)
        counts = [sum(group in gone for group in stairs.order.tolist()) for stairs in self._stairs]
        return [int(np.searchsorted(of.removed, count)) for of, count in zip(self._stairs, counts, strict=True)]

    def _nothing(self) -> list[int]:
        return [0] * len(self._stairs)

    def _everything(self) -> list[int]:
        return [len(stairs.removed) - 1 for stairs in self._stairs]

    def _gone(self, state: Sequence[int]) -> frozenset[int]:
        return frozenset(
            group
            for stairs, index in zip(self._stairs, state, strict=True)
            for group in stairs.order[: stairs.removed[index]].tolist()
        )

    def _descend(self, state: list[int], total_cost: float, goal: float, loss: _Loss) -> float:
        """Take the step of least loss per cost saved until the goal is met; returns the cost then."""
        while total_cost > goal:
            steps = [self._best_step(number, state, loss) for number in range(len(state))]
            number = min(range(len(steps)), key=lambda n: steps[n][0], default=None)
            if number is None or not np.isfinite(steps[number][0]):
                break
            total_cost -= self._move(state, number, steps[number][1])
        return total_cost

    def _best_step(self, number: int, state: Sequence[int], of: _Loss) -> tuple[float, int]:
        """Loss per cost saved of a bundle's best step from here, and the candidate that it leads to."""
        key = (of.price, number, state[number], *self._parts.others(number, state), *of.others(number, state))
        if key not in self._steps:
            now, loss, costs = state[number], of.by_candidate(number, state), self._parts.costs(number, state)
            saved = costs[now] - costs[now + 1 :]
            rates = np.full(saved.shape, np.inf)
            pays = saved > _LEAST_SAVING * self.full_cost
            rates[pays] = (loss[now + 1 :] - loss[now])[pays] / saved[pays]
            best = int(np.argmin(rates)) if pays.any() else -1
            self._steps[key] = (np.inf, now) if best < 0 else (float(rates[best]), now + 1 + best)
        return self._steps[key]

    def _move(self, state: list[int], number: int, index: int) -> float:
        """Take a candidate, and return the cost saved."""
        costs = self._parts.costs(number, state)
        saved = float(costs[state[number]] - costs[index])
        state[number] = index
        return saved

    def _give_back(self, state: list[int], total_cost: float, goal: float, loss: _Loss) -> float:
        """Undo what the goal does not need, the largest loss first; returns the cost then."""
        while True:
            spare = goal - total_cost
            best = max((self._back(number, state, spare, loss) for number in range(len(state))), default=None)
            if best is None or best[0] <= 0:
                return total_cost
            total_cost -= self._move(state, best[1], best[2])

    def _back(self, number: int, state: Sequence[int], spare: float, of: _Loss) -> tuple[float, int, int]:
        """Loss that a bundle can get back within some cost, the bundle, and the candidate that does it."""
        now = state[number]
        if now:
            loss = of.by_candidate(number, state)
            costs = self._parts.costs(number, state)
            fits = np.flatnonzero(costs[:now] <= costs[now] + spare)
            if fits.size:
                least = int(fits[np.argmin(loss[fits])])
                return float(loss[now] - loss[least]), number, least
        return 0.0, number, now

    def _exchange(
        self, start: list[int], start_cost: float, goal: float, loss: _Loss
    ) -> tuple[list[int], float] | None:
        """Let one bundle lose more or fewer kernels, and others make up for it, if that loses less in all."""
        least = loss.total(start)
        best, best_loss = None, least - 1e-9 * abs(least)
        for number, stairs in enumerate(self._stairs):
            now = start[number]
            ahead = range(now + 1, min(now + 1 + _AHEAD, len(stairs.removed)))
            behind = range(max(0, now - _AHEAD), now)
            for index in (*ahead, *behind):
                state = list(start)
                total_cost = start_cost - self._move(state, number, index)
                total_cost = self._descend(state, total_cost, goal, loss)
                if total_cost <= goal:
                    total_cost = self._give_back(state, total_cost, goal, loss)
                    if (total_loss := loss.total(state)) < best_loss:
                        best, best_loss = (state, total_cost), total_loss
        return best


@dataclass(frozen=True, eq=False)
class _Loss:
    """What is lost by the candidate of each bundle, less the price of the work that is left."""

    stairs: Sequence[_Stairs]
    work: _Parts
    price: float

    def total(self, state: Sequence[int]) -> float:
        """All of it."""
        lost = sum(float(stairs.loss[index]) for stairs, index in zip(self.stairs, state, strict=True))
        return lost - (self.price * self.work.total_cost(state) if self.price else 0.0)

    def by_candidate(self, number: int, state: Sequence[int]) -> Array:
        """Return the loss by the candidate of one bundle, the others as they are, up to a constant."""
        loss = self.stairs[number].loss
        return loss - self.price * self.work.costs(number, state) if self.price else loss

    def others(self, number: int, state: Sequence[int]) -> tuple[int, ...]:
        """Candidates of the bundles on which the loss of a bundle depends."""
        return self.work.others(number, state) if self.price else ()


class _Parts:
    """Costs of all parts, by the candidate of each bundle."""

    def __init__(self, groups: ChannelGroups, stairs: Sequence[_Stairs], parts: Sequence[Part]) -> None:
        self._stairs = stairs
        widths = {name: _Width(groups, stairs, name) for part in parts for name in part.tensors}
        self._parts = [(part, [widths[name] for name in part.tensors]) for part in parts]
        self._part_bundles = [sorted({n for width in of for n in width.removed}) for _, of in self._parts]
        self._of_bundle: list[list[int]] = [[] for _ in stairs]
        for index, numbers in enumerate(self._part_bundles):
            for number in numbers:
                self._of_bundle[number].append(index)
        self._neighbours = [
            sorted({n for index in of for n in self._part_bundles[index]} - {number})
            for number, of in enumerate(self._of_bundle)
        ]
        self._costs: dict[tuple[int, ...], Array] = {}
        self._known: dict[tuple[int, ...], Array] = {}

    def total_cost(self, state: Sequence[int]) -> float:
        """Cost of all parts."""
        return sum(
            float(self._part_costs(index, numbers[0], state)[state[numbers[0]]]) if numbers else self._whole_cost(index)
            for index, numbers in enumerate(self._part_bundles)
        )

    def others(self, number: int, state: Sequence[int]) -> tuple[int, ...]:
        """Candidates of the bundles on which the costs of a bundle depend."""
        return tuple([state[other] for other in self._neighbours[number]])

    def costs(self, number: int, state: Sequence[int]) -> Array:
        """Cost of the parts that a bundle affects, by its candidate, the other bundles as they are."""
        key = number, *self.others(number, state)
        if key not in self._costs:
            zeros = np.zeros(len(self._stairs[number].removed))
            self._costs[key] = sum((self._part_costs(index, number, state) for index in self._of_bundle[number]), zeros)
        return self._costs[key]

    def _part_costs(self, index: int, number: int, state: Sequence[int]) -> Array:
        key = index, number, *(state[other] for other in self._part_bundles[index] if other != number)
        if key not in self._known:
            part, widths = self._parts[index]
            kept = np.stack([width.kept(number, state, len(self._stairs[number].removed)) for width in widths], axis=1)
            self._known[key] = part.costs(kept)
        return self._known[key]

    def _whole_cost(self, index: int) -> float:
        part, widths = self._parts[index]
        return float(part.costs(np.array([[width.total for width in widths]]))[0])


class _Width:
    """Channels of one tensor, by the candidate of each bundle."""

    def __init__(self, groups: ChannelGroups, stairs: Sequence[_Stairs], name: str) -> None:
        labelled = groups.tensors.get(name)
        self.total = 1 if labelled is None else len(labelled.groups)
        self.removed: dict[int, Counts] = {}
        if labelled is None:
            return
        for number, own in enumerate(stairs):
            rank = np.full(groups.count, groups.count)
            rank[own.order] = np.arange(len(own.order))
            ranks = np.sort(rank[labelled.groups])
            if ranks[0] < groups.count:
                self.removed[number] = np.searchsorted(ranks, own.removed)

    def kept(self, number: int, state: Sequence[int], candidates: int) -> Counts:
        """Channels that stay for each candidate of a bundle, the other bundles as they are."""
        kept = np.full(candidates, self.total)
        for other, removed in self.removed.items():
            kept -= removed if other == number else removed[state[other]]
        return kept


def channels_of(groups: ChannelGroups) -> dict[str, int]:
    """Return the number of channels of each tensor that may lose some."""
    return {name: len(labelled.groups) for name, labelled in groups.tensors.items()}


def narrow_multiple(kernels: int, multiple: int) -> int:
    """Return the multiple to which a layer's kernels are rounded: halved until the layer has at least two of it."""
    while multiple > 1 and kernels < 2 * multiple:
        multiple //= 2
    return multiple


def _stairs(groups: ChannelGroups, worth: Worth, able: frozenset[int], bundle: Bundle, multiple: int) -> _Stairs:
    worths = worth.of_groups(groups, bundle)
    order = np.array(sorted(able, key=lambda group: (worths[group], group)), np.int64)
    left = {name: _left(groups.layers[name], order) for name in bundle.layers}
    largest = left[bundle.layers[0]]
    multiple = narrow_multiple(int(largest[0]), multiple)
    wanted = range(int(largest[0]) // multiple * multiple, 0, -multiple)
    removed = [0]
    for count in wanted:
        first = int(np.searchsorted(-largest, -count))
        if first < len(largest) and largest[first] == count and first > removed[-1]:
            if min(int(of[first]) for of in left.values()) == 0:
                break
            removed.append(first)
    loss = worth.losses(groups, bundle, order)[removed]
    finite = np.isfinite(loss)
    return _Stairs(bundle, order, np.array(removed, np.int64)[finite], loss[finite])


def _left(labels: Counts, order: Counts) -> Counts:
    """Kernels of a layer that stay if the first groups of an order go, [groups + 1]."""
    gone = np.isin(order, labels)  # a group holds each kernel of a layer once
    counts = dict(zip(*np.unique(labels, return_counts=True), strict=True))
    lost = np.cumsum([0, *(counts.get(group, 0) if is_gone else 0 for group, is_gone in zip(order, gone, strict=True))])
    return np.asarray(len(labels) - lost, np.int64)
