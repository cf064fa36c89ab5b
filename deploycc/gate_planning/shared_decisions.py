"""One decision for many layers: variants of the network with fewer and fewer of the kernels that it switches.

How many variants pay follows from their times. These are not predicted from convolutions: there are so few candidates
that each is timed as a whole network.
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
    """A decision that switches several consecutive layers of those that are planned.

    Attributes:
        layers: names of the layers that it switches, in graph order.
        orders: for each layer its kernels, those of the units that stay longest first.
        sizes: number of kernels of each layer in each candidate, [candidates][layers]; the last holds all.
        need: [pictures] the smallest candidate that holds every kernel that is on.
        sure: [candidates] whether all its kernels are on whenever the candidate before it is not enough.
        graphs: for each candidate the network with only its kernels, without the gates of this decision.
        params: [candidates] number of weights in the part that branches hold.
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
    """A decision, with the times of its candidates.

    Attributes:
        decision: with its candidates.
        times_ms: [candidates] time of the whole network without gates.
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
    decisions, notes = [], list[Note]()
    planned = {layer.name: layer for layer in layers if layer.gated}
    names = list(planned)
    for gates in gates_by_decision(network.gates):
        switched = [gate.layer for gate in gates]
        if len(gates) < 2:
            continue
        if switched[0] not in planned or switched != names[names.index(switched[0]) :][: len(gates)]:
            notes.append(Note(switched[0], "gate-mixed", "it switches layers that are not consecutive planned layers"))
            continue
        part = find_shared_part(network, gates)
        row = [planned[name] for name in switched]
        decision = part if isinstance(part, Note) else _decision(network.graph, part, row)
        if isinstance(decision, Note):
            notes.append(decision)
        else:
            decisions.append(decision)
    return tuple(decisions), tuple(notes)


def variant_choices(timed: TimedDecision, region: Sequence[PlannedLayer], model: CostModel, most: int) -> list[Choice]:
    """Return the best 2, 3 ... ``most`` variants of a decision.

    Args:
        timed: candidates and their times.
        region: layers that the decision switches, and those between them that nothing switches.
        model: measured costs of branches, and of the convolutions that a variant replaces.
        most: number of variants.
    """
    decision, first = timed.decision, region[0]
    full = sum(float(model.grids[layer.convolution](layer.convolution.inputs, layer.kernels)) for layer in region)
    times = full + timed.times_ms - timed.times_ms[-1]
    branch, multiply = model.lines["branch"], model.lines["multiply"]
    number = {name: index for index, name in enumerate(decision.layers)}
    elements = [[layer.map_elements * size[number[layer.name]] for layer in region if layer.name in number]
                for size in decision.sizes]  # fmt: skip
    multiplying = np.array([sum(map(multiply, counts)) for counts in elements])
    entering = branch.element_ms * first.start_elements
    choices = []
    for count in range(2, min(most, len(times)) + 1):
        last = len(times) - 1
        possible = [(*smaller, last) for smaller in itertools.combinations(range(last), count - 1)]
        costs = {chosen: _times_ms(chosen, decision.sure, times, multiplying, branch.fixed_ms) for chosen in possible}
        expected = {chosen: float(ms[np.searchsorted(chosen, decision.need)].mean()) for chosen, ms in costs.items()}
        chosen = min(expected, key=expected.__getitem__)
        sizes = [
            tuple(decision.sizes[candidate][number[layer.name]] for candidate in chosen) if layer.name in number else ()
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
                added_bytes=_FLOAT_BYTES * sum(decision.params[candidate] for candidate in chosen[:-1]),
                branches=count - 1,
            )
        )
    return choices


def _times_ms(chosen: tuple[int, ...], sure: Sequence[bool], times: Array, multiplying: Array, test_ms: float) -> Array:
    """Return the time of each chosen candidate, with the tests before it and, unless all is on, its multiplications."""
    result = times[list(chosen)].copy()
    for place, candidate in enumerate(chosen):
        before = chosen[place - 1] if place else -1
        if not (sure[candidate] and before == candidate - 1):
            result[place] += multiplying[candidate]
        result[place] += test_ms * min(len(chosen) - place, len(chosen) - 1)  # the widest is tested first
    return result


def _decision(graph: gs.Graph, part: SharedPart, layers: Sequence[PlannedLayer]) -> SharedDecision | Note:
    score_of = [np.array(comparison.score_of) for comparison in part.comparisons]
    scores = np.unique(np.concatenate(score_of))
    firing = np.zeros((len(layers[0].active), len(scores)), np.bool_)  # [pictures, scores]
    for layer, scores_of_kernels in zip(layers, score_of, strict=True):
        for index, score in enumerate(scores):
            firing[:, index] |= layer.active[:, scores_of_kernels == score].any(1)
    nested = all(gate.granularity == "nested" for gate in part.gates)
    ranked = np.arange(len(scores)) if nested else np.argsort(-firing.mean(0), kind="stable")
    rank = dict(zip(scores[ranked].tolist(), range(len(scores)), strict=True))
    ranks = [np.array([rank[score] for score in kernels.tolist()]) for kernels in score_of]  # [layers][kernels]
    orders = tuple(tuple(np.argsort(kernels, kind="stable").tolist()) for kernels in ranks)
    least = max(int(kernels.min()) for kernels in ranks) + 1  # with so many scores, every layer has a kernel
    cuts = np.unique(np.linspace(least, len(scores), min(MOST_CANDIDATES, len(scores) - least + 1)).round().astype(int))
    complete = [_needs_all(part, gate, kernels < least) for gate, kernels in zip(part.gates, ranks, strict=True)]
    if all(complete):
        reason = "all maps that it switches are added to maps that it does not switch"
        return Note(part.gates[0].layer, "gate-not-narrowed", reason)
    keeps = [
        [
            np.ones_like(kernels, np.bool_) if needs_all else kernels < cut
            for kernels, needs_all in zip(ranks, complete, strict=True)
        ]
        for cut in cuts.tolist()
    ]
    graphs = []
    for keep in keeps:
        variant = one_variant(graph, part, {gate.layer: held for gate, held in zip(part.gates, keep, strict=True)})
        if isinstance(variant, Note):
            return variant
        graphs.append(variant)
    params = [measure_cost(variant).params for variant in graphs]
    outside = params[-1] - measure_cost(part.body).params  # exist once, whatever the branches hold
    ordered = firing[:, ranked]
    last: NDArray[np.intp] = np.where(ordered.any(1), len(scores) - np.argmax(ordered[:, ::-1], 1), 0)
    return SharedDecision(
        layers=tuple(gate.layer for gate in part.gates),
        orders=orders,
        sizes=tuple(tuple(int(held.sum()) for held in keep) for keep in keeps),
        need=np.searchsorted(cuts, last),
        sure=tuple(
            _sure(part, keep, scores[ranked[low:high]].tolist() if low else [])
            for keep, (low, high) in zip(keeps, itertools.pairwise([0, *cuts.tolist()]), strict=True)
        ),
        graphs=tuple(graphs),
        params=tuple(count - outside for count in params),
    )


def _needs_all(part: SharedPart, gate: Gate, keep: Keep) -> bool:
    """Return whether a layer needs all its kernels, as one that is added to maps which nothing switches does.

    Its gate then multiplies.
    """
    keeps = {other.layer: np.ones(other.kernels, np.bool_) for other in part.gates} | {gate.layer: keep}
    return isinstance(narrow_part(part, keeps), Note)


def _sure(part: SharedPart, keep: Sequence[Keep], tested: Sequence[int]) -> bool:
    """Return whether every kept kernel is on whenever one of these scores is on, or always if there are none."""
    return all(
        all_on(gate, np.flatnonzero(held).tolist(), kernels_asked(comparison, tested))
        for gate, comparison, held in zip(part.gates, part.comparisons, keep, strict=True)
    )
