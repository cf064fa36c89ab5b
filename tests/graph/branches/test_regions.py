"""Regions: what of a network a branch may compute, how its gate decides, and what may be joined."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from gated_networks import DECISIONS, GROUPS, KERNELS, Spelling, gated, text_network

from deploycc.detector import Detector
from deploycc.errors import Note
from deploycc.graph.branches.gated_network import read_gated_network
from deploycc.graph.branches.regions import VECTOR, Region, find_span, joins, keeps_zero
from deploycc.graph.gates.search import find_gates

FIRST, LAST = "a = Conv<pads=[1,1,1,1]>(x, w_first)", "out = Conv(y, w_last)"
ALWAYS = 10.0  # a bias with which the sigmoid is near 1


def region_of(detector: Detector, layer: str = "gated") -> Region:
    region = read_gated_network(detector.graph).region(layer)
    assert isinstance(region, Region)
    return region


def test_the_product_stands_behind_what_keeps_zeros() -> None:
    region = region_of(gated(Spelling()))
    assert [node.op for node in region.body.nodes] == ["Conv", "Relu", "Mul"]
    assert [tensor.name for tensor in region.body.inputs] == ["a", VECTOR]
    assert (region.entry.name, region.exit.name, region.kernels) == ("a", "y", KERNELS)


def test_a_shift_behind_the_product_ends_the_region() -> None:
    region = region_of(gated(Spelling(layout="before-bias")))
    assert [node.op for node in region.inside] == ["Conv", "Mul"]


@pytest.mark.parametrize(
    ("line", "keeps"),
    [
        ("y = Relu(c)", True),
        ("y = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(c)", True),
        ("y = Sigmoid(c)", False),
        ("y = Add(c, b4)", False),
        ("y = Mul(c, b4)", True),
        ("y = Softmax<axis=1>(c)", False),
    ],
)
def test_what_keeps_zeros(line: str, keeps: bool) -> None:
    graph = text_network([FIRST, "c = Conv<pads=[1,1,1,1]>(a, w, b)", line, LAST]).graph
    [node] = [node for node in graph.nodes if node.outputs[0].name == "y"]
    assert keeps_zero(node, graph.opset) == keeps


@pytest.mark.parametrize("group", [None, *GROUPS])
@pytest.mark.parametrize("decision", DECISIONS)
def test_comparisons_are_followed_where_true_is_one(decision: str, group: str | None) -> None:
    spelling = Spelling(decision=decision, group=group)
    known = region_of(gated(spelling)).comparison
    assert (known is not None) == (decision in ("greater", "or-equal", "logit", "integer"))
    if known is not None:
        assert known.score_of == spelling.unit_of
        assert known.op == ("GreaterOrEqual" if decision == "or-equal" else "Greater")
        assert (known.scores.name, known.limit) == (("z", 0.0) if decision == "logit" else ("s", 0.5))


@pytest.mark.parametrize(("bias", "looks", "always"), [(ALWAYS, False, (0,)), (-ALWAYS, False, ()), (ALWAYS, True, ())])
def test_a_unit_that_looks_at_nothing_may_always_be_on(bias: float, looks: bool, always: tuple[int, ...]) -> None:
    row = np.random.default_rng(1).normal(size=(1, 3, 1, 1)).astype(np.float32)
    filters = np.repeat(row, 4, 0)
    filters[0] *= 2 * looks
    detector = gated(Spelling(group="gather"), {"w_out": filters, "b_gate": np.float32([bias, 0.5, -0.5, -1])})
    [gate] = find_gates(detector.graph)
    assert gate.always == always
    assert gate.granularity == ("nested" if always else "block")


def test_a_joined_gate_gives_its_vector_and_its_scores() -> None:
    region = region_of(gated(Spelling()))
    assert region.decision is not None
    assert region.comparison is not None
    assert [tensor.name for tensor in region.decision.outputs] == ["m", "s"]
    assert [tensor.name for tensor in region.decision.inputs] == ["a"]


def test_only_what_reads_the_maps_alone_is_joined() -> None:
    body = [FIRST, "c = Conv<pads=[1,1,1,1]>(a, w, b)", "y = Relu(c)", LAST]
    graph = text_network(body).graph
    convs = [node for node in graph.nodes if node.op == "Conv"]
    first, second, last = (read_gated_network(graph).region(node.name) for node in convs)
    assert isinstance(first, Region)
    assert isinstance(second, Region)
    assert isinstance(last, Region)
    assert joins(graph, first, second) == joins(graph, second, last) == ""
    assert "does not read" in joins(graph, first, last)
    graph.outputs.append(graph.tensors()["y"])
    assert "output of the network" in joins(graph, second, last)


def test_layers_of_other_types_are_refused() -> None:
    graph = gated(Spelling()).graph
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Variable):
            tensor.dtype = np.dtype(np.float16)
    found = find_span(graph, next(node for node in graph.nodes if node.name == "gated"), None)
    assert isinstance(found, Note)
    assert (found.code, found.reason) == ("gate-shape", "its maps are float16; only float32 networks are lowered")
