"""Intermediate tensors of a network, and the target of a layer whose gate became a constant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gated_networks import KERNELS, LAYOUTS, Spelling, gated
from graph_text import RTX, network, picture, run

from deploycc.errors import MeasureError
from deploycc.graph.gates.search import find_gates
from deploycc.passes.fold_affine import fold_affine
from deploycc.passes.fold_gates import replace_gates
from deploycc.passes.options import Options
from deploycc.pruning.responses import Responses, frontier, target_of

RTOL, ATOL = 1e-4, 1e-5

CHAIN = """<ir_version: 8, opset_import: ["" : 13]>
chain (float[1,2,4,4] x, float[3,2,1,1] v, float[2,3,1,1] w) => (float[1,2,4,4] z) {
 a = Conv(x, v)
 b = Relu(a)
 c = Conv(b, w)
 z = Add(c, x)
}"""


@pytest.mark.parametrize("start", [(), ("a",), ("b", "c"), ("z",)])
def test_known_tensors_are_not_computed_again(start: tuple[str, ...]) -> None:
    graph = network(CHAIN).graph
    x = picture(graph)
    whole = Responses("chain", graph, ["a", "b", "c", "z"]).run({"x": x}, 0)
    np.testing.assert_allclose(whole["z"], run(graph, x)[0], rtol=RTOL, atol=ATOL)
    part = Responses("chain", graph, ["z", "b"], start)
    known = {"x": x, **whole}
    got = part.run({name: known[name] for name in part.inputs}, 0)
    np.testing.assert_allclose(got["z"], whole["z"], rtol=RTOL, atol=ATOL)
    np.testing.assert_allclose(got["b"], whole["b"], rtol=RTOL, atol=ATOL)


def test_the_frontier_is_minimal() -> None:
    graph = network(CHAIN).graph
    assert frontier(graph, ["z"], ()) == {"x"}
    assert frontier(graph, ["c"], ("a", "b")) == {"b"}
    assert frontier(graph, ["z"], ("a", "c")) == {"c", "x"}
    assert frontier(graph, ["x"], ("a",)) == {"x"}


def test_numbers_that_are_not_finite_are_refused() -> None:
    graph = network(CHAIN, {"w": np.full((2, 3, 1, 1), np.nan, np.float32)}).graph
    step = Responses("chain", graph, ["c"])
    with pytest.raises(MeasureError, match="response-not-finite") as caught:
        step.run({"x": picture(graph)}, 6)
    assert caught.value.context == {"picture": "number 7", "tensor": "c"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_target_of_a_folded_layer_includes_its_gate(layout: str) -> None:
    """With one picture's decisions as coefficients, the folded network answers exactly so on that picture."""
    found = gated(Spelling(layout=layout), seed=3)
    original = fold_affine(replace(found, graph=found.graph.copy()), Options(RTX)).detector
    (gate,) = find_gates(original.graph)
    x = picture(original.graph, seed=5)
    decided = Responses("n", original.graph, [gate.vector]).run({"x": x}, 0)[gate.vector].reshape(-1)
    assert 0 < decided.sum() < KERNELS
    folded = replace(original, graph=original.graph.copy())
    replace_gates(folded, (gate,), {gate.layer: decided.astype(np.float64)})
    folded = fold_affine(folded, Options(RTX)).detector
    target = target_of(original.graph, folded.graph, gate.layer, (1, 4), gate)
    assert not isinstance(target, str)
    wanted = target.values(Responses("n", original.graph, target.tensors).run({"x": x}, 0))
    conv = next(node for node in folded.graph.nodes if node.name == gate.layer)
    name = conv.outputs[0].name
    answer = Responses("n", folded.graph, [name]).run({"x": x}, 0)[name][0]
    np.testing.assert_allclose(wanted, np.delete(answer, (1, 4), axis=0), rtol=RTOL, atol=ATOL)


def test_a_layer_that_the_original_lacks_has_no_target() -> None:
    graph = network(CHAIN).graph
    assert "no such layer" in str(target_of(graph, graph, "elsewhere", (), None))
