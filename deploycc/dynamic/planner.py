"""Which lowering each gate gets: the one with the least expected time whose worst case stays within a bound.

A pure function of recorded decisions and measured costs. The network is a row of gated convolutions; it is divided into
regions by dynamic programming over pairs of expected time and time with everything on, of which no one is worse than
another in both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from deploycc.dynamic.costs import CostModel
from deploycc.dynamic.regions import Choice, LayerTimes, PlannedLayer, best_order, groups, multiply, widths
from deploycc.gate_plan import LayerPlan

MOST_PIECES = 4
"""Widths or groups of one layer."""

MOST_BRANCHES = 16
"""Branches of one region: each holds its own copy of the weights."""

LONGEST = 3
"""Layers of one region."""

_FRONT = 256  # pairs kept at each layer


@dataclass(frozen=True)
class Surroundings:
    """What does not depend on the plan, ms.

    Attributes:
        others_ms: the network without the gated convolutions and without gates.
        gates_ms: the gate modules themselves.
    """

    others_ms: float = 0.0
    gates_ms: float = 0.0


def surroundings(layers: Sequence[PlannedLayer], model: CostModel, dense_ms: float, masked_ms: float) -> Surroundings:
    """What the measured times of two whole networks leave beside the gated convolutions.

    Args:
        layers: of the network.
        model: measured costs.
        dense_ms: of the network without gates.
        masked_ms: of the network as it is, gates as products.
    """
    convolutions = [model.grids[each.convolution](each.convolution.inputs, each.kernels) for each in layers]
    masks = [model.lines["mask"](each.map_elements * each.kernels) for each in layers if each.gated]
    others = dense_ms - sum(map(float, convolutions))
    return Surroundings(max(0.0, others), max(0.0, masked_ms - dense_ms - sum(masks)))


@dataclass(frozen=True)
class Planned:
    """A decision, with what it was chosen from.

    Attributes:
        chosen: regions in graph order; together they hold every layer once.
        considered: the best of each kind for every region.
        dense_ms: predicted for the network without gates.
        bound_ms: what the plan may take with everything on.
        within: whether it does.
        around: what every total holds beside the regions.
        ungated: layers without a gate, which stand in a plan only where they are taken along.
    """

    chosen: tuple[Choice, ...]
    considered: tuple[Choice, ...]
    dense_ms: float
    bound_ms: float
    within: bool
    around: Surroundings
    ungated: frozenset[str] = frozenset()

    @property
    def expected_ms(self) -> float:
        """Predicted mean over the recorded pictures."""
        return _outside(self.around) + sum(each.expected_ms for each in self.chosen)

    @property
    def all_on_ms(self) -> float:
        """Predicted with every kernel on."""
        return _outside(self.around) + sum(each.all_on_ms for each in self.chosen)

    def layers(self) -> tuple[LayerPlan, ...]:
        """The plan's layers."""
        kept = [each for each in self.chosen if each.layers[0] not in self.ungated]
        return tuple(plan for each in kept for plan in layer_plans(each))


def plan_gates(
    layers: Sequence[PlannedLayer],
    model: CostModel,
    *,
    max_worst_case: float,
    around: Surroundings = Surroundings(),
) -> Planned:
    """Choose a lowering for every layer.

    Args:
        layers: in graph order; one that joins stands right behind the layer that it joins.
        model: measured costs.
        max_worst_case: the time with everything on may be this much of the dense network's.
        around: the rest of the network.

    Returns:
        The plan with the least expected time within the bound; where there is none, the one with the least time with
        everything on.
    """
    times = {layer.name: best_order(layer, model) for layer in layers if layer.divisible}
    fronts: list[list[tuple[float, float, tuple[Choice, ...]]]] = [[(0.0, 0.0, ())]]
    considered: list[Choice] = []
    for end in range(1, len(layers) + 1):
        found = []
        for length in range(1, min(end, LONGEST) + 1):
            region = layers[end - length : end]
            if not all(layer.joins for layer in region[1:]) or (not region[0].gated and length > 1):
                continue
            choices = _choices(region, model, times)
            considered += _best_of_each_kind(choices)
            for choice, (expected, all_on, before) in itertools.product(choices, fronts[end - length]):
                found.append((expected + choice.expected_ms, all_on + choice.all_on_ms, (*before, choice)))
        fronts.append(_front(found))
    grids = model.grids
    dense = around.others_ms + sum(
        float(grids[layer.convolution](layer.convolution.inputs, layer.kernels)) for layer in layers
    )
    bound, fixed = dense * max_worst_case, _outside(around)
    allowed = [each for each in fronts[-1] if each[1] + fixed <= bound]
    best = min(allowed or fronts[-1], key=lambda each: each[0] if allowed else each[1])
    ungated = frozenset(layer.name for layer in layers if not layer.gated)
    return Planned(best[2], tuple(considered), dense, bound, bool(allowed), around, ungated)


def layer_plans(choice: Choice) -> tuple[LayerPlan, ...]:
    """A region in the words of the plan file."""
    return tuple(
        LayerPlan(
            layer=name,
            lowering=choice.lowering,
            order=choice.orders[number],
            sizes=choice.sizes[number],
            always=choice.always,
            joined=number > 0,
        )
        for number, name in enumerate(choice.layers)
    )


def _choices(region: Sequence[PlannedLayer], model: CostModel, times: dict[str, LayerTimes]) -> list[Choice]:
    """Ways to carry out one region as a whole."""
    first = region[0]
    found = [multiply(first, model)] if len(region) == 1 else []
    if not first.gated or not all(layer.divisible for layer in region):
        return found
    own = [times[layer.name] for layer in region]
    counts = [range(2 if layer is first else 1, MOST_PIECES + 1) if layer.gated else range(1, 2) for layer in region]
    for each in itertools.product(*counts):
        if math.prod(each) <= MOST_BRANCHES:
            choice = widths(own, each)
            if len(choice.sizes[0]) > 1:  # else nothing is skipped
                found.append(choice)
    if len(region) == 1:
        found += [grouped for count in (1, MOST_PIECES) if (grouped := groups(first, model, count))]
    return found


def _best_of_each_kind(choices: Sequence[Choice]) -> list[Choice]:
    kinds = dict.fromkeys(each.lowering for each in choices)
    return [min((c for c in choices if c.lowering == kind), key=lambda c: c.expected_ms) for kind in kinds]


def _front(
    found: list[tuple[float, float, tuple[Choice, ...]]],
) -> list[tuple[float, float, tuple[Choice, ...]]]:
    """Those that no other beats in both times; evenly thinned where there are many."""
    front: list[tuple[float, float, tuple[Choice, ...]]] = []
    for each in sorted(found, key=lambda each: each[:2]):
        if not front or each[1] < front[-1][1]:
            front.append(each)
    if len(front) > _FRONT:
        step = (len(front) - 1) / (_FRONT - 1)
        front = [front[round(number * step)] for number in range(_FRONT)]
    return front


def _outside(around: Surroundings) -> float:
    return around.others_ms + around.gates_ms
