"""What branches ask of a gate: is one of these kernels on, which are, must all be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from branching_networks import Block, Branching, Wish
from graph_text import run

from deploycc.graph.branches.conditions import Decided, all_on, any_score_on, score_mask
from deploycc.graph.branches.writer import Writer
from deploycc.graph.gates.decision import Comparison
from deploycc.graph.gates.search import Gate, find_gates

SCORES = np.array([0.9, 0.5, 0.2, -0.1], np.float32)
SCORE_OF = (0, 0, 1, 1, 2, 3)
KERNELS = range(len(SCORE_OF))


def written(shape: Sequence[int], op: str = "Greater") -> tuple[Writer, Comparison]:
    """A graph whose input is the scores, above 0.5 or not below."""
    scores = gs.Variable("x", np.dtype(np.float32), list(shape))
    return Writer(gs.Graph(inputs=[scores], name="g", opset=13, ir_version=8)), Comparison(
        scores, op, np.float32(0.5), SCORE_OF
    )


def value(writer: Writer, tensor: gs.Tensor, shape: Sequence[int]) -> np.ndarray:
    writer.graph.outputs = [tensor]
    return run(writer.graph, SCORES.reshape(shape))[0]


@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 1, 1)])
@pytest.mark.parametrize(("op", "on"), [("Greater", {0}), ("GreaterOrEqual", {0, 1})])
def test_one_of_the_scores_is_on(shape: tuple[int, ...], op: str, on: set[int]) -> None:
    for asked in ({0}, {1}, {1, 2}, {0, 3}, {2, 3}):
        for nested in (False, True):  # these scores fall, as nested ones do
            writer, comparison = written(shape, op)
            flag = any_score_on(writer, "f", comparison, asked, nested=nested)
            assert value(writer, flag, shape).reshape(-1).tolist() == [bool(asked & on)], (asked, nested)


@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 1, 1)])
def test_the_mask_is_of_the_kernels_asked_for(shape: tuple[int, ...]) -> None:
    for kernels in (range(6), [1, 2], [4, 0, 2], [3]):
        writer, comparison = written(shape)
        mask = value(writer, score_mask(writer, "m", comparison, list(kernels)), shape)
        assert mask.shape == (1, len(kernels), 1, 1)
        assert mask.reshape(-1).tolist() == [float(SCORE_OF[kernel] == 0) for kernel in kernels]


def test_without_a_comparison_the_zeros_and_ones_are_asked() -> None:
    vector = gs.Variable("x", np.dtype(np.float32), [1, 4, 1, 1])
    for kernels, on in (([0, 1], True), ([2, 3], False)):
        writer = Writer(gs.Graph(inputs=[vector], name="g", opset=13, ir_version=8))
        decided = Decided(vector, None)
        assert value(writer, decided.any_on(writer, "f", kernels), (1, 4, 1, 1)).reshape(-1).tolist() == [on]
        assert (
            value(writer, decided.mask(writer, "m", kernels), (1, 4, 1, 1)).reshape(-1).tolist()
            == SCORES[kernels].tolist()
        )


def gate_of(granularity: str) -> Gate:
    """Six kernels, two a unit."""
    network = Branching((Block("one", granularity, (0, 2, 0, 0)),), (Wish("widths", 0, False),), 5).build("random")
    return find_gates(network.graph)[0]


@pytest.mark.parametrize(
    ("granularity", "kernels", "tested", "known"),
    [
        ("nested", [0, 1, 2, 3], [2, 3], True),  # a unit is on with all before it
        ("nested", [0, 1, 2, 3], [2, 4], True),
        ("nested", [0, 1, 2, 3], [0, 1, 2, 3], False),  # perhaps only the first is
        ("nested", [0, 1], [], False),
        ("first", [0, 1], [], True),  # always on
        ("first", [0, 1, 2], [], False),
        ("block", [2, 3], [2, 3], True),
        ("block", [2], [3], True),  # of one unit
        ("block", [2, 3, 4], [2, 3, 4], False),
        ("block", [2], [4], False),
        ("kernel", [2], [2], True),
        ("kernel", [2, 3], [2, 3], False),
    ],
)  # fmt: skip
def test_kernels_that_must_be_on(granularity: str, kernels: list[int], tested: list[int], known: bool) -> None:
    assert all_on(gate_of(granularity), kernels, tested) is known
