"""Which nodes a runtime computes in one launch."""

from __future__ import annotations

import onnx_graphsurgeon as gs
import pytest
from mutation import mutant
from published_networks.builder import Builder
from published_networks.mobile import NETSPRESSO
from published_networks.slim import SLIM

from deploycc.graph.cost import measure_cost
from deploycc.prediction import launches as module
from deploycc.prediction.launches import Fusion, Launch, launches
from deploycc.prediction.stacks import stacks

EVERYTHING = Fusion(
    frozenset({"Relu", "Clip"}), normalisation=True, residual=True, chains=True, siblings=True, concatenation=True
)
PLAIN = Fusion()


def block() -> gs.Graph:
    """A residual block, two branches side by side that are joined, and SiLU."""
    net = Builder("block", 16)
    x = net.conv(net.input, 8, 3)
    y = net.add(net.conv(net.conv(x, 8, 3), 8, 3, act=None), x, "Relu")
    joined = net.concat(net.conv(y, 4), net.conv(y, 12))
    return net.finish(net.act(net.conv(joined, 8, act=None), "swish"))


def names(found: list[Launch]) -> list[tuple[str, ...]]:
    return [launch.nodes for launch in found]


def test_nothing_is_merged_where_the_runtime_merges_nothing() -> None:
    graph = block()
    assert names(launches(graph, PLAIN)) == [(node.name,) for node in graph.nodes]


def test_a_convolution_takes_in_its_residual_and_activation_and_siblings_run_together() -> None:
    assert names(launches(block(), EVERYTHING)) == [
        ("conv_0", "relu_1"),
        ("conv_2", "relu_3"),
        ("conv_4", "add_5", "relu_6"),
        ("conv_7", "relu_8", "conv_9", "relu_10"),
        ("conv_12",),
        ("sigmoid_13", "mul_14"),
    ]


def test_an_activation_whose_input_others_read_stays_alone() -> None:
    net = Builder("two readers", 8)
    x = net.conv(net.input, 4, 3, act=None)
    graph = net.finish(net.add(net.act(x, "Relu"), net.pool(x, 3)))
    assert names(launches(graph, EVERYTHING)) == [("conv_0",), ("relu_1", "add_3"), ("maxpool_2",)]


def test_a_launch_counts_what_it_reads_once_and_what_stays_inside_not_at_all() -> None:
    _, _, residual, pair, *_ = launches(block(), EVERYTHING)
    elements = 8 * 16 * 16
    assert (residual.read, residual.written, residual.weights) == (2 * elements, elements, 8 * 8 * 9)
    assert (pair.read, pair.written, pair.kernels, pair.merged) == (elements, 2 * elements, 16, 2)


def test_sizes_of_a_convolution_and_of_a_matrix_product() -> None:
    net = Builder("sizes", 16)
    graph = net.finish(net.dense(net.depthwise(net.conv(net.input, 6, (1, 7), 2), 3), 10))
    conv, depthwise, matrix = launches(graph, EVERYTHING)
    assert (conv.pixels, conv.kernels, conv.depth, conv.window, conv.winograd) == (64, 6, 21, (1, 7), False)
    assert (depthwise.kind, depthwise.groups, depthwise.macs) == ("depthwise", 6, 64 * 6 * 9)
    assert (matrix.kind, matrix.pixels, matrix.kernels, matrix.depth) == ("matrix", 1, 10, 384)


def test_of_a_branch_the_costlier_side_is_launched() -> None:
    def side(kernels: int) -> gs.Graph:
        net = Builder("side", 8)
        x = net.conv(net.input, kernels, 3, act=None)
        return gs.Graph(net.nodes, [], [x])

    condition, result = gs.Variable("c", bool, ()), gs.Variable("r", None, (1, 4, 8, 8))
    node = gs.Node("If", "if", {"then_branch": side(2), "else_branch": side(4)}, [condition], [result])
    graph = gs.Graph([node], [condition], [result])
    (launch,) = launches(graph, EVERYTHING)
    assert launch.kernels == 4
    assert module.count_branches(graph) == 1


@pytest.mark.parametrize("fusion", [PLAIN, EVERYTHING, *(stack.merges for stack in stacks())])
@pytest.mark.parametrize("name", ["ResNet18", "MobileNetV3-small", "inception_v1"])
def test_merging_loses_no_macs_and_computes_no_node_twice(name: str, fusion: Fusion) -> None:
    graph = (NETSPRESSO | SLIM)[name]()
    found = launches(graph, fusion)
    computed = [node for launch in found for node in launch.nodes]
    assert sum(launch.macs for launch in found) == measure_cost(graph).macs
    assert len(computed) == len(set(computed))
    left = {node.op for node in graph.nodes} - {node.op for node in graph.nodes if node.name in set(computed)}
    assert left <= module.FREE | {"Concat"}


def test_a_merge_that_ignores_other_readers_would_be_noticed() -> None:
    wrong = mutant(module, "len(tensor.outputs) == 1 and id(tensor) not in outputs", "True")
    net = Builder("two readers", 8)
    x = net.conv(net.input, 4, 3, act=None)
    graph = net.finish(net.add(net.act(x, "Relu"), net.pool(x, 3)))
    assert names(wrong.launches(graph, EVERYTHING)) != names(launches(graph, EVERYTHING))
