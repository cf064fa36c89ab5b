"""Which lowering each gate gets: the one with the least expected time whose worst case stays within a bound.

A pure function of recorded decisions and measured costs. The network is a row of gated convolutions; it is divided into
regions by dynamic programming over pairs of expected time and time with everything on, of which no one is worse than
another in both. Copies of weights in branches get a price, as high as it takes to keep them within their limit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deploycc.documents.gate_plan import LayerPlan
from deploycc.gate_planning.costs import CostModel
from deploycc.gate_planning.regions import (
    Choice,
    LayerTimes,
    PlannedLayer,
    best_order,
    blocks,
    multiply,
    order_of_blocks,
    widths,
)
from deploycc.gate_planning.shared_decisions import TimedDecision, variant_choices

MOST_PIECES = 4
"""Widths, blocks or variants of one layer."""

MOST_BRANCHES = 16
"""Branches of one region: each holds its own copy of the weights."""

LONGEST = 3
"""Layers of one region."""

NEAR_TIE = 0.005
"""Each further branch of a region has to save this share of its time."""

_FRONT = 256  # pairs kept at each layer
_PRICES = 12  # steps of the search for the price of a byte
_Regions = Mapping[tuple[int, int], Sequence[Choice]]  # by first layer and end


@dataclass(frozen=True)
class Surroundings:
    """What does not depend on the plan, ms.

    Attributes:
        others_ms: the network without the gated convolutions and without gates.
        gates_ms: the gate modules themselves.
    """

    others_ms: float = 0.0
    gates_ms: float = 0.0


def surroundings(layers: Sequence[PlannedLayer], model: CostModel, dense_ms: float, multiply_ms: float) -> Surroundings:
    """What the measured times of two whole networks leave beside the gated convolutions.

    Args:
        layers: of the network.
        model: measured costs.
        dense_ms: of the network without gates.
        multiply_ms: of the network as it is, multiplying by every gate.
    """
    convolutions = [model.grids[each.convolution](each.convolution.inputs, each.kernels) for each in layers]
    multiplications = [model.lines["multiply"](each.map_elements * each.kernels) for each in layers if each.gated]
    others = dense_ms - sum(map(float, convolutions))
    return Surroundings(max(0.0, others), max(0.0, multiply_ms - dense_ms - sum(multiplications)))


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
        simpler: for each lowered region, by its layers, other ways to carry them out, by what they are called; the
            last is ``multiply``.
    """

    chosen: tuple[Choice, ...]
    considered: tuple[Choice, ...]
    dense_ms: float
    bound_ms: float
    within: bool
    around: Surroundings
    ungated: frozenset[str] = frozenset()
    simpler: Mapping[tuple[str, ...], Mapping[str, tuple[Choice, ...]]] = field(default_factory=dict)

    @property
    def added_bytes(self) -> int:
        """Of the weights that branches hold beyond one copy."""
        return sum(each.added_bytes for each in self.chosen)

    @property
    def expected_ms(self) -> float:
        """Predicted mean over the recorded pictures."""
        return _outside(self.around) + sum(each.expected_ms for each in self.chosen)

    @property
    def all_on_ms(self) -> float:
        """Predicted with every kernel on."""
        return _outside(self.around) + sum(each.all_on_ms for each in self.chosen)

    def layers(self, instead: Mapping[tuple[str, ...], tuple[Choice, ...]] | None = None) -> tuple[LayerPlan, ...]:
        """The plan's layers; ``instead`` says what takes the place of regions, by their layers."""
        parts = [part for each in self.chosen for part in (instead or {}).get(each.layers, (each,))]
        return tuple(plan for each in parts if each.layers[0] not in self.ungated for plan in layer_plans(each))


def plan_lowerings(
    layers: Sequence[PlannedLayer],
    model: CostModel,
    *,
    max_worst_case: float,
    around: Surroundings = Surroundings(),
    max_added_bytes: float = math.inf,
    shared: Sequence[TimedDecision] = (),
) -> Planned:
    """Choose a lowering for every layer.

    Args:
        layers: in graph order; one that joins stands right behind the layer that it joins.
        model: measured costs.
        max_worst_case: the time with everything on may be this much of the dense network's.
        around: the rest of the network.
        max_added_bytes: of weights in branches, beyond one copy of each.
        shared: decisions that switch several layers.

    Returns:
        The plan with the least expected time within the bounds. Where multiplying everywhere misses the bound on the
        time with everything on, its time is the bound: the final check falls back to it.
    """
    times = {layer.name: best_order(layer, model) for layer in layers if layer.divisible}
    regions: dict[tuple[int, int], list[Choice]] = {}
    considered: list[Choice] = []
    for end in range(1, len(layers) + 1):
        for length in range(1, min(end, LONGEST) + 1):
            region = layers[end - length : end]
            if all(layer.joins for layer in region[1:]) and (region[0].gated or length == 1):
                choices = _choices(region, model, times)
                considered += _best_of_each_kind(choices)
                regions[end - length, end] = _undominated(choices)
    for timed in shared:
        spanned = [number for number, layer in enumerate(layers) if layer.name in timed.decision.layers]
        start, end = spanned[0], spanned[-1] + 1
        choices = variant_choices(timed, layers[start:end], model, MOST_PIECES)
        considered += _best_of_each_kind(choices)
        regions[start, end] = _undominated([*regions.get((start, end), []), *choices])
    grids = model.grids
    dense = around.others_ms + sum(
        float(grids[layer.convolution](layer.convolution.inputs, layer.kernels)) for layer in layers
    )
    bound, fixed = dense * max_worst_case, _outside(around)
    multiplying = sum(multiply(layer, model).all_on_ms for layer in layers)
    best = _within_bytes(regions, len(layers), max(bound - fixed, multiplying * (1 + 1e-12)), max_added_bytes)
    return Planned(
        chosen=best,
        considered=tuple(considered),
        dense_ms=dense,
        bound_ms=bound,
        within=sum(each.all_on_ms for each in best) + fixed <= bound,
        around=around,
        ungated=frozenset(layer.name for layer in layers if not layer.gated),
        simpler=_simpler(best, regions),
    )


def _within_bytes(regions: _Regions, count: int, bound_ms: float, max_added_bytes: float) -> tuple[Choice, ...]:
    """The best division whose added weights stay within a limit: bytes get the least price that makes them do so."""
    best = _divide(regions, count, bound_ms, 0.0)
    if _added(best) <= max_added_bytes:
        return best
    none = {span: [each for each in choices if not each.added_bytes] for span, choices in regions.items()}
    best = _divide(none, count, bound_ms, 0.0)
    low, high = 0.0, sum(each.expected_ms for each in best) / max(1.0, max_added_bytes)  # ms a byte
    for _ in range(_PRICES):
        price = (low + high) / 2
        found = _divide(regions, count, bound_ms, price)
        if _added(found) > max_added_bytes:
            low = price
        else:
            best, high = found, price
    return best


def _divide(regions: _Regions, count: int, bound_ms: float, price: float) -> tuple[Choice, ...]:
    """The best division of all layers into regions.

    Args:
        regions: what each may become.
        count: of layers.
        bound_ms: with everything on; multiplying everywhere keeps it.
        price: ms for each added byte.
    """
    fronts: list[list[tuple[float, float, tuple[Choice, ...]]]] = [[(0.0, 0.0, ())]]
    for end in range(1, count + 1):
        found = []
        for start in range(end):
            for choice, (cost, all_on, before) in itertools.product(regions.get((start, end), ()), fronts[start]):
                own = _cost(choice) + price * choice.added_bytes
                found.append((cost + own, all_on + choice.all_on_ms, (*before, choice)))
        fronts.append(_front(found))
    allowed = [each for each in fronts[-1] if each[1] <= bound_ms]
    return min(allowed or fronts[-1][-1:], key=lambda each: each[0])[2]


def _cost(choice: Choice) -> float:
    """Expected time, and what branches have to win."""
    return choice.expected_ms * (1 + NEAR_TIE * choice.branches)


def _added(chosen: Sequence[Choice]) -> int:
    return sum(each.added_bytes for each in chosen)


def _simpler(chosen: Sequence[Choice], regions: _Regions) -> dict[tuple[str, ...], dict[str, tuple[Choice, ...]]]:
    """For each lowered region: the best with fewer branches, the best in shorter rows, and multiplying."""
    found, end = {}, 0
    for choice in chosen:
        start, end = end, end + len(choice.layers)
        if choice.lowering == "multiply":
            continue
        own: dict[str, tuple[Choice, ...]] = {}
        fewer = [
            each for each in regions[start, end]
            if 0 < each.branches < (choice.branches + 1) / 2 and each.added_bytes <= choice.added_bytes
        ]  # fmt: skip
        if fewer:
            own["fewer branches"] = (min(fewer, key=_cost),)
        shorter = [
            parts for parts in (_divisions(regions, start, end) if end - start <= LONGEST else ())
            if any(each.branches for each in parts) and _added(parts) <= choice.added_bytes
        ]  # fmt: skip
        if shorter:
            own["shorter rows"] = min(shorter, key=lambda parts: sum(map(_cost, parts)))
        own["multiply"] = tuple(
            next(each for each in regions[number, number + 1] if each.lowering == "multiply")
            for number in range(start, end)
        )
        found[choice.layers] = own
    return found


def _divisions(regions: _Regions, start: int, end: int) -> list[tuple[Choice, ...]]:
    """Ways to carry out some layers in at least two regions, each the best it can be."""
    found: list[tuple[Choice, ...]] = []
    for cuts in itertools.product((False, True), repeat=end - start - 1):
        ends = [start, *(start + place for place, cut in enumerate(cuts, 1) if cut), end]
        spans = list(itertools.pairwise(ends))
        if len(spans) > 1 and all(regions.get(span) for span in spans):
            found.append(tuple(min(regions[span], key=_cost) for span in spans))
    return found


def layer_plans(choice: Choice) -> tuple[LayerPlan, ...]:
    """A region in the words of the plan file."""
    return tuple(
        LayerPlan(
            layer=name,
            lowering=choice.lowering,
            order=choice.orders[number],
            sizes=choice.sizes[number],
            always=choice.always,
            joined=number > 0 and choice.lowering != "variants",
        )
        for number, name in enumerate(choice.layers)
        if choice.sizes[number] or choice.lowering == "multiply"
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
        order = order_of_blocks(first)
        found += [divided for count in (1, MOST_PIECES) if (divided := blocks(first, model, count, order))]
    return found


def _best_of_each_kind(choices: Sequence[Choice]) -> list[Choice]:
    kinds = dict.fromkeys(each.lowering for each in choices)
    return [min((c for c in choices if c.lowering == kind), key=lambda c: c.expected_ms) for kind in kinds]


def _undominated(choices: Sequence[Choice]) -> list[Choice]:
    """Without those that another one beats in every respect; multiplying stays."""

    def facts(each: Choice) -> tuple[float, float, int]:
        return _cost(each), each.all_on_ms, each.added_bytes

    kept: list[Choice] = []
    for each in sorted(choices, key=facts):
        beaten = any(all(a <= b for a, b in zip(facts(other), facts(each), strict=True)) for other in kept)
        if not beaten or each.lowering == "multiply":
            kept.append(each)
    return kept


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
