"""Written branches: what they compute, that they own what they read, and that constants are stored small."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from graph_text import run

from deploycc.graph.branches.writer import Writer, above, evaluated, largest
from deploycc.graph.export import to_onnx

X = np.arange(2 * 6 * 3 * 3, dtype=np.float32).reshape(2, 6, 3, 3)[:1]


def made(write: Callable[[Writer, gs.Variable], gs.Tensor], opset: int = 13) -> gs.Graph:
    """A network that computes what is written from x, [1, 6, 3, 3]."""
    x = gs.Variable("x", np.dtype(np.float32), [1, 6, 3, 3])
    graph = gs.Graph(inputs=[x], name="written", opset=opset, ir_version=8)
    graph.outputs = [write(Writer(graph), x)]
    graph.toposort()
    onnx.checker.check_model(to_onnx(graph), full_check=True)
    return graph


@pytest.mark.parametrize("opset", [9, 10, 13])
@pytest.mark.parametrize("channels", [[2, 3], [0, 1, 2], [4, 1], [3, 3, 0]])
def test_picked_channels(channels: list[int], opset: int) -> None:
    graph = made(lambda writer, x: writer.pick(x, channels), opset)
    np.testing.assert_array_equal(run(graph, X)[0], X[:, channels])
    in_a_row = channels == list(range(channels[0], channels[-1] + 1))
    assert [node.op for node in graph.nodes] == ["Slice" if in_a_row else "Gather"]


@pytest.mark.parametrize("opset", [9, 13])
def test_padding_appends_zeros(opset: int) -> None:
    graph = made(lambda writer, x: writer.pad(writer.cut(x, 0, 2), 5), opset)
    [padded] = run(graph, X)
    assert padded.shape == (1, 5, 3, 3)
    np.testing.assert_array_equal(padded[:, :2], X[:, :2])
    assert not padded[:, 2:].any()


@pytest.mark.parametrize("opset", [9, 13])
def test_an_element_is_a_scalar(opset: int) -> None:
    graph = made(lambda writer, x: writer.element("one", x, np.array([0, 4, 2, 1])), opset)
    [result] = run(graph, X)
    assert result.shape == ()
    assert result == X[0, 4, 2, 1]


def test_whole_tensors_are_left_alone() -> None:
    graph = gs.Graph(opset=13)
    writer, x = Writer(graph), gs.Variable("x", np.dtype(np.float32), [1, 6, 3, 3])
    assert writer.cut(x, 0, 6) is writer.pad(x, 6) is writer.pick(x, range(6)) is x
    assert graph.nodes == []


@pytest.mark.parametrize(
    ("limit", "op", "taken"), [(52, "Greater", True), (53, "Greater", False), (53, "GreaterOrEqual", True)]
)
def test_a_branch_is_taken_where_the_largest_element_passes(limit: int, op: str, taken: bool) -> None:
    def write(writer: Writer, x: gs.Variable) -> gs.Tensor:
        condition = above(writer, "yes", largest(writer, "most", x), np.float32(limit), op)
        assert condition.shape == []
        two = np.full((1, 1, 1, 1), 2, np.float32)
        [result] = writer.choose(
            "choose", condition, [x.shape],
            lambda inner: [inner.node("Mul", "doubled", [x, inner.constant("two", two)], x.shape)],
            lambda _: [x],
        )  # fmt: skip
        return result

    graph = made(write)
    np.testing.assert_array_equal(run(graph, X)[0], 2 * X if taken else X)
    [chosen] = [node for node in graph.nodes if node.op == "If"]
    assert [node.op for node in chosen.attrs["else_branch"].nodes] == [
        "Identity"
    ]  # a branch cannot return an outer tensor


def test_branches_of_another_shape_are_refused() -> None:
    yes = gs.Variable("yes", np.dtype(np.bool_), [])
    x = gs.Variable("x", np.dtype(np.float32), [1, 6, 3, 3])
    with pytest.raises(ValueError, match=r"a branch of choose returns \[1, 2, 3, 3\], not \[1, 6, 3, 3\]"):
        Writer(gs.Graph(opset=13)).choose("choose", yes, [x.shape], lambda inner: [inner.cut(x, 0, 2)], lambda _: [x])


def test_pasted_parts_share_neither_names_nor_constants() -> None:
    source = gs.Variable("in", np.dtype(np.float32), [1, 6, 3, 3])
    result = gs.Variable("out", np.dtype(np.float32), [1, 6, 3, 3])
    half = gs.Constant("half", np.full((1, 1, 1, 1), 0.5, np.float32))
    part = gs.Graph([gs.Node("Mul", "halve", {}, [source, half], [result])], [source], [result, source], opset=13)

    def write(writer: Writer, x: gs.Variable) -> gs.Tensor:
        once, same = writer.paste(part, {"in": x})
        assert same is x
        return writer.paste(part, {"in": once})[0]

    graph = made(write)
    np.testing.assert_array_equal(run(graph, X)[0], X / 4)
    names = [node.name for node in graph.nodes] + list(graph.tensors())
    assert len(set(names)) == len(names) == 2 + 5  # two nodes; x, two results, two constants


@pytest.mark.parametrize(("kind", "stored"), [("one number", 1), ("one a map", 6), ("any", 54)])
def test_constants_are_stored_as_small_as_they_are(kind: str, stored: int) -> None:
    values = {"one number": np.full(X.shape, 3, np.float32), "one a map": X[:, :, :1, :1] + 0 * X, "any": X}[kind]
    graph = gs.Graph(name="constant", opset=13)
    result = Writer(graph).spread("c", values)
    graph.outputs = [result]
    np.testing.assert_array_equal(evaluated(graph), values)
    assert (
        sum(np.size(t.values) for t in graph.tensors().values() if isinstance(t, gs.Constant) and "value" in t.name)
        == stored
    )
