"""Reordering kernels keeps the outputs and gives the requested order."""

from __future__ import annotations

import numpy as np
import pytest
from channel_networks import ChannelNetwork
from channel_removal import error
from examples import examples
from graph_text import network, run
from hypothesis import given, settings
from strategies import channel_networks

from deploycc.graph.channels.groups import layer_names
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.channels.reorder import reorder_kernels

NETWORK = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,6,6] x, float[4,3,3,3] w1, float[4] b1, float[4,1,3,3] wd, float[2,4,1,1] w2, float[4,3,1,1] w3)
  => (float[1,2,6,6] y{more}) {{
  [first] c = Conv <pads = [1,1,1,1]> (x, w1, b1)
  [beside] s = Conv (x, w3)
  [sum] a = Add (c, s)
  [dw] d = Conv <pads = [1,1,1,1], group = 4> (a, wd)
  [last] y = Conv (d, w2)
}}"""


@settings(max_examples=examples(60))
@given(channel_networks())
def test_outputs_stay(made: ChannelNetwork) -> None:
    graph = made.build()
    random = np.random.default_rng(made.seed)
    groups = channel_groups(graph)
    orders = {name: random.permutation(len(labels)).tolist() for name, labels in groups.layers.items()}
    before = {name: np.array(node.inputs[1].values) for node, name in layer_names(graph.nodes) if name in orders}
    expected = run(graph)
    kept = {note.node for note in reorder_kernels(graph, groups, orders)}
    assert error(run(graph), expected) <= 1.0
    for node, name in layer_names(graph.nodes):  # kernels may look different only in what they read
        if name in orders and name not in kept and node.op == "Conv":
            after = np.sort(node.inputs[1].values.reshape(len(orders[name]), -1))
            np.testing.assert_array_equal(after, np.sort(before[name].reshape(after.shape))[orders[name]])


def test_the_strategy_reaches_moved_kernels() -> None:
    moved: list[bool] = []

    @settings(max_examples=60, derandomize=True, database=None)
    @given(channel_networks())
    def collect(made: ChannelNetwork) -> None:
        graph = made.build()
        groups = channel_groups(graph)
        orders = {name: range(len(labels))[::-1] for name, labels in groups.layers.items()}
        moved.append(len(reorder_kernels(graph, groups, orders)) < len(orders))

    collect()
    assert np.mean(moved) > 0.3


def test_everything_that_reads_a_kernel_follows() -> None:
    graph = network(NETWORK.format(more="")).graph
    before = {
        name: np.array(tensor.values)
        for name, tensor in graph.tensors().items()
        if name in ("w1", "b1", "wd", "w2", "w3")
    }
    order = [2, 0, 3, 1]
    assert reorder_kernels(graph, channel_groups(graph), {"first": order}) == ()
    after = graph.tensors()
    for name in ("w1", "b1", "wd", "w3"):
        np.testing.assert_array_equal(after[name].values, before[name][order])
    np.testing.assert_array_equal(after["w2"].values, before["w2"][:, order])


@pytest.mark.parametrize(
    ("more", "orders", "layer", "reason"),
    [
        ("", {"first": [1, 0, 2, 3], "beside": [0, 1, 3, 2]}, "beside", "another gated layer makes the same channels"),
        (", float[1,4,6,6] a", {"first": [1, 0, 2, 3]}, "first", "an output of the network"),
        ("", {"last": [1, 0]}, "last", "an output of the network"),
    ],
)
def test_an_order_that_cannot_be_is_refused(more: str, orders: dict[str, list[int]], layer: str, reason: str) -> None:
    graph = network(NETWORK.format(more=more)).graph
    expected = run(graph)
    [note] = reorder_kernels(graph, channel_groups(graph), orders)
    assert (note.node, note.code) == (layer, "gate-order")
    assert reason in note.reason
    assert error(run(graph), expected) <= 1.0
