"""Which layers of a network the planner may divide, move and join."""

from __future__ import annotations

import numpy as np
from gated_networks import KERNELS, Spelling, gated
from graph_text import run

from deploycc.documents.gate_plan import LayerPlan
from deploycc.gate_planning.layers import added_bytes_allowed, fix_unmovable, planned_layers
from deploycc.gate_planning.planner import plan_lowerings
from deploycc.gate_planning.savings import saved_by_kernels, saved_with_inputs
from deploycc.graph.branches.gated_network import read_gated_network
from deploycc.graph.cost import measure_cost, node_macs

ACTIVE = {"gated": np.random.default_rng(0).random((30, KERNELS)) < 0.5}


def test_a_gated_layer_and_the_one_behind_it() -> None:
    network = read_gated_network(gated(Spelling(layout="after-activation")).graph)
    layers, notes = planned_layers(network, network.gates, ACTIVE)
    assert notes == ()
    first, after = layers
    assert (first.name, first.gated, first.joins, first.divisible, first.movable) == ("gated", True, False, True, True)
    assert (after.gated, after.joins, after.movable) == (False, True, False)
    assert after.active.all()
    assert after.convolution.inputs == KERNELS
    assert first.map_elements == first.end_elements == 36
    assert first.start_elements == 4 * 36  # a convolution comes before it
    np.testing.assert_array_equal(first.active, ACTIVE["gated"])


def test_pooling_behind_the_gate_makes_the_end_smaller() -> None:
    network = read_gated_network(gated(Spelling(layout="pooled")).graph)
    (layer, *_), _ = planned_layers(network, network.gates, ACTIVE)
    assert (layer.map_elements, layer.end_elements) == (36, 9)


def test_an_order_that_cannot_be_is_taken_back() -> None:
    graph = gated(Spelling()).graph
    network = read_gated_network(graph)
    layers, _ = planned_layers(network, network.gates, ACTIVE)
    order = tuple(reversed(range(KERNELS)))
    moved = LayerPlan(layer="gated", lowering="widths", order=order, sizes=(4, KERNELS))
    fixed, notes = fix_unmovable(network, layers, [moved])
    assert notes == ()
    assert [each.movable for each in fixed] == [each.movable for each in layers]
    graph.outputs = [next(t for t in graph.tensors().values() if t.name == "y"), graph.outputs[0]]
    fixed, notes = fix_unmovable(read_gated_network(graph), layers, [moved])
    assert [note.code for note in notes] == ["gate-order"]
    assert not fixed[0].movable


def test_saved_operations() -> None:
    graph = gated(Spelling(layout="after-activation")).graph
    nodes = {node.name: node for node in graph.nodes}
    on = ACTIVE["gated"].mean(1)
    own = node_macs(nodes["gated"]) * (1 - on)
    np.testing.assert_allclose(saved_by_kernels(graph, ACTIVE), own, rtol=1e-12, atol=0)
    after = next(node for node in graph.nodes if node.outputs[0].name == "out")
    both = own + node_macs(after) * (1 - on)
    np.testing.assert_allclose(saved_with_inputs(read_gated_network(graph), ACTIVE), both, rtol=1e-12, atol=0)


def test_weights_that_branches_may_add() -> None:
    graph = gated(Spelling()).graph
    own = 4 * measure_cost(graph).params
    assert added_bytes_allowed(graph, 1.0) == own
    assert added_bytes_allowed(graph, 0.0) == 0.0
    assert own + added_bytes_allowed(graph, 1e9) < 2**31  # what protobuf can hold


def test_regions_that_fall_back_leave_no_trace() -> None:
    from planned_layers import layer, model, prefixes

    unit_of = tuple(k // 32 for k in range(64))
    layers = [
        layer("one", prefixes(100, 64, [32, 64]), unit_of=unit_of, nested=True),
        layer("tail", np.ones((100, 32), np.bool_), gated=False, joins=True, movable=False),
    ]
    planned = plan_lowerings(layers, model(layers, 1e-7), max_worst_case=2.0)
    assert [plan.lowering for plan in planned.layers()] == ["widths", "widths"]
    (left,) = planned.layers(instead={("one", "tail"): planned.simpler["one", "tail"]["multiply"]})
    assert (left.layer, left.lowering, left.order) == ("one", "multiply", tuple(range(64)))


def test_the_network_of_these_tests_runs() -> None:
    detector = gated(Spelling())
    assert np.isfinite(run(detector.graph, np.zeros((1, 3, 6, 6), np.float32))[0]).all()
