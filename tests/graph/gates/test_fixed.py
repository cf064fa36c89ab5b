"""Networks whose gates are removed or always on, with which timings compare."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
from branching_networks import Block, Branching
from gated_networks import DECISIONS, GROUPS, LAYERS, Spelling, gated
from numpy.typing import NDArray

from deploycc.errors import ModelError
from deploycc.graph.export import to_onnx
from deploycc.graph.gates.fixed import with_gates_on, without_gates
from deploycc.graph.gates.search import find_gates

SPELLINGS = [
    *(Spelling(decision=name) for name in DECISIONS),
    *(Spelling(layer=name) for name in LAYERS),
    *(Spelling(group=name) for name in GROUPS),
    Spelling(layout="before-bias"),
    Spelling(layout="after-batchnorm", product="where"),
]
X = np.random.default_rng(3).standard_normal((1, 3, 6, 6), np.float32)


def run(graph: object) -> NDArray[np.float32]:
    model = to_onnx(graph).SerializeToString()
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": X})[0]


@pytest.mark.parametrize("spelling", SPELLINGS, ids=str)
def test_both_compute_what_the_network_computes_with_every_kernel_on(spelling: Spelling) -> None:
    graph = gated(spelling).graph
    gates = find_gates(graph)
    before = run(graph)
    dense, on = without_gates(graph, gates), with_gates_on(graph, gates)
    np.testing.assert_allclose(run(on), run(dense), rtol=1e-5, atol=1e-5)
    assert find_gates(dense) == ()
    assert [gate.multiply for gate in find_gates(on)] == [gate.multiply for gate in gates]
    assert not {node.name for node in dense.nodes} & {name for gate in gates for name in gate.nodes}
    np.testing.assert_array_equal(run(graph), before)  # the original is not changed


def test_one_decision_for_several_layers_is_shifted_once() -> None:
    """Close biases keep their order, by which nested units are recognised."""
    made = Branching((Block("two", "nested", (0, 2, 0, 0)), Block("two", "nested", (0, 2, 0, 0))), (), 2, True)
    graph = made.build("random").graph
    gates = find_gates(graph)
    [decide] = [node for node in graph.nodes if node.name.startswith("decide")]
    decide.inputs[2].values = np.array([0.4001, 0.4, 0.3999], np.float32)
    on = with_gates_on(graph, gates)
    [shifted] = [node for node in on.nodes if node.name.startswith("decide")]
    assert len(gates) == 4
    np.testing.assert_allclose(shifted.inputs[2].values, [1000.4001, 1000.4, 1000.3999], rtol=0, atol=1e-4)
    assert {gate.granularity for gate in find_gates(on)} == {"nested"}


def test_some_kernel_is_off_in_the_networks_above() -> None:
    graphs = [gated(spelling).graph for spelling in SPELLINGS]
    pairs = [(run(graph), run(without_gates(graph, find_gates(graph)))) for graph in graphs]
    same = [np.allclose(gated_one, dense, rtol=1e-3, atol=1e-3) for gated_one, dense in pairs]
    assert sum(same) < len(SPELLINGS) / 2


def test_a_score_without_an_added_constant_is_named() -> None:
    graph = gated(Spelling()).graph
    gate = find_gates(graph)[0]
    with pytest.raises(ModelError, match="gated") as raised:
        with_gates_on(graph, [replace(gate, score="x")])
    assert raised.value.code == "gate-not-fixed"
