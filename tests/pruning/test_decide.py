"""Selected kernels, and how many of them stay."""

from __future__ import annotations

import numpy as np
import pytest
from channel_networks import ChannelNetwork
from examples import examples
from graph_text import network
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import channel_networks

from deploycc.errors import InputError
from deploycc.graph.channels.labels import channel_groups
from deploycc.pruning.decide import (
    Choice,
    bundles,
    by_mask,
    by_norm,
    by_utilisation,
    filter_norms,
    group_use,
    kept,
    kernels_of,
    round_up,
)

TEXT = """<ir_version: 8, opset_import: ["": 13]>
g (float[1,3,6,6] x, float[8,3,3,3] w1, float[8,8,1,1] w2, float[8,1,3,3] wd, float[6,8,1,1] w3, float[2,6,1,1] w4)
   => (float[1,2,6,6] y) {
  [conv1] c1 = Conv <pads = [1,1,1,1]> (x, w1)
  [relu1] r1 = Relu (c1)
  [conv2] c2 = Conv (r1, w2)
  [sum] s = Add (c2, r1)
  [dw] d = Conv <pads = [1,1,1,1], group = 8> (s, wd)
  [conv3] c3 = Conv (d, w3)
  [relu3] r3 = Relu (c3)
  [conv4] y = Conv (r3, w4)
}"""
"""Two layers whose outputs are added, then a depthwise one, another, and the output."""


def use(**values: list[float]) -> dict[str, np.ndarray]:
    return {name: np.array(each) for name, each in values.items()}


def test_utilisation_selects_kernels_below_the_threshold_in_allowed_layers() -> None:
    profile = use(conv1=[0.0, 0.04, 0.05, 0.9], conv3=[0.01, 1.0])
    assert by_utilisation(profile, 0.05, {"conv1", "conv3"}).kernels == {"conv1": (0, 1), "conv3": (0,)}
    assert by_utilisation(profile, 0.05, {"conv3"}).kernels == {"conv3": (0,)}
    assert by_utilisation(profile, 0.0, {"conv1", "conv3"}).kernels == {}


@pytest.mark.parametrize("wrong", [np.nan, -0.1, 1.1, np.inf])
def test_impossible_utilisation_is_refused(wrong: float) -> None:
    with pytest.raises(InputError) as raised:
        by_utilisation(use(conv1=[0.5, wrong]), 0.05, {"conv1"})
    assert raised.value.code == "prune-utilisation"
    assert "kernel 1 of layer conv1" in raised.value.message


def test_layers_that_add_up_are_one_bundle() -> None:
    groups = channel_groups(network(TEXT).graph)
    found = bundles(groups, groups.layers)
    assert [bundle.layers for bundle in found] == [("conv1", "conv2", "dw"), ("conv3",), ("conv4",)]
    assert [len(bundle.groups) for bundle in found] == [8, 6, 2]
    assert [bundle.layers for bundle in bundles(groups, {"conv3"})] == [("conv3",)]


def test_norms_are_those_of_the_filters() -> None:
    graph = network(TEXT).graph
    norms = filter_norms(graph, channel_groups(graph))
    sums = np.abs(graph.nodes[0].inputs[1].values.astype(np.float64)).sum((1, 2, 3))
    np.testing.assert_allclose(norms["conv1"], sums / sums.mean(), rtol=1e-12, atol=0)


def test_transposed_and_grouped_filters() -> None:
    graph = network(
        '<ir_version: 8, opset_import: ["": 13]>\n'
        "g (float[1,4,3,3] x, float[4,3,2,2] w1, float[6,4] w2, float[6] b) => (float[1,4] y) {\n"
        "[up] u = ConvTranspose <group = 2> (x, w1)\n [pool] p = GlobalAveragePool (u)\n [flat] f = Flatten (p)\n"
        "[fc] y = Gemm (f, w2)\n}".replace(", float[6] b", "")
    ).graph
    norms = filter_norms(graph, channel_groups(graph))
    w1, w2 = (np.abs(graph.tensors()[name].values.astype(np.float64)) for name in ("w1", "w2"))
    up = np.concatenate([w1[:2].sum((0, 2, 3)), w1[2:].sum((0, 2, 3))])  # three kernels of each half of the inputs
    np.testing.assert_allclose(norms["up"], up / up.mean(), rtol=1e-12, atol=0)
    np.testing.assert_allclose(norms["fc"], w2.sum(0) / w2.sum(0).mean(), rtol=1e-12, atol=0)


def test_norms_take_the_same_channels_of_all_layers_of_a_sum() -> None:
    graph = network(TEXT).graph
    groups = channel_groups(graph)
    choice = by_norm(graph, groups, 0.25, {"conv1", "conv2", "conv3", "dw"})
    norms = filter_norms(graph, groups)
    total = norms["conv1"] + norms["conv2"] + norms["dw"]
    two = tuple(sorted(np.argsort(total)[:2].tolist()))
    one = int(np.argmin(norms["conv3"]))
    assert choice.kernels == {"conv1": two, "conv2": two, "dw": two, "conv3": (one,)}
    assert "conv4" not in by_norm(graph, groups, 1.0, groups.layers).kernels  # its channels are outputs


def test_a_mask_is_limited_to_allowed_layers() -> None:
    graph = network(TEXT).graph
    choice = by_mask(graph, channel_groups(graph), {"conv1": (3, 1, 3), "conv3": (0,)}, {"conv1"})
    assert choice.kernels == {"conv1": (1, 3)}


def test_the_most_used_of_the_useless_are_kept() -> None:
    graph = network(TEXT).graph
    groups = channel_groups(graph)
    choice = by_utilisation(use(conv3=[0.01, 0.04, 0.5, 0.03, 0.02, 0.6]), 0.05, {"conv3"})
    able = groups.of_kernels(choice.kernels)
    (bundle,) = bundles(groups, {"conv3"})
    for multiple, going in {1: (0, 1, 3, 4), 3: (0, 3, 4), 4: (0, 4), 8: ()}.items():
        gone = round_up(groups, bundle, able, choice, multiple)
        assert kernels_of(groups, choice, gone).get("conv3", ()) == going
    assert group_use(groups, int(groups.layers["conv3"][1]), choice) == 0.04


def test_one_kernel_is_always_kept_and_it_is_the_most_used() -> None:
    graph = network(TEXT).graph
    groups = channel_groups(graph)
    choice = by_utilisation(use(conv3=[0.01, 0.04, 0.03, 0.02, 0.02, 0.02]), 0.05, {"conv3"})
    (bundle,) = bundles(groups, {"conv3"})
    gone = round_up(groups, bundle, groups.of_kernels(choice.kernels), choice, 1)
    assert kernels_of(groups, choice, gone) == {"conv3": (0, 2, 3, 4, 5)}


@settings(max_examples=examples(60))
@given(channel_networks(), st.sampled_from([1, 2, 3, 8]), st.integers(0, 2**16))
def test_no_layer_is_emptied_and_no_useful_channel_goes(made: ChannelNetwork, multiple: int, seed: int) -> None:
    groups = channel_groups(made.build())
    random = np.random.default_rng(seed)
    values = {name: random.random(len(own)) for name, own in groups.layers.items()}
    choice = Choice({name: tuple(np.flatnonzero(each < 0.8).tolist()) for name, each in values.items()}, values, "")
    able = groups.of_kernels(choice.kernels) - set(groups.pins)
    for bundle in bundles(groups, groups.layers):
        gone = round_up(groups, bundle, able, choice, multiple)
        assert gone <= able & bundle.groups
        counts = {name: kept(groups, name, gone) for name in bundle.layers}
        assert min(counts.values()) >= 1
        first = bundle.layers[0]
        assert counts[first] >= min(len(groups.layers[first]), multiple)
        least = kept(groups, first, able & bundle.groups)
        sizes = np.unique(groups.layers[first], return_counts=True)[1]
        if bundle.layers == (first,) and (sizes == 1).all() and least:
            rounded = -(-least // multiple) * multiple
            assert counts[first] == min(len(groups.layers[first]), rounded)
