"""The part of a network that depends on one decision: where it ends, and what cannot be put into branches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from branching_networks import Block, Branching, Wish
from graph_text import run

from deploycc.errors import Note
from deploycc.graph.branches.gated_network import read_gated_network
from deploycc.graph.branches.shared_part import (
    SharedPart,
    _nested,
    find_shared_part,
    kernels_asked,
    narrow_part,
    one_variant,
    vector_of,
)
from deploycc.graph.cost import measure_cost
from deploycc.graph.gates.fixed import with_gates_on
from deploycc.graph.gates.search import find_gates, gates_by_decision

ATOL = 1e-4


def network(*kinds: str, granularity: str = "nested", pattern: str = "random") -> gs.Graph:
    blocks = tuple(Block(kind, granularity, (0, 2, 0, 0)) for kind in kinds)
    return Branching(blocks, (Wish("widths", 0, False),), 5, True).build(pattern).graph  # type: ignore[arg-type]


def part_of(graph: gs.Graph) -> SharedPart:
    part = find_shared_part(read_gated_network(graph), find_gates(graph))
    assert isinstance(part, SharedPart)
    return part


def first(part: SharedPart, kernels: int) -> dict[str, np.ndarray]:
    return {gate.layer: np.arange(gate.kernels) < kernels for gate in part.gates}


def test_gates_are_put_together_by_their_decision() -> None:
    shared = find_gates(network("two", "one"))
    assert [len(each) for each in gates_by_decision(shared)] == [3]
    own = Branching((Block("two", "nested", (0, 2, 0, 0)),), (Wish("widths", 0, False),), 5).build("random")
    assert [len(each) for each in gates_by_decision(find_gates(own.graph))] == [1, 1]


def test_the_part_ends_where_all_channels_are_there_again() -> None:
    graph = network("two", "pooled")
    part = part_of(graph)
    assert [node.op for node in part.inside].count("Conv") == 6  # four gated ones, two heads
    assert {tensor.name for tensor in part.exits} == {tensor.name for tensor in graph.outputs}
    stem = next(node for node in graph.nodes if node.name.startswith("stem"))
    assert stem not in part.inside
    assert not [
        node for node in part.inside if node.op in ("GlobalAveragePool", "Greater")
    ]  # the decision stays outside
    vectors = {vector_of(gate) for gate in part.gates}
    assert vectors <= {tensor.name for tensor in part.body.inputs}


def test_what_lies_between_and_holds_no_switched_channel_is_in_it_too() -> None:
    graph = network("far", "one")
    names = [node.name for node in part_of(graph).inside]
    assert [name for name in names if name.startswith("far")]


def test_activations_behind_the_last_switched_channel_come_along() -> None:
    graph = network("two")
    [head] = graph.outputs
    relu = gs.Variable("clipped", np.dtype(np.float32), head.shape)
    graph.nodes.append(gs.Node("Relu", "behind", {}, [head], [relu]))
    graph.outputs = [relu]
    part = part_of(graph)
    assert [tensor.name for tensor in part.exits] == ["clipped"]


@pytest.mark.parametrize("granularity", ["nested", "block", "kernel"])
def test_one_variant_is_the_network_whose_other_kernels_are_zero(granularity: str) -> None:
    graph = network("depthwise", "two", granularity=granularity)
    part = part_of(graph)
    on = with_gates_on(graph, find_gates(graph))
    zeroed = on.copy()
    for gate in part.gates:
        node = next(node for node in zeroed.nodes if node.name == gate.multiply)
        mask = (np.arange(gate.kernels) < 4).astype(np.float32).reshape(1, -1, 1, 1)
        node.inputs = [next(t for t in node.inputs if t.name == gate.response), gs.Constant(f"{node.name} mask", mask)]
    zeroed.cleanup()
    x = np.random.default_rng(1).normal(size=graph.inputs[0].shape).astype(np.float32)
    narrow = one_variant(graph, part, first(part, 4))
    assert isinstance(narrow, gs.Graph)
    for got, expected in zip(run(narrow, x), run(zeroed, x), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=ATOL)
    assert measure_cost(narrow).macs < measure_cost(graph).macs
    assert not find_gates(narrow)


def test_the_first_of_nested_scores_is_the_largest_where_one_layer_has_them_all() -> None:
    """Two layers that each prove an order among their own scores prove none between them."""
    part = part_of(network("two"))
    assert _nested(part)
    apart = tuple(replace(each, score_of=own) for each, own in zip(part.comparisons, ((0, 1), (0, 2)), strict=True))
    assert not _nested(replace(part, comparisons=apart))
    assert not _nested(part_of(network("two", granularity="block")))


def test_which_kernels_a_branch_knows_one_of_to_be_on() -> None:
    comparison = replace(part_of(network("two")).comparisons[0], score_of=(0, 0, 2, 2))
    assert kernels_asked(comparison, {2}) == [2, 3]
    assert kernels_asked(comparison, {0, 2}) == [0, 1, 2, 3]
    assert kernels_asked(comparison, {1, 2}) == []  # perhaps another layer's
    assert kernels_asked(comparison, ()) == []


def test_layers_that_compare_the_score_in_other_ways_are_no_part() -> None:
    """The same numbers above another limit are other decisions."""
    graph = network("two")
    gates = find_gates(graph)
    nodes = {node.name: node for node in graph.nodes}
    multiplication = nodes[gates[1].multiply]
    [gather] = [tensor.inputs[0] for tensor in multiplication.inputs if tensor.name == gates[1].vector]
    greater = gather.i().i()
    above, vector = (
        gs.Variable("above", np.dtype(np.bool_), [1, 3, 1, 1]),
        gs.Variable("cast", np.dtype(np.float32), [1, 3, 1, 1]),
    )
    picked = gs.Variable("picked", np.dtype(np.float32), gather.outputs[0].shape)
    graph.nodes += [
        gs.Node("Greater", "other", {}, [greater.inputs[0], gs.Constant("limit", np.float32([0.25]))], [above]),
        gs.Node("Cast", "other cast", {"to": 1}, [above], [vector]),
        gs.Node("Gather", "other gather", {"axis": 1}, [vector, gather.inputs[1]], [picked]),
    ]
    multiplication.inputs = [picked if tensor is gather.outputs[0] else tensor for tensor in multiplication.inputs]
    graph.toposort()
    gates = find_gates(graph)
    assert [len(each) for each in gates_by_decision(gates)] == [2]
    refused = find_shared_part(read_gated_network(graph), gates)
    assert isinstance(refused, Note)
    assert (refused.node, refused.code) == (gates[0].layer, "gate-shape")


def test_a_layer_of_another_gate_among_them_is_refused() -> None:
    """The convolution of a layer with its own gate reads switched maps, so it would be inside the branches."""
    blocks = tuple(Block("two", "nested", (0, 2, 0, 0)) for _ in range(2))
    graph = Branching(blocks, (Wish("widths", 0, False),), 24, True).build("random").graph
    first_decision, second = gates_by_decision(find_gates(graph))
    refused = find_shared_part(read_gated_network(graph), first_decision)
    assert isinstance(refused, Note)
    assert (refused.node, refused.code) == (first_decision[0].layer, "gate-mixed")
    assert second[0].layer in refused.reason
    assert isinstance(find_shared_part(read_gated_network(graph), second), SharedPart)


def test_a_map_that_is_added_to_one_without_gate_keeps_its_channels() -> None:
    graph = network("residual")
    why = narrow_part(part_of(graph), first(part_of(graph), 2))
    assert isinstance(why, Note)
    assert one_variant(graph, part_of(graph), first(part_of(graph), 2)).code == "gate-not-narrowed"


def test_a_switched_map_that_is_an_output_is_refused() -> None:
    graph = network("two")
    gate = find_gates(graph)[1]
    multiplication = next(node for node in graph.nodes if node.name == gate.multiply)
    graph.outputs.append(multiplication.outputs[0])
    refused = find_shared_part(read_gated_network(graph), find_gates(graph))
    assert isinstance(refused, Note)
    assert (refused.node, refused.code) == (find_gates(graph)[0].layer, "gate-leaks")


def test_several_pictures_at_once_are_refused() -> None:
    graph = network("two")
    gates = find_gates(graph)
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Variable) and tensor.shape[2:] != [1, 1]:  # one decision for all of them
            tensor.shape = [2, *tensor.shape[1:]]
    refused = find_shared_part(read_gated_network(graph), gates)
    assert isinstance(refused, Note)
    assert refused.code == "gate-batch"
    assert "2 pictures at once" in refused.reason
