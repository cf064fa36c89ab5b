"""Parts of networks: cut out, and narrowed to the channels that are there."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from gated_networks import text_network
from graph_text import run

from deploycc.errors import Note
from deploycc.graph.branches.narrowed_part import narrowed, part_of

BODY = ["a = Conv<pads=[1,1,1,1]>(x, w_first)", "c = Conv<pads=[1,1,1,1]>(a, w, b)", "y = Relu(c)", "out = Conv(y, w_last)"]  # fmt: skip
RTOL, ATOL = 1e-5, 1e-6


def part(source: str, result: str) -> gs.Graph:
    graph = text_network(BODY).graph
    tensors = graph.tensors()
    names = ["x", "a", "c", "y", "out"]
    inside = names[names.index(source) + 1 : names.index(result) + 1]
    nodes = [node for node in graph.nodes if node.outputs[0].name in inside]
    found = part_of(graph, nodes, [tensors[source]], tensors[result])
    found.ir_version = graph.ir_version
    return found


def test_a_part_computes_what_the_network_does() -> None:
    x = np.random.default_rng(0).normal(size=(1, 3, 6, 6)).astype(np.float32)
    whole = text_network(BODY).graph
    [middle] = run(part("x", "a"), x)
    np.testing.assert_allclose(run(part("a", "out"), middle)[0], run(whole, x)[0], rtol=RTOL, atol=ATOL)


def test_a_part_that_reads_something_else_is_refused() -> None:
    graph = text_network(BODY).graph
    tensors = graph.tensors()
    with pytest.raises(ValueError, match="reads a from outside the part"):
        part_of(graph, [node for node in graph.nodes if node.outputs[0].name == "c"], [tensors["x"]], tensors["c"])


def test_channels_that_are_zero_are_not_read() -> None:
    whole = part("a", "out")
    a = np.random.default_rng(0).normal(size=(1, 4, 6, 6)).astype(np.float32)
    kept = np.array([True, False, True, False])
    narrow = narrowed(whole, {"a": kept})
    assert isinstance(narrow, gs.Graph)
    assert list(narrow.inputs[0].shape) == [1, 2, 6, 6]
    expected = run(whole, a * kept.reshape(1, 4, 1, 1).astype(np.float32))[0]
    np.testing.assert_allclose(run(narrow, a[:, kept])[0], expected, rtol=RTOL, atol=ATOL)
    assert list(whole.inputs[0].shape) == [1, 4, 6, 6]


def test_a_channel_that_does_not_stay_zero_is_said() -> None:
    """A shift after the missing channel makes it differ from the zeros that replace it."""
    graph = text_network(["a = Conv<pads=[1,1,1,1]>(x, w_first)", "y = Add(a, b4)", "out = Conv(y, w_last)"],
                         values={"b4": np.ones((1, 4, 1, 1), np.float32), "w_last": np.ones((2, 4, 1, 1), np.float32)}).graph  # fmt: skip
    tensors = graph.tensors()
    [add] = [node for node in graph.nodes if node.op == "Add"]
    note = narrowed(part_of(graph, [add], [tensors["a"]], tensors["y"]), {"a": np.array([True, True, False, True])})
    assert isinstance(note, Note)
    assert note.code == "channel-constant"
