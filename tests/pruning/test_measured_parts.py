"""Times of convolutions between the counts that were timed, by a simulated clock."""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from graph_text import network

from deploycc.documents.costs import Convolution, Machine
from deploycc.graph.channels.labels import channel_groups
from deploycc.pruning.measured_parts import MeasuredConvolution, measured_parts
from deploycc.timing.convolutions import Costs, own_share

CHAIN = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,6,6] x, float[64,3,3,3] w1, float[64,1,3,3] w2, float[40,64,1,1] w3, float[2,40,1,1] w4)
   => (float[1,2,6,6] y) {
  [conv1] c1 = Conv <pads = [1,1,1,1]> (x, w1)
  [depthwise] c2 = Conv <pads = [1,1,1,1], group = 64> (c1, w2)
  [conv3] c3 = Conv (c2, w3)
  [conv4] y = Conv (c3, w4)
}"""


class Products(Costs):
    """Pretends that a convolution takes as long as its channels multiplied, and so do those around it."""

    def __init__(self) -> None:
        super().__init__(Machine(processor="products", onnxruntime="none", threads=1))
        self.asked: list[Convolution] = []

    def measure(self, convolutions: object) -> None:
        self.asked += convolutions  # type: ignore[operator]

    def samples_ms(self, convolution: Convolution) -> tuple[float, ...]:
        assert convolution in self.asked
        whole = self.product(convolution) / own_share(convolution)
        return 1.5 * whole, whole, 2.0 * whole

    @staticmethod
    def product(c: Convolution) -> float:
        return float(c.kernels * c.inputs // c.groups)


def parts(costs: Costs, layers: tuple[str, ...]) -> dict[str, MeasuredConvolution]:
    graph = network(CHAIN).graph
    groups = channel_groups(graph)
    able = {group for layer in layers for group in groups.layers[layer].tolist()}
    found = measured_parts(graph, groups, able, 16, costs)
    names = {node.outputs[0].name: node.name for node in graph.nodes}
    return {names[part.tensors[1]]: part for part in found}


def test_the_least_sample_counts_and_times_between_are_interpolated() -> None:
    costs = Products()
    found = parts(costs, ("conv1", "conv3"))
    assert set(found) == {"conv1", "depthwise", "conv3", "conv4"}
    kept = np.array([[64, 40], [48, 40], [40, 16], [8, 8]])
    np.testing.assert_allclose(found["conv3"].costs(kept), kept.prod(axis=1), rtol=1e-9, atol=0)
    np.testing.assert_allclose(found["conv1"].costs(np.array([[1, 24]])), [72], rtol=1e-9, atol=0)  # x keeps all
    np.testing.assert_allclose(found["conv4"].costs(np.array([[10, 2]])), [20], rtol=1e-9, atol=0)
    np.testing.assert_allclose(found["depthwise"].costs(np.array([[20, 20]])), [20], rtol=1e-9, atol=0)
    assert {c.kernels for c in costs.asked if c.inputs == 64 and c.kernel == (1, 1)} == {16, 32, 40}
    assert all(c.groups in (1, c.inputs) for c in costs.asked)


def test_counts_of_narrow_layers_are_timed_where_a_search_may_take_them() -> None:
    """A kernel block of 16 takes as long for 8 kernels: half of the time of 16 would be believed otherwise."""

    class Blocks(Products):
        @staticmethod
        def product(c: Convolution) -> float:
            return float(math.ceil(c.kernels / 16) * math.ceil(c.inputs / c.groups / 16))

    text = CHAIN.replace("40", "24")
    graph = network(text).graph
    groups = channel_groups(graph)
    able = set(groups.layers["conv3"].tolist())
    conv3, _ = measured_parts(graph, groups, able, 16, Blocks())
    assert conv3.costs(np.array([[64, 24], [64, 16], [64, 8]])).tolist() == pytest.approx([8, 4, 4], rel=1e-9, abs=0)


@pytest.mark.parametrize(("builds", "missed"), [(False, 0), (True, 128)])
def test_sets_of_kernels_are_seen_where_timing_builds_nothing(builds: bool, missed: float) -> None:
    """Two threads share out sets of 64 kernels: what does not fill one takes its time all the same."""

    class Sets(Products):
        @staticmethod
        def product(c: Convolution) -> float:
            return 64.0 * math.ceil(c.kernels / 64) * c.inputs

    graph = network(CHAIN.replace("40", "256")).graph
    groups = channel_groups(graph)
    costs = Sets()
    costs.timer.builds = builds  # type: ignore[misc]
    conv3, _ = measured_parts(graph, groups, set(groups.layers["conv3"].tolist()), 16, costs)
    kept = np.array([[64, count] for count in (128, 144, 176, 192, 208, 240, 256)])
    right = np.array([128, 192, 192, 192, 256, 256, 256])
    wrong = np.abs(conv3.costs(kept) / 64 - right)
    assert wrong.sum() == pytest.approx(missed, rel=1e-9, abs=1e-9)


def test_only_what_may_shrink_is_timed() -> None:
    costs = Products()
    assert set(parts(costs, ("conv3",))) == {"conv3", "conv4"}
    assert {(c.inputs, c.kernels) for c in costs.asked} == {(64, 16), (64, 32), (64, 40), (16, 2), (32, 2), (40, 2)}


def test_noise_does_not_make_more_channels_faster() -> None:
    node = gs.Node("Conv", inputs=[gs.Variable("x")], outputs=[gs.Variable("y")])
    part = MeasuredConvolution(node, {64: 4.0}, {16: 1.0, 32: 3.5, 48: 3.0, 64: 4.0})
    times_ms = part.costs(np.array([[64, count] for count in (16, 32, 48, 64)]))
    assert times_ms.tolist() == pytest.approx([1.0, 3.0, 3.0, 4.0], rel=1e-9, abs=0)
