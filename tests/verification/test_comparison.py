from __future__ import annotations

import math

import numpy as np
import pytest
from graph_text import network

from deploycc.verification.comparison import (
    comparable_tensors,
    first_not_finite,
    has_thresholds,
    largest_difference,
    not_finite,
)

HEAD = '<ir_version: 8, opset_import: ["": 13]>'


def test_outputs_are_compared_and_numbers_before_a_choice_instead_of_what_is_chosen() -> None:
    text = f"""{HEAD} g (float[1,8] x, int64[1] k, float[8,8] w) => (float[1,3] best, int64[1,3] which, float[1,8] a)
    {{ a = Relu (x)  m = MatMul (a, w)  best, which = TopK (m, k) }}"""
    assert sorted(comparable_tensors(network(text, {"k": np.array([3])}).graph)) == ["a", "m"]


@pytest.mark.parametrize(("op", "expected"), [("Greater", True), ("Add", False)])
def test_thresholds(op: str, expected: bool) -> None:
    kind = "bool" if op == "Greater" else "float"
    graph = network(f"{HEAD} g (float[1,8] x, float[8] b) => ({kind}[1,8] y) {{ y = {op} (x, b) }}").graph
    assert has_thresholds(graph) == expected


def test_a_difference_is_a_share_of_the_largest_value() -> None:
    reference = {"a": np.array([[1.0, -4.0]], np.float32), "b": np.array([8.0], np.float32)}
    other = {"a": np.array([1.0, -3.0], np.float32), "b": np.array([9.0], np.float32), "c": np.array([5.0])}
    worst = largest_difference(reference, other)
    assert (worst.output, worst.share) == ("a", 0.25)


@pytest.mark.parametrize(
    ("reference", "other", "share"),
    [
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 0.0], [0.0, 1e-9], math.inf),  # nothing to measure it by
        ([1.0, 2.0], [1.0, 2.0, 3.0], math.inf),
        ([1.0, math.inf], [1.0, math.inf], 0.0),
        ([1.0, 2.0], [1.0, math.nan], math.inf),
        ([math.nan, 2.0], [math.nan, 1.0], 0.5),
    ],
)
def test_shapes_zeros_and_numbers_that_are_not_finite(reference: list[float], other: list[float], share: float) -> None:
    assert largest_difference({"a": np.array(reference)}, {"a": np.array(other)}).share == share


def test_nothing_in_common_is_no_difference() -> None:
    worst = largest_difference({"a": np.zeros(1)}, {"b": np.ones(1)})
    assert (worst.output, worst.share) == ("", 0.0)


def test_not_finite() -> None:
    values = {"a": np.array([1, 2]), "b": np.array([1.0, math.nan, math.inf]), "c": np.array([math.inf])}
    assert not_finite(values) == ["b", "c"]
    assert first_not_finite(values.items()) == ("b", 2, 3)
    assert first_not_finite([("a", values["a"])]) is None
