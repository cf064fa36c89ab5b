"""ONNX Runtime refuses what ONNX does not define, and nothing else."""

from __future__ import annotations

import pytest
from parser_networks import network

from deploycc.parsers.support import refusals
from deploycc.target import contract, load

CPU = contract(load("x86-cpu"))


@pytest.mark.parametrize(
    ("body", "opset", "reason"),
    [
        ("(float[4] x) => (float[4] y) { y = nowhere.Relu (x) }", 13, "its domain 'nowhere'"),
        ("(float[4] x) => (float[4] y) { y = Blur (x) }", 13, "ONNX has no operator Blur"),
        ("(float[4] x) => (float[4] y) { y = HardSwish (x) }", 13, "does not exist in opset 13"),
        ("(float[4] x) => (float[4] y) { y = Relu (x) }", 23, "supports up to 21"),
    ],
)
def test_onnx_runtime_refuses_what_onnx_does_not_define(body: str, opset: int, reason: str) -> None:
    found = refusals(network(body, opset), CPU)
    assert [reason in r.reason for r in found] == [True]
    assert found[0].first_release is None


def test_onnx_runtime_takes_its_own_and_the_networks_operators() -> None:
    assert refusals(network("(float[4] x) => (float[4] y) { y = com.microsoft.Gelu (x) }"), CPU) == []
    assert refusals(network("(float[n] x) => (float[n] y) { y = Relu (x) }"), CPU) == []
