"""Refusals of TensorRT's ONNX parser and the first release that accepts, on networks small enough to read."""

from __future__ import annotations

import pytest
from parser_networks import RULES, X, network

from deploycc.parsers.support import Contract, Refusal, refusals
from deploycc.parsers.tensorrt_releases import numbers
from deploycc.target import contract, load


def tensorrt(version: str) -> Contract:
    """The ONNX parser of a release without its limit on opset and IR, so that only a rule can refuse."""
    return Contract("tensorrt-onnx", numbers(version), max_opset=99, max_ir=99, int64=numbers(version) >= (9, 0))


@pytest.mark.parametrize("case", RULES)
def test_a_rule_refuses_up_to_the_release_that_accepts(case: str) -> None:
    body, opset, reason, refusing, first = RULES[case]
    graph = network(body, opset)
    refused = [r for r in refusals(graph, tensorrt(refusing)) if reason in r.reason]
    assert refused, refusals(graph, tensorrt(refusing))
    if not first:
        assert {r.first_release for r in refused} == {None}
        return
    assert {r.first_release for r in refused} == {first}
    assert not [r for r in refusals(graph, tensorrt(first)) if reason in r.reason]


@pytest.mark.parametrize("case", RULES)
def test_a_refusal_names_a_node_or_tensor_of_the_network(case: str) -> None:
    body, opset, _, refusing, _ = RULES[case]
    graph = network(body, opset)
    known = {tensor.name for tensor in graph.tensors().values()} | {node.name for node in graph.nodes}
    found = refusals(graph, tensorrt(refusing))
    assert len(found) == len(set(found))
    for refusal in found:
        assert refusal.node in known
        assert refusal.reason
        assert refusal.source


def test_every_refused_node_is_named_not_only_the_first() -> None:
    graph = network(f"{X} => (float[1,4,8,8] y) {{ a = HardSwish (x)  b = Relu (a)  y = HardSwish (b) }}", 14)
    assert [r.node for r in refusals(graph, tensorrt("8.0"))] == ["a", "y"]


def test_nodes_inside_branches_are_named() -> None:
    body = (
        "(float[4] x, bool c) => (float[4] y) { y = If (c) <"
        "then_branch = t () => (float[4] p) { p = HardSwish (x) },"
        "else_branch = e () => (float[4] q) { q = Relu (x) }> }"
    )
    assert [(r.node, r.op) for r in refusals(network(body, 14), tensorrt("8.2"))] == [("p", "HardSwish")]


def test_a_constant_condition_is_accepted_from_7_1_on() -> None:
    body = (
        "(float[4] x) => (float[4] y) <bool[1] c = {1}> { y = If (c) <"
        "then_branch = t () => (float[4] p) { p = Relu (x) },"
        "else_branch = e () => (float[4] q) { q = Neg (x) }> }"
    )
    assert refusals(network(body), tensorrt("7.1")) == []
    assert [r.first_release for r in refusals(network(body), tensorrt("7.0"))] == ["7.1"]


def test_a_tensor_that_a_branch_reads_itself_reaches_its_nested_branches() -> None:
    body = (
        "(float[4] x, bool c, bool d) => (float[4] y) { y = If (c) <"
        "then_branch = t () => (float[4] p) { a = Identity (x)  p = If (d) <"
        "then_branch = u () => (float[4] r) { r = Relu (a) },"
        "else_branch = v () => (float[4] s) { s = Abs (a) }> },"
        "else_branch = e () => (float[4] q) { q = Neg (x) }> }"
    )
    assert refusals(network(body), tensorrt("8.2.1")) == []


def test_a_constant_node_counts_as_an_initialiser() -> None:
    body = f"{X} => (float[1,4,1,8] y) {{ a = Constant <value = int64[1] {{2}}> ()  y = ReduceSum (x, a) }}"
    assert refusals(network(body), tensorrt("8.0")) == []


def test_slicing_to_the_end_with_the_largest_int64_is_not_an_overflow() -> None:
    body = (
        f"{X} => (float[1,4,8,8] y) <int64[1] s = {{0}}, int64[1] e = {{9223372036854775807}}, int64[1] a = {{2}}>"
        " { y = Slice (x, s, e, a) }"
    )
    assert refusals(network(body), tensorrt("8.2")) == []


def test_opset_and_ir_above_the_stated_ones_are_refused_with_the_release_that_states_them() -> None:
    graph = network(f"{X} => (float[1,4,8,8] y) {{ y = Relu (x) }}", opset=17, ir=8)
    found = refusals(graph, contract(load("jetson-tx2-jp461")))
    assert [(r.op, r.first_release) for r in found] == [("opset", "8.4"), ("ir", "8.4")]
    assert "up to 13" in found[0].reason
    assert refusals(graph, contract(load("jetson-xavier-jp512"))) == []


def test_an_unknown_version_is_read_as_the_oldest_release() -> None:
    graph = network(f"{X} => (float[1,4,8,8] y) <float[1] s = {{0.1}}> {{ y = PRelu (x, s) }}", 9)
    assert refusals(graph, Contract("tensorrt-onnx")) == [
        Refusal(
            "y", "PRelu", "TensorRT 5.0 has no importer for PRelu", "6.0", "builtin_op_importers.cpp of onnx-tensorrt"
        )
    ]
