"""Which lowering each gate gets: the one with the least expected time whose worst case stays within a bound.

The plan is a pure function of recorded decisions and measured costs. The network is a row of gated convolutions.
Dynamic programming divides it into regions; for each layer it keeps the pairs of expected time and time with everything
on that no other pair beats in both. Copies of weights in branches have a price, just high enough to keep their bound.
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
"""Branches of one region, each of which holds its own copy of the weights."""

LONGEST = 3
"""Layers of one region."""

NEAR_TIE = 0.005
"""Each further branch of a region must save this share of its time."""

_FRONT = 256  # pairs that are kept for each layer
_PRICES = 12  # steps of the search for the price of a byte
_Regions = Mapping[tuple[int, int], Sequence[Choice]]  # lowerings by first layer and end
_Division = tuple[float, float, tuple[Choice, ...]]  # cost, ms with everything on, regions


@dataclass(frozen=True)
class Surroundings:
    """Times that do not depend on the plan.

    Attributes:
        others_ms: of the network without the gated convolutions and without gates.
        gates_ms: of the gate modules themselves.
    """

    others_ms: float = 0.0
    gates_ms: float = 0.0


def surroundings(layers: Sequence[PlannedLayer], model: CostModel, dense_ms: float, multiply_ms: float) -> Surroundings:
    """Derive the times beside the gated convolutions from the measured times of two whole networks.

    Args:
        layers: of the network.
        model: measured costs.
        dense_ms: time of the network without gates.
        multiply_ms: time of the network as it is, multiplying by every gate.
    """
    convolutions = [_dense_ms(layer, model) for layer in layers]
    multiplications = [model.lines["multiply"](layer.map_elements * layer.kernels) for layer in layers if layer.gated]
    others = dense_ms - sum(convolutions)
    return Surroundings(max(0.0, others), max(0.0, multiply_ms - dense_ms - sum(multiplications)))


@dataclass(frozen=True)
class Planned:
    """A plan, with what it was chosen from.

    Attributes:
        chosen: lowerings of regions in graph order; together they hold every layer once.
        considered: the best lowering of each kind for every region.
        dense_ms: predicted time of the network without gates.
        bound_ms: longest time allowed with everything on.
        within: whether the plan keeps that bound.
        around: times that every total includes beside the regions.
        ungated: layers without a gate, which are in a plan only where they are joined to others.
        simpler: for each lowered region, by its layers, named simpler ways to lower it; the last is ``multiply``.
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
        """Bytes of weights that branches hold beyond one copy of each weight."""
        return _added(self.chosen)

    @property
    def expected_ms(self) -> float:
        """Predicted mean time over the recorded pictures."""
        return _outside(self.around) + sum(choice.expected_ms for choice in self.chosen)

    @property
    def all_on_ms(self) -> float:
        """Predicted time with every kernel on."""
        return _outside(self.around) + sum(choice.all_on_ms for choice in self.chosen)

    def layers(self, instead: Mapping[tuple[str, ...], tuple[Choice, ...]] | None = None) -> tuple[LayerPlan, ...]:
        """Return the layers of the plan; ``instead`` holds other lowerings for some regions, by their layers."""
        parts = [part for choice in self.chosen for part in (instead or {}).get(choice.layers, (choice,))]
        return tuple(plan for part in parts if part.layers[0] not in self.ungated for plan in layer_plans(part))


def plan_lowerings(
    layers: Sequence[PlannedLayer],
    model: CostModel,
    *,
    max_worst_case: float,
    around: Surroundings = Surroundings(),
    max_added_bytes: float = math.inf,
    shared: Sequence[TimedDecision] = (),
    conditional: bool = True,
) -> Planned:
    """Choose a lowering for every layer.

    Args:
        layers: in graph order; a layer that joins another comes right after it.
        model: measured costs.
        max_worst_case: bound of the time with everything on, as a multiple of the dense network's.
        around: times of the rest of the network.
        max_added_bytes: bound of the bytes of weights in branches beyond one copy of each weight.
        shared: decisions that switch several layers.
        conditional: whether a branch skips work; False: every layer multiplies.

    Returns:
        The plan with the least expected time within the bounds. If even multiplying everywhere exceeds the bound of the
        time with everything on, the time of multiplying is the bound: the final check falls back to that.
    """
    times = {layer.name: best_order(layer, model) for layer in layers if layer.divisible}
    regions: dict[tuple[int, int], list[Choice]] = {}
    considered: list[Choice] = []
    for end in range(1, len(layers) + 1):
        for length in range(1, min(end, LONGEST if conditional else 1) + 1):
            region = layers[end - length : end]
            if all(layer.joins for layer in region[1:]) and (region[0].gated or length == 1):
                choices = _choices(region, model, times) if conditional else [multiply(region[0], model)]
                considered += _best_of_each_kind(choices)
                regions[end - length, end] = _undominated(choices)
    for timed in shared if conditional else ():
        spanned = [number for number, layer in enumerate(layers) if layer.name in timed.decision.layers]
        start, end = spanned[0], spanned[-1] + 1
        choices = variant_choices(timed, layers[start:end], model, MOST_PIECES)
        considered += _best_of_each_kind(choices)
        regions[start, end] = _undominated([*regions.get((start, end), []), *choices])
    dense = around.others_ms + sum(_dense_ms(layer, model) for layer in layers)
    bound, fixed = dense * max_worst_case, _outside(around)
    multiplying = sum(multiply(layer, model).all_on_ms for layer in layers)
    best = _within_bytes(regions, len(layers), max(bound - fixed, multiplying * (1 + 1e-12)), max_added_bytes)
    return Planned(
        chosen=best,
        considered=tuple(considered),
        dense_ms=dense,
        bound_ms=bound,
        within=sum(choice.all_on_ms for choice in best) + fixed <= bound,
        around=around,
        ungated=frozenset(layer.name for layer in layers if not layer.gated),
        simpler=_simpler(best, regions),
    )


def _within_bytes(regions: _Regions, count: int, bound_ms: float, max_added_bytes: float) -> tuple[Choice, ...]:
    """Return the best division whose added weights stay within a bound, at the lowest price per byte that allows it."""
    best = _divide(regions, count, bound_ms, 0.0)
    if _added(best) <= max_added_bytes:
        return best
    free = {span: [choice for choice in choices if not choice.added_bytes] for span, choices in regions.items()}
    best = _divide(free, count, bound_ms, 0.0)
    low, high = 0.0, sum(choice.expected_ms for choice in best) / max(1.0, max_added_bytes)  # ms per byte
    for _ in range(_PRICES):
        price = (low + high) / 2
        division = _divide(regions, count, bound_ms, price)
        if _added(division) > max_added_bytes:
            low = price
        else:
            best, high = division, price
    return best


def _divide(regions: _Regions, count: int, bound_ms: float, price: float) -> tuple[Choice, ...]:
    """Return the best division of all layers into regions.

    Args:
        regions: lowerings to choose from.
        count: number of layers.
        bound_ms: longest time with everything on; multiplying everywhere keeps it.
        price: ms per added byte.
    """
    fronts: list[list[_Division]] = [[(0.0, 0.0, ())]]
    for end in range(1, count + 1):
        divisions = []
        for start in range(end):
            for choice, (cost, all_on, before) in itertools.product(regions.get((start, end), ()), fronts[start]):
                added = _cost(choice) + price * choice.added_bytes
                divisions.append((cost + added, all_on + choice.all_on_ms, (*before, choice)))
        fronts.append(_front(divisions))
    allowed = [division for division in fronts[-1] if division[1] <= bound_ms]
    return min(allowed or fronts[-1][-1:], key=lambda division: division[0])[2]


def _cost(choice: Choice) -> float:
    """Return the expected time, plus what the branches must save."""
    return choice.expected_ms * (1 + NEAR_TIE * choice.branches)


def _added(chosen: Sequence[Choice]) -> int:
    return sum(choice.added_bytes for choice in chosen)


def _dense_ms(layer: PlannedLayer, model: CostModel) -> float:
    """Return the time of a layer without its gate."""
    return float(model.grids[layer.convolution](layer.convolution.inputs, layer.kernels))


def _simpler(chosen: Sequence[Choice], regions: _Regions) -> dict[tuple[str, ...], dict[str, tuple[Choice, ...]]]:
    """Return for each lowered region the best way with fewer branches, the best in shorter rows, and multiplying."""
    simpler, end = {}, 0
    for choice in chosen:
        start, end = end, end + len(choice.layers)
        if choice.lowering == "multiply":
            continue
        ways: dict[str, tuple[Choice, ...]] = {}
        fewer = [
            other for other in regions[start, end]
            if 0 < other.branches < (choice.branches + 1) / 2 and other.added_bytes <= choice.added_bytes
        ]  # fmt: skip
        if fewer:
            ways["fewer branches"] = (min(fewer, key=_cost),)
        shorter = [
            parts for parts in (_divisions(regions, start, end) if end - start <= LONGEST else ())
            if any(part.branches for part in parts) and _added(parts) <= choice.added_bytes
        ]  # fmt: skip
        if shorter:
            ways["shorter rows"] = min(shorter, key=lambda parts: sum(map(_cost, parts)))
        ways["multiply"] = tuple(
            next(single for single in regions[number, number + 1] if single.lowering == "multiply")
            for number in range(start, end)
        )
        simpler[choice.layers] = ways
    return simpler


def _divisions(regions: _Regions, start: int, end: int) -> list[tuple[Choice, ...]]:
    """Return the divisions of some layers into at least two regions, each with its best lowering."""
    divisions: list[tuple[Choice, ...]] = []
    for cuts in itertools.product((False, True), repeat=end - start - 1):
        ends = [start, *(start + place for place, cut in enumerate(cuts, 1) if cut), end]
        spans = list(itertools.pairwise(ends))
        if len(spans) > 1 and all(regions.get(span) for span in spans):
            divisions.append(tuple(min(regions[span], key=_cost) for span in spans))
    return divisions


def layer_plans(choice: Choice) -> tuple[LayerPlan, ...]:
    """Return the entries of a plan for a region."""
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
    """Return the lowerings of a region as a whole."""
    first = region[0]
    choices = [multiply(first, model)] if len(region) == 1 else []
    if not first.gated or not all(layer.divisible for layer in region):
        return choices
    tables = [times[layer.name] for layer in region]
    ranges = [range(2 if layer is first else 1, MOST_PIECES + 1) if layer.gated else range(1, 2) for layer in region]
    for counts in itertools.product(*ranges):
        if math.prod(counts) <= MOST_BRANCHES:
            choice = widths(tables, counts)
            if len(choice.sizes[0]) > 1:  # else nothing is skipped
                choices.append(choice)
    if len(region) == 1:
        order = order_of_blocks(first)
        choices += [divided for count in (1, MOST_PIECES) if (divided := blocks(first, model, count, order))]
    return choices


def _best_of_each_kind(choices: Sequence[Choice]) -> list[Choice]:
    kinds = dict.fromkeys(choice.lowering for choice in choices)
    return [min((c for c in choices if c.lowering == kind), key=lambda c: c.expected_ms) for kind in kinds]


def _undominated(choices: Sequence[Choice]) -> list[Choice]:
    """Leave out those that another one beats in every respect, except for multiplying."""

    def facts(choice: Choice) -> tuple[float, float, int]:
        return _cost(choice), choice.all_on_ms, choice.added_bytes

    kept: list[Choice] = []
    for choice in sorted(choices, key=facts):
        beaten = any(all(a <= b for a, b in zip(facts(other), facts(choice), strict=True)) for other in kept)
        if not beaten or choice.lowering == "multiply":
            kept.append(choice)
    return kept


def _front(divisions: list[_Division]) -> list[_Division]:
    """Keep those that no other beats in both times, evenly thinned if there are many."""
    front: list[_Division] = []
    for division in sorted(divisions, key=lambda division: division[:2]):
        if not front or division[1] < front[-1][1]:
            front.append(division)
    if len(front) > _FRONT:
        step = (len(front) - 1) / (_FRONT - 1)
        front = [front[round(number * step)] for number in range(_FRONT)]
    return front


def _outside(around: Surroundings) -> float:
    return around.others_ms + around.gates_ms
