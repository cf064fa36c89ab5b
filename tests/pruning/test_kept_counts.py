"""How many kernels layers keep, by a simulated clock and by multiples."""

from __future__ import annotations

import numpy as np
import pytest
from graph_text import network

from deploycc.documents.costs import Convolution, Machine
from deploycc.graph.channels.labels import channel_groups
from deploycc.pruning.decide import by_mask, by_norm, by_utilisation, kernels_of
from deploycc.pruning.kept_counts import fastest_multiple, fixed_multiple
from deploycc.timing.convolutions import Costs

WIDE = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,6,6] x, float[8,3,3,3] w1, float[8,8,1,1] w2, float[40,8,1,1] w3, float[2,40,1,1] w4)
   => (float[1,2,6,6] y) {
  [conv1] c1 = Conv <pads = [1,1,1,1]> (x, w1)
  [conv2] c2 = Conv (c1, w2)
  [sum] s = Add (c2, c1)
  [conv3] c3 = Conv (s, w3)
  [relu3] r3 = Relu (c3)
  [conv4] y = Conv (r3, w4)
}"""


class Staircase(Costs):
    """Pretends that kernels are computed in blocks."""

    def __init__(self, block: int, noise: float = 0.0) -> None:
        super().__init__(Machine(processor="staircase", onnxruntime="none", threads=1))
        self.block, self.noise, self.asked = block, noise, list[Convolution]()

    def measure(self, convolutions: object) -> None:
        self.asked += convolutions  # type: ignore[operator]

    def samples_ms(self, convolution: Convolution) -> tuple[float, ...]:
        assert convolution in self.asked
        blocks = -(-convolution.kernels // self.block) * -(-convolution.inputs // self.block)
        off = any(count > 8 and count % self.block for count in (convolution.kernels, convolution.inputs))
        median = blocks * (1.5 if off else 1)
        return (1 - self.noise) * median, median, (1 + self.noise) * median


@pytest.mark.parametrize(
    ("block", "useful", "expected"),
    [
        (1, 11, (11, 1)),  # every kernel costs: the fewest
        (8, 11, (16, 16)),  # leaving the fast path costs more than five kernels
        (16, 11, (16, 16)),
        (8, 17, (24, 8)),
        (32, 17, (32, 16)),
        (32, 15, (32, 32)),  # seventeen more kernels cost less than leaving it
        (1, 31, (32, 16)),  # one kernel of 32 is not worth an odd count
    ],
)
def test_the_fastest_count_is_chosen(block: int, useful: int, expected: tuple[int, int]) -> None:
    graph = network(WIDE).graph
    groups = channel_groups(graph)
    values = np.where(np.arange(40) < useful, 0.5, np.arange(40) / 1000)
    choice = by_utilisation({"conv3": values}, 0.05, {"conv3"})
    able = groups.of_kernels(choice.kernels)
    costs = Staircase(block)
    gone, (decided,) = fastest_multiple(graph, groups, choice, able, {"conv3"}, costs)
    assert (decided.kept, decided.multiple) == expected
    assert (decided.before, decided.least, decided.layers) == (40, useful, ("conv3",))
    kept_kernels = sorted(set(range(40)) - set(kernels_of(groups, choice, gone)["conv3"]))
    extra = expected[0] - useful
    assert kept_kernels == [*range(useful), *range(40 - extra, 40)]  # the most used of the useless
    assert {each.kernels for each in costs.asked if each.inputs == 8 and each.groups == 1} == {
        each.inputs for each in costs.asked if each.kernels == 2
    }  # both who makes and who reads the channels is timed


@pytest.mark.parametrize(("noise", "expected"), [(0.1, 24), (0.2, 32)])
def test_overlapping_times_are_not_clearly_faster(noise: float, expected: int) -> None:
    graph = network(WIDE).graph
    groups = channel_groups(graph)
    values = np.where(np.arange(40) < 17, 0.5, np.arange(40) / 1000)
    choice = by_utilisation({"conv3": values}, 0.05, {"conv3"})
    able = groups.of_kernels(choice.kernels)
    _, (decided,) = fastest_multiple(graph, groups, choice, able, {"conv3"}, Staircase(8, noise))
    assert decided.kept == expected


def test_a_fixed_multiple_is_taken_everywhere() -> None:
    graph = network(WIDE).graph
    groups = channel_groups(graph)
    values = {"conv3": np.arange(40) / 1000, "conv1": np.zeros(8)}
    choice = by_utilisation(values, 0.025, {"conv3", "conv1"})
    able = groups.of_kernels({"conv3": choice.kernels["conv3"]})  # conv1's channels also come from conv2
    gone, (decided,) = fixed_multiple(groups, choice, able, {"conv3", "conv1"}, 8)
    assert (decided.layers, decided.least, decided.kept) == (("conv3",), 15, 16)
    assert kernels_of(groups, choice, gone) == {"conv3": tuple(range(24))}


@pytest.mark.parametrize(
    ("useful", "spare", "expected"),
    [
        (33, 1, 32),  # one more is dropped
        (33, 0, 40),  # there is none: up, to all there are
        (34, 1, 40),  # one does not make up for two
        (34, 2, 32),
        (35, 3, 40),  # more than a 16th of the layer
        (17, 1, 16),
        (32, 8, 32),
        (2, 2, 16),  # never to nothing
    ],
)
def test_a_few_spare_channels_make_a_multiple(useful: int, spare: int, expected: int) -> None:
    graph = network(WIDE).graph
    groups = channel_groups(graph)
    values = np.full(40, 0.5) + np.arange(40) / 100
    values[useful:] = 0.01
    values[useful - spare : useful] = 0.07 - np.arange(spare) / 1000  # the last of them is the least used
    choice = by_utilisation({"conv3": values}, 0.05, {"conv3"})
    assert choice.spare == ({"conv3": tuple(range(useful - spare, useful))} if spare else {})
    able, wider = groups.of_kernels(choice.kernels), choice.with_spare()
    going, (decided,) = fixed_multiple(groups, wider, able, {"conv3"}, 16, groups.of_kernels(choice.spare))
    assert (decided.least, decided.kept) == (useful, expected)
    if expected < useful:
        assert kernels_of(groups, wider, going)["conv3"] == tuple(range(expected, 40))


def test_of_norms_the_next_smallest_are_spare() -> None:
    graph = network(WIDE).graph
    weight = next(node for node in graph.nodes if node.name == "conv3").inputs[1].values
    weight[:] = 1 + np.arange(40)[:, None, None, None]
    groups = channel_groups(graph)
    choice = by_norm(graph, groups, 0.25, {"conv3"})
    assert choice.kernels == {"conv3": tuple(range(10))}
    assert choice.spare == {"conv3": (10, 11)}  # a 16th of the layer
    assert choice.with_spare().kernels == {"conv3": tuple(range(12))}
    assert by_norm(graph, groups, 0.0, {"conv3"}).spare == {}
    assert by_mask(graph, groups, {"conv3": (3,)}, {"conv3"}).spare == {}
