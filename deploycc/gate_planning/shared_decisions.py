"""One decision for many layers: what the network takes with fewer and fewer of the kernels that it switches.

How many variants are worth having follows from their times. These are no sums over convolutions: there are few enough
candidates to time each as the whole network that it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.errors import Note
from deploycc.gate_planning.costs import Array, CostModel
from deploycc.gate_planning.regions import Choice, Indices, PlannedLayer
from deploycc.graph.branches.conditions import all_on
from deploycc.graph.branches.gated_network import GatedNetwork
from deploycc.graph.branches.narrowed_part import Keep
from deploycc.graph.branches.shared_part import SharedPart, find_shared_part, kernels_asked, narrow_part, one_variant
from deploycc.graph.cost import measure_cost
from deploycc.graph.gates.search import Gate, gates_by_decision

MOST_CANDIDATES = 8
_FLOAT_BYTES = 4


@dataclass(frozen=True, eq=False)
class SharedDecision:
    """A decision that switches several of the planned layers, which stand in a row.

    Attributes:
        layers: those that it switches, by name, in graph order.
        orders: for each its kernels, those of the units that stay longest first.
        sizes: for each candidate the number of kernels of each layer, [candidates][layers]; the last holds all.
        need: [pictures] the first candidate that holds every kernel that is on.
        sure: [candidates] whether all its kernels are on where the candidate before it does not hold all that are.
        graphs: the network as each candidate leaves it, without the gates of this decision.
        params: [candidates] weights of the part that branches hold.
    """

    layers: tuple[str, ...]
    orders: tuple[tuple[int, ...], ...]
    sizes: tuple[tuple[int, ...], ...]
    need: Indices
    sure: tuple[bool, ...]
    graphs: tuple[gs.Graph, ...]
    params: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class TimedDecision:
    """A decision, and what its candidates take.

    Attributes:
        decision: its candidates.
        times_ms: [candidates] of the whole network without gates.
    """

    decision: SharedDecision
    times_ms: Array


def shared_decisions(
    network: GatedNetwork, layers: Sequence[PlannedLayer]
) -> tuple[tuple[SharedDecision, ...], tuple[Note, ...]]:
    """Find decisions that switch more than one layer.

    Args:
        network: stays as it is.
        layers: as planned, with their recorded decisions.

    Returns:
        The decisions, and notes on those whose layers branches cannot compute together.
    """
    found, notes = [], list[Note]()
    planned = {layer.name: layer for layer in layers if layer.gated}
    names = list(planned)
    for own in gates_by_decision(network.gates):
        switched = [gate.layer for gate in own]
        if len(own) < 2:
            continue
        if switched[0] not in planned or switched != names[names.index(switched[0]) :][: len(own)]:
            notes.append(Note(switched[0], "gate-mixed", "what it switches is no row of layers that can be planned"))
            continue
        part = find_shared_part(network, own)
        made = part if isinstance(part, Note) else _decision(network.graph, part, [planned[name] for name in switched])
        if isinstance(made, Note):
            notes.append(made)
        else:
            found.append(made)
    return tuple(found), tuple(notes)


def variant_choices(timed: TimedDecision, region: Sequence[PlannedLayer], model: CostModel, most: int) -> list[Choice]:
    """The best 2, 3 ... ``most`` variants of a decision.

    Args:
        timed: candidates and their times.
        region: its layers, with those in between that nothing switches.
        model: measured costs: of branches, and of convolutions, in whose place a variant stands.
        most: variants.
    """
    decision, first = timed.decision, region[0]
    full = sum(float(model.grids[layer.convolution](layer.convolution.inputs, layer.kernels)) for layer in region)
    times = full + timed.times_ms - timed.times_ms[-1]
    branch, mask = model.lines["branch"], model.lines["multiply"]
    number = {name: index for index, name in enumerate(decision.layers)}
    elements = [[layer.map_elements * size[number[layer.name]] for layer in region if layer.name in number]
                for size in decision.sizes]  # fmt: skip
    masks = np.array([sum(map(mask, own)) for own in elements])
    entering = branch.element_ms * first.start_elements
    choices = []
    for count in range(2, min(most, len(times)) + 1):
        costs = {
            chosen: _times_ms(chosen, decision.sure, times, masks, branch.fixed_ms)
            for chosen in ((*each, len(times) - 1) for each in itertools.combinations(range(len(times) - 1), count - 1))
        }
        expected = {chosen: float(own[np.searchsorted(chosen, decision.need)].mean()) for chosen, own in costs.items()}
        chosen = min(expected, key=expected.__getitem__)
        sizes = [
            tuple(decision.sizes[each][number[layer.name]] for each in chosen) if layer.name in number else ()
            for layer in region
        ]
        orders = [
            decision.orders[number[layer.name]] if layer.name in number else tuple(range(layer.kernels))
            for layer in region
        ]
        choices.append(
            Choice(
                layers=tuple(layer.name for layer in region),
                lowering="variants",
                sizes=tuple(sizes),
                orders=tuple(orders),
                expected_ms=expected[chosen] + entering,
                all_on_ms=float(costs[chosen][-1]) + entering,
                added_bytes=_FLOAT_BYTES * sum(decision.params[each] for each in chosen[:-1]),
                branches=count - 1,
            )
        )
    return choices


def _times_ms(chosen: tuple[int, ...], sure: Sequence[bool], times: Array, masks: Array, test_ms: float) -> Array:
    """What each of the chosen candidates takes, [chosen]: with its masks, unless all is on, and the tests before it."""
    result = times[list(chosen)].copy()
    for place, candidate in enumerate(chosen):
        before = chosen[place - 1] if place else -1
        if not (sure[candidate] and before == candidate - 1):
            result[place] += masks[candidate]
        result[place] += test_ms * min(len(chosen) - place, len(chosen) - 1)  # the widest is asked for first
    return result


def _decision(graph: gs.Graph, part: SharedPart, layers: Sequence[PlannedLayer]) -> SharedDecision | Note:
    score_of = [np.array(comparison.score_of) for comparison in part.comparisons]
    scores = np.unique(np.concatenate(score_of))
    firing = np.zeros((len(layers[0].active), len(scores)), np.bool_)  # [pictures, scores]
    for layer, own in zip(layers, score_of, strict=True):
        for index, score in enumerate(scores):
            firing[:, index] |= layer.active[:, own == score].any(1)
    nested = all(gate.granularity == "nested" for gate in part.gates)
    ranked = np.arange(len(scores)) if nested else np.argsort(-firing.mean(0), kind="stable")
    rank = dict(zip(scores[ranked].tolist(), range(len(scores)), strict=True))
    ranks = [np.array([rank[score] for score in own.tolist()]) for own in score_of]
    orders = tuple(tuple(np.argsort(own, kind="stable").tolist()) for own in ranks)
    least = max(int(own.min()) for own in ranks) + 1  # every layer has a kernel from here on
    cuts = np.unique(np.linspace(least, len(scores), min(MOST_CANDIDATES, len(scores) - least + 1)).round().astype(int))
    stays = [_stays(part, gate, own < least) for gate, own in zip(part.gates, ranks, strict=True)]
    if all(stays):
        return Note(part.gates[0].layer, "gate-not-narrowed", "all that it switches is added to maps that it does not")
    keeps = [[np.ones_like(own, np.bool_) if why else own < cut for own, why in zip(ranks, stays, strict=True)]
             for cut in cuts.tolist()]  # fmt: skip
    graphs = []
    for keep in keeps:
        made = one_variant(graph, part, {gate.layer: own for gate, own in zip(part.gates, keep, strict=True)})
        if isinstance(made, Note):
            return made
        graphs.append(made)
    whole = [measure_cost(each).params for each in graphs]
    outside = whole[-1] - measure_cost(part.body).params  # is there once, whatever the branches hold
    ordered = firing[:, ranked]
    last: NDArray[np.intp] = np.where(ordered.any(1), len(scores) - np.argmax(ordered[:, ::-1], 1), 0)
    return SharedDecision(
        layers=tuple(gate.layer for gate in part.gates),
        orders=orders,
        sizes=tuple(tuple(int(own.sum()) for own in keep) for keep in keeps),
        need=np.searchsorted(cuts, last),
        sure=tuple(
            _sure(part, keep, scores[ranked[low:high]].tolist() if low else [])
            for keep, (low, high) in zip(keeps, itertools.pairwise([0, *cuts.tolist()]), strict=True)
        ),
        graphs=tuple(graphs),
        params=tuple(each - outside for each in whole),
    )


def _stays(part: SharedPart, gate: Gate, keep: Keep) -> bool:
    """Whether a layer needs all its kernels: a sum with maps that nothing switches does. Its gate then multiplies."""
    keeps = {each.layer: np.ones(each.kernels, np.bool_) for each in part.gates} | {gate.layer: keep}
    return isinstance(narrow_part(part, keeps), Note)


def _sure(part: SharedPart, keep: Sequence[Keep], tested: Sequence[int]) -> bool:
    """Whether all that is there is on where one of these scores is; with none, whether it always is."""
    return all(
        all_on(gate, np.flatnonzero(there).tolist(), kernels_asked(comparison, tested))
        for gate, comparison, there in zip(part.gates, part.comparisons, keep, strict=True)
    )
