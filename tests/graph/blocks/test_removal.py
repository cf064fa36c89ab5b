"""Removing a block equals zeroing or bypassing it: on random networks, and with planted bugs that must show."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from channel_networks import ChannelNetwork
from channel_removal import NO_NETWORK, error
from examples import examples
from graph_text import network, run
from hypothesis import given, settings
from hypothesis import strategies as st
from mutation import mutant
from strategies import channel_networks

from deploycc.graph.blocks import removal, search
from deploycc.graph.blocks.search import Block
from deploycc.graph.channels.labels import channel_groups

MIXED = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,4,6,6] x, float[4,4,1,1] w1, float[3,4,1,1] w2, float[4,3,3,3] w3, float[7] s, float[7] t, float[7] m,
   float[7] v, float[5,7,1,1] w4, float[5] b4, float[5,1,3,3] w5, float[5,5,1,1] w6, float[5,5,3,3] w7,
   float[5,5,1,1] w8, float[2,5,3,3] w9) => (float[1,2,6,6] y) {
  [c1] a1 = Conv (x, w1)
  [r1] a2 = Relu (a1)
  [c2] a3 = Conv (x, w2)
  [r2] a4 = Relu (a3)
  [join] a5 = Concat <axis = 1> (a2, a4)
  [bn] a6 = BatchNormalization (a5, s, t, m, v)
  [c4] a7 = Conv (a6, w4, b4)
  [r4] a8 = Relu (a7)
  [dw] a9 = Conv <group = 5, pads = [1,1,1,1]> (a8, w5)
  [r5] b1 = Relu (a9)
  [pw] b2 = Conv (b1, w6)
  [r6] b3 = Relu (b2)
  [c7] b4_ = Conv <pads = [1,1,1,1]> (b3, w7)
  [sum] b5 = Add (b3, b4_)
  [c8] b6 = Conv (b5, w8)
  [c9] y = Conv <pads = [1,1,1,1]> (b6, w9)
}"""
"""Two branches that meet, with a shift before their reader, a depthwise pair, a residual branch and a plain layer."""
PADDED = MIXED.replace("float[5,7,1,1] w4", "float[5,7,3,3] w4").replace("Conv (a6", "Conv <pads = [1,1,1,1]> (a6")
"""The reader of the branches pads, so that it cannot do without channels that hold a constant."""
ROWS = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,4,6,6] x, float[4,4,1,1] w1, float[4,4,1,1] w2, float[2,4,1,1] w3) => (float[1,2,6,6] y, float[1,4,6,6] z) {
  [c1] a1 = Conv (x, w1)
  [c2] z = Conv (x, w2)
  [join] a2 = Concat <axis = 2> (a1, z)
  [pool] a3 = MaxPool <kernel_shape = [2,1], strides = [2,1]> (a2)
  [c3] y = Conv (a3, w3)
}"""
"""Rows are concatenated, not channels, and one branch is an output too."""
SHARED = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,4,6,6] x, float[4,4,3,3] w1, float[3,4,1,1] w2, float[2,7,1,1] w3, float[2,4,1,1] w4)
   => (float[1,2,6,6] y, float[1,2,6,6] z) {
  [twin] a1 = Conv <pads = [1,1,1,1]> (x, w1)
  [twin] a2 = Conv (x, w2)
  [] a3 = Concat <axis = 1> (a1, a2)
  [] y = Conv (a3, w3)
  [] z = Conv (a1, w4)
}"""
"""One branch has another reader, and two layers have one name."""
TEXTS = {"mixed": MIXED, "padded": PADDED, "rows": ROWS, "shared": SHARED}
JOINS = ("concat", "meet", "residual", "conv_relu", "conv", "depthwise", "bn", "affine")


@pytest.fixture(scope="module")
def graphs() -> dict[str, gs.Graph]:
    variances = {"v": np.array([1.0, 2, 0.5, 1, 3, 1, 0.2], np.float32)}
    return {name: network(text, variances if "float[7] v" in text else {}).graph for name, text in TEXTS.items()}


def without(graph: gs.Graph, block: Block) -> gs.Graph:
    """The reference: readers see zeros in the place of a branch, and its source in the place of an identity."""
    copy = graph.copy()
    tensors = copy.tensors()
    old = tensors[block.tensor]
    zeros = gs.Constant("zeros_for_a_block", np.zeros(old.shape, np.float32))
    new = tensors[block.source] if block.kind == "identity" else zeros
    for reader in list(old.outputs):
        reader.inputs = [new if tensor is old else tensor for tensor in reader.inputs]
    return copy.cleanup().toposort()


def removals(
    graph: gs.Graph, finder: ModuleType = search, remover: ModuleType = removal
) -> Iterator[tuple[Block, float]]:
    """Every block that could go, and its error in units of the tolerance; infinite where layers lost other kernels."""
    groups = channel_groups(graph)
    for block in finder.find_blocks(graph, groups):
        small = graph.copy()
        lost = remover.remove_block(small, block.key)
        if lost is None:
            assert len(small.nodes) == len(graph.nodes)
            assert error(run(small), run(graph)) == 0
            continue
        left = {name: len(labels) for name, labels in channel_groups(small).layers.items()}
        told = {name: len(labels) - len(lost.get(name, ())) for name, labels in groups.layers.items()}
        agreed = {name: count for name, count in told.items() if count} == left
        yield block, error(run(small), run(without(graph, block))) if agreed else np.inf


@settings(max_examples=examples(6))
@given(st.one_of(channel_networks(*JOINS), channel_networks()))
def test_removed_equals_zeroed_or_bypassed(made: ChannelNetwork) -> None:
    for block, worst in removals(made.build()):
        assert worst <= 1.0, block


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        (
            "mixed",
            "identity a2 c1; concat a2 c1; concat a4 c2; identity b3 dw pw; sum b4_ c7; identity b6 c8",
        ),
        ("padded", "identity a2 c1; identity b3 dw pw; sum b4_ c7; identity b6 c8"),
        ("rows", ""),
        ("shared", "identity a1 a1; concat a2 a2"),
    ],
)
def test_the_blocks_of_networks(name: str, blocks: str, graphs: dict[str, gs.Graph]) -> None:
    found = list(removals(graphs[name]))
    listed = [f"{block.kind} {block.tensor} {' '.join(block.layers)}" for block, _ in found]
    assert sorted(listed) == sorted(filter(None, blocks.split("; ")))
    assert all(worst <= 1.0 for _, worst in found)


def test_one_block_after_another_goes(graphs: dict[str, gs.Graph]) -> None:
    small = graphs["mixed"].copy()
    reference = graphs["mixed"].copy()
    for block in search.find_blocks(small, channel_groups(small)):
        if block.kind != "concat" and removal.remove_block(small, block.key) is not None:
            reference = without(reference, block)
    assert [node.name for node in small.nodes if node.op == "Conv"] == ["c2", "c4", "c9"]
    assert error(run(small), run(reference)) <= 1.0
    again = search.find_blocks(graphs["mixed"], channel_groups(graphs["mixed"]))
    assert all(removal.remove_block(small, block.key) is None for block in again if block.tensor in ("b3", "b6"))


def fails(graph: gs.Graph, finder: ModuleType, remover: ModuleType) -> bool:
    try:
        return any(worst > 1.0 for _, worst in removals(graph, finder, remover))
    except (*NO_NETWORK, AssertionError, KeyError, IndexError, ValueError, RuntimeError):
        return True


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        (search, "if sole_reader(graph, side) is not join or", "if"),
        (removal, "going <= removable(graph, groups, constants).groups and not", "not"),
        (removal, "groups, going, constants).layers", "groups, going).layers"),
        (removal, "join.inputs.pop(position)", "join.inputs.pop(0)"),
        (removal, "join.inputs[position] = tensor\n", "pass\n"),
        (removal, "bypass(graph, join, others[0])", "bypass(graph, join, tensor)"),
        (removal, "        node.name = name\n", "        pass\n"),
    ],
)
def test_planted_bugs_are_noticed(module: ModuleType, old: str, new: str, graphs: dict[str, gs.Graph]) -> None:
    broken = mutant(module, old, new)
    finder, remover = (broken, removal) if module is search else (search, broken)
    assert any(fails(graph, finder, remover) for graph in graphs.values())
