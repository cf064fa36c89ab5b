"""Possible values always include the actual values."""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from examples import examples
from gated_networks import Spelling, gated, text_network
from graph_text import picture, run
from hypothesis import given, settings
from strategies import gate_spellings

from deploycc.graph.gates.value_sets import possible_values


@given(gate_spellings())
@settings(max_examples=examples(40))
def test_no_value_lies_outside(spelling: Spelling) -> None:
    detector = gated(spelling)
    graph = detector.graph.copy()
    results = [out for node in graph.nodes for out in node.outputs]
    predicted = [possible_values(tensor) for tensor in results]
    graph.outputs = results
    for seed in range(3):
        values = run(graph, 3 * picture(detector.graph, seed))
        for tensor, value, possible in zip(results, values, predicted, strict=True):
            found = np.unique(value.astype(np.float64))
            assert possible.low <= found.min(), tensor.name
            assert found.max() <= possible.high, tensor.name
            assert possible.points is None or set(found) <= possible.points, tensor.name


def values_of(*lines: str) -> object:
    """Return the possible values of tensor ``r`` of the last line; p is anything, s lies in 0..1, o is a decision."""
    body = [
        "a = Conv<pads=[1,1,1,1]>(x, w_first)",
        "p = GlobalAveragePool(a)",
        "s = Sigmoid(p)",
        "o = Greater(p, f_zero)",
    ]
    graph = text_network([*body, "g = Cast<to=1>(o)", *lines, "y = Conv(a, w)", "out = Conv(y, w_last)"]).graph
    tensor: gs.Tensor = graph.tensors()["r"]
    found = possible_values(tensor)
    return set(found.points) if found.points is not None else (found.low, found.high)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["r = Relu(p)"], (0, math.inf)),
        (["r = Neg(s)"], (-1, 0)),
        (["r = Tanh(p)"], (-1, 1)),
        (["r = Clip(p, f_zero, f_two)"], (0, 2)),
        (["r = Clip(p, , f_two)"], (-math.inf, 2)),
        (["r = Sign(p)"], {-1, 0, 1}),
        (["r = Sign(s)"], {0, 1}),
        (["r = Floor(s)"], {0, 1}),
        (["r = Ceil(s)"], {0, 1}),
        (["r = Round(p)"], (-math.inf, math.inf)),
        (["t = Mul(s, f_two)", "r = Round(t)"], {0, 1, 2}),
        (["r = Sub(f_one, g)"], {0, 1}),
        (["r = Mul(g, s)"], (0, 1)),
        (["r = Add(g, g)"], {0, 1, 2}),
        (["r = Div(g, f_two)"], {0, 0.5}),
        (["r = Div(f_two, g)"], (-math.inf, math.inf)),
        (["r = Max(g, s)"], (0, 1)),
        (["r = Sub(p, p)"], (-math.inf, math.inf)),
        (["r = Concat<axis=1>(g, s)"], (0, 1)),
        (["r = Where(o, f_two, f_half)"], {2, 0.5}),
        (["r = Where(o, s, f_two)"], (0, 2)),
        (["n = Not(o)", "r = And(n, o)"], {0, 1}),
        (["t = Greater(s, f_two)", "r = Cast<to=1>(t)"], {0}),
        (["t = GreaterOrEqual(s, f_zero)", "r = Cast<to=1>(t)"], {1}),
        (["t = Less(s, f_zero)", "r = Cast<to=1>(t)"], {0}),
        (["t = LessOrEqual(s, f_zero)", "r = Cast<to=1>(t)"], {0, 1}),
        (["t = Equal(s, f_two)", "r = Cast<to=1>(t)"], {0}),
        (["t = Sub(s, f_half)", "r = Cast<to=6>(t)"], {0}),
        (["r = Cast<to=9>(s)"], {0, 1}),
        (["r = ReduceMax<axes=[1]>(g)"], {0, 1}),
        (["r = ReduceMean<axes=[1]>(g)"], (-math.inf, math.inf)),
    ],
)
def test_rules(lines: list[str], expected: object) -> None:
    assert values_of(*lines) == expected
