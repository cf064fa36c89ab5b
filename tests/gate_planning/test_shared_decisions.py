"""Variants of a decision: which candidates there are, and which of them are worth having."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from branching_networks import PATTERNS, Block, Branching, Wish
from gate_lowering import conditionals, error, lowered
from planned_layers import layer, model, prefixes

from deploycc.documents.gate_plan import LayerPlan
from deploycc.gate_planning.layers import fix_unmovable, planned_layers
from deploycc.gate_planning.planner import MOST_PIECES, plan_lowerings
from deploycc.gate_planning.regions import PlannedLayer
from deploycc.gate_planning.shared_decisions import SharedDecision, TimedDecision, shared_decisions, variant_choices
from deploycc.graph.branches.gated_network import read_gated_network
from deploycc.graph.cost import measure_cost
from deploycc.graph.gates.search import find_gates

UNITS = tuple(k // 16 for k in range(64))
WIDTHS = (16, 32, 48, 64)
WISH = Wish("widths", 0, False)


def rows(count: int, seed: int = 0) -> list[PlannedLayer]:
    """Layers that one nested gate switches: each picture needs the same units of all of them."""
    active = prefixes(200, 64, list(WIDTHS), seed)
    return [layer(f"layer {number}", active, unit_of=UNITS, nested=True) for number in range(count)]


def timed(layers: list[PlannedLayer], times_ms: list[float]) -> TimedDecision:
    need = np.searchsorted(np.array(WIDTHS), layers[0].active.sum(1))
    orders = (tuple(range(64)),) * len(layers)
    sizes = tuple((width,) * len(layers) for width in WIDTHS)
    names = tuple(each.name for each in layers)
    return TimedDecision(SharedDecision(names, orders, sizes, need, (True,) * 4, (), WIDTHS), np.array(times_ms))


def network(kind: str, granularity: str):  # type: ignore[no-untyped-def]
    return Branching((Block(kind, granularity, (0, 2, 1, 0)),), (WISH,), 2, True).build("on")


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_best_variants_are_those_of_an_exhaustive_search(count: int) -> None:
    layers = rows(2, seed=count)
    times, branch = [1.0, 3.5, 4.0, 9.0], 0.004
    costs = model(layers, branch=branch)
    choice = variant_choices(timed(layers, times), layers, costs, count)[-1]
    need = np.searchsorted(np.array(WIDTHS), layers[0].active.sum(1))
    masks = [2 * costs.lines["multiply"](layers[0].map_elements * width) for width in WIDTHS]

    def taken(chosen: tuple[int, ...]) -> list[float]:
        """A variant that leaves one out multiplies; the widest is asked for first, and the last two share a question."""
        return [
            times[each] + (masks[each] if each - 1 != (chosen[place - 1] if place else -1) else 0.0)
            + branch * min(count - place, count - 1)
            for place, each in enumerate(chosen)
        ]  # fmt: skip

    def mean(chosen: tuple[int, ...]) -> float:
        cost = taken(chosen)
        return float(np.mean([next(ms for each, ms in zip(chosen, cost, strict=True) if each >= own) for own in need]))

    best = min((mean((*each, 3)), (*each, 3)) for each in itertools.combinations(range(3), count - 1))
    assert choice.sizes == (tuple(WIDTHS[each] for each in best[1]),) * 2
    others = 2 * float(costs.grids[layers[0].convolution](64, 64)) - times[3]
    assert choice.expected_ms == pytest.approx(others + best[0], rel=1e-9, abs=0)
    assert choice.all_on_ms == pytest.approx(others + taken(best[1])[-1], rel=1e-9, abs=0)
    assert choice.branches == count - 1
    assert choice.added_bytes == 4 * sum(WIDTHS[each] for each in best[1][:-1])


def test_the_planner_takes_variants_where_they_win_and_only_there() -> None:
    layers = rows(5)
    costs = model(layers)
    dense = sum(float(costs.grids[each.convolution](64, 64)) for each in layers)
    fast = timed(layers, [dense / 8, dense / 4, dense / 2, dense])
    planned = plan_lowerings(layers, costs, max_worst_case=1.05, shared=[fast])
    (choice,) = planned.chosen
    assert (choice.lowering, choice.layers) == ("variants", tuple(each.name for each in layers))
    plans = planned.layers()
    assert [plan.layer for plan in plans] == [each.name for each in layers]
    assert {(plan.lowering, plan.joined, plan.sizes[-1]) for plan in plans} == {("variants", False, 64)}
    assert len(plans[0].sizes) <= MOST_PIECES
    assert [each.lowering for each in planned.simpler[choice.layers]["multiply"]] == ["multiply"] * 5
    slow = timed(layers, [2 * dense, 2 * dense, 2 * dense, dense])  # else they win by what they do not multiply
    assert all(
        each.lowering != "variants" for each in plan_lowerings(layers, costs, max_worst_case=1.05, shared=[slow]).chosen
    )


def test_a_layer_that_nothing_switches_may_stand_in_between() -> None:
    layers = rows(2)
    plain = layer("plain", np.ones((200, 64), np.bool_), gated=False, movable=False)
    row = [layers[0], plain, layers[1]]
    costs = model(row)
    dense = sum(float(costs.grids[each.convolution](64, 64)) for each in row)
    fast = timed(layers, [dense / 8, dense / 4, dense / 2, dense])
    planned = plan_lowerings(row, costs, max_worst_case=1.05, shared=[fast])
    (choice,) = planned.chosen
    assert choice.layers == ("layer 0", "plain", "layer 1")
    assert [plan.layer for plan in planned.layers()] == ["layer 0", "layer 1"]
    assert choice.expected_ms < dense


@pytest.mark.parametrize("granularity", ["nested", "block", "first"])
def test_candidates_of_a_network(granularity: str) -> None:
    detector = network("depthwise", granularity)
    gates = find_gates(detector.graph)
    random = np.random.default_rng(0)
    units = random.random((50, 3)) < [0.3, 0.9, 0.6]
    if granularity != "block":
        units = np.arange(3) < random.integers(1, 4, (50, 1))
    active = {gate.layer: units[:, list(gate.unit_of)] for gate in gates}
    layers, notes = planned_layers(read_gated_network(detector.graph), gates, active)
    assert notes == ()
    (decision,), notes = shared_decisions(read_gated_network(detector.graph), layers)
    assert notes == ()
    assert decision.layers == tuple(gate.layer for gate in gates)
    assert decision.sizes == ((2, 2), (4, 4), (6, 6))
    order = (2, 3, 4, 5, 0, 1) if granularity == "block" else (0, 1, 2, 3, 4, 5)  # the most used unit stays longest
    assert decision.orders == (order, order)
    assert (
        decision.sure
        == {"nested": (False, True, True), "block": (False, False, False), "first": (True, True, True)}[granularity]
    )
    held = np.array([[not own[list(order[size:])].any() for size in (2, 4, 6)] for own in active[gates[0].layer]])
    assert decision.need.tolist() == held.argmax(1).tolist()
    assert [measure_cost(graph).macs for graph in decision.graphs] == sorted(
        measure_cost(graph).macs for graph in decision.graphs
    )
    assert not find_gates(decision.graphs[-1])
    stem = next(node for node in detector.graph.nodes if node.name.startswith("stem"))
    outside = sum(weight.values.size for weight in stem.inputs[1:])
    whole = [measure_cost(graph).params for graph in decision.graphs]
    assert list(decision.params) == [params - outside for params in whole]  # the stem exists once


def test_a_layer_that_is_added_to_others_keeps_its_kernels_and_multiplies() -> None:
    """As the last of a residual block: what it is added to needs every channel."""
    detector = network("residual", "nested")
    gates = find_gates(detector.graph)
    units = np.arange(3) < np.random.default_rng(0).integers(1, 4, (50, 1))
    layers, _ = planned_layers(
        read_gated_network(detector.graph), gates, {gate.layer: units[:, list(gate.unit_of)] for gate in gates}
    )
    (decision,), notes = shared_decisions(read_gated_network(detector.graph), layers)
    assert notes == ()
    assert decision.sizes == ((2, 6), (4, 6), (6, 6))
    assert decision.sure == (False, False, True)  # the layer that keeps its kernels multiplies
    plans = [
        LayerPlan(layer=name, lowering="variants", order=decision.orders[number], sizes=tuple(each[number] for each in decision.sizes))
        for number, name in enumerate(decision.layers)
    ]  # fmt: skip
    result = lowered(detector, plans)
    assert result.notes == ()
    assert len(conditionals(result.detector.graph)) == 2
    made = Branching((Block("residual", "nested", (0, 2, 1, 0)),), (WISH,), 2, True)
    for pattern in PATTERNS:
        multiplying = made.build(pattern)
        assert error(multiplying.graph, lowered(multiplying, plans).detector.graph, made.picture()) <= 1.0


def test_decisions_whose_layers_stand_in_no_row_are_named() -> None:
    """Of two decisions that alternate neither can be computed in branches of its own."""
    detector = Branching((Block("two", "nested", (0, 2, 0, 0)),) * 2, (WISH,), 4, True).build("on")
    gates = find_gates(detector.graph)
    layers, _ = planned_layers(
        read_gated_network(detector.graph), gates, {gate.layer: np.ones((4, gate.kernels), np.bool_) for gate in gates}
    )
    found, notes = shared_decisions(read_gated_network(detector.graph), [layers[index] for index in (0, 2, 1, 3)])
    assert found == ()
    assert [(note.node, note.code) for note in notes] == [
        (gates[0].layer, "gate-mixed"),
        (gates[2].layer, "gate-mixed"),
    ]


def test_a_layer_without_kernels_of_a_unit_is_planned_too() -> None:
    """As pruning leaves it: what another layer's unit decides says nothing about this one."""
    detector = network("two", "nested")
    gates = find_gates(detector.graph)
    multiplication = next(node for node in detector.graph.nodes if node.name == gates[1].multiply)
    [gather] = [tensor.inputs[0] for tensor in multiplication.inputs if tensor.name == gates[1].vector]
    own = gs.Variable("own", np.dtype(np.float32), gather.outputs[0].shape)
    unit_of = gs.Constant("own units", np.array([0, 0, 0, 2, 2, 2]))
    detector.graph.nodes.append(gs.Node("Gather", "own gather", {"axis": 1}, [gather.inputs[0], unit_of], [own]))
    multiplication.inputs = [own if tensor is gather.outputs[0] else tensor for tensor in multiplication.inputs]
    detector.graph.toposort()
    gates = find_gates(detector.graph)
    assert [gate.unit_of for gate in gates] == [(0, 0, 1, 1, 2, 2), (0, 0, 0, 1, 1, 1)]
    layers, _ = planned_layers(
        read_gated_network(detector.graph), gates, {gate.layer: np.ones((4, gate.kernels), np.bool_) for gate in gates}
    )
    (decision,), _ = shared_decisions(read_gated_network(detector.graph), layers)
    assert decision.sizes == ((2, 3), (4, 3), (6, 6))
    assert decision.sure == (False, False, True)


def test_gates_of_their_own_are_no_shared_decision() -> None:
    detector = Branching((Block("two", "nested", (0, 2, 0, 0)),), (WISH,), 5).build("on")
    gates = find_gates(detector.graph)
    active = {gate.layer: np.ones((4, gate.kernels), np.bool_) for gate in gates}
    layers, _ = planned_layers(read_gated_network(detector.graph), gates, active)
    assert shared_decisions(read_gated_network(detector.graph), layers) == ((), ())


def test_kernels_keep_their_places() -> None:
    """Only what is reordered must be able to follow; here an output pins it."""
    detector = network("two", "block")
    gates = find_gates(detector.graph)
    active = {gate.layer: np.ones((4, gate.kernels), np.bool_) for gate in gates}
    layers, _ = planned_layers(read_gated_network(detector.graph), gates, active)
    detector.graph.outputs.append(detector.graph.tensors()[gates[0].response])
    made = Branching((), (WISH,), 2, True)
    plans = [plan.model_copy(update={"order": (5, 4, 3, 2, 1, 0)}) for plan in made.plan(detector.graph)]
    pinned = read_gated_network(detector.graph)
    fixed, notes = fix_unmovable(pinned, layers, plans)
    assert notes == ()
    assert [each.movable for each in fixed] == [each.movable for each in layers]
    moved = [LayerPlan(layer=plan.layer, lowering="widths", order=plan.order, sizes=(2, 6)) for plan in plans]
    assert {note.code for note in fix_unmovable(pinned, layers, moved)[1]} == {"gate-order"}
