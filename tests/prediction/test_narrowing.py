"""Launches with fewer channels, against the prediction of the network without those channels."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from mutation import mutant
from published_networks.builder import Builder

from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.channels.removal import remove_channels
from deploycc.prediction import narrowing
from deploycc.prediction.network import predict_network
from deploycc.prediction.stacks import basis_for
from deploycc.target import load

EXACT = 1e-4  # of the time saved: biases do not shrink with the inputs
BASIS = basis_for(load("jetson-tx2-jp461"), "fp16")


def network() -> gs.Graph:
    """Siblings, a concatenation, a depthwise convolution, a residual, pooling."""
    net = Builder("mixed", 32)
    x = net.pool(net.conv(net.input, 48, 3), 2, 2)
    left, right = net.conv(x, 40), net.conv(x, 24)
    joined = net.concat(left, net.conv(right, 64, 3))
    y = net.conv(net.depthwise(joined), 96)
    z = net.add(net.conv(net.conv(y, 33, 3), 96, act=None), y)
    return net.finish(net.conv(z, 12, act=None))


GRAPH = network()
GROUPS = channel_groups(GRAPH)
CHANNELS = {name: len(labelled.groups) for name, labelled in GROUPS.tensors.items()}


def difference(seed: int, launches: list[narrowing.NarrowedLaunch]) -> float:
    """How far the time that random channels save is from that of the network without them."""
    random = np.random.default_rng(seed)
    gone = [int(group) for group in GROUPS.free if random.random() < 0.4]
    small = GRAPH.copy()
    remove_channels(small, GROUPS, gone)
    saved_ms = 0.0
    for launch in launches:
        full = [CHANNELS.get(name, 1) for name in launch.tensors]
        kept = [
            int((~np.isin(GROUPS.tensors[name].groups, gone)).sum()) if name in CHANNELS else 1
            for name in launch.tensors
        ]
        before, after = launch.costs(np.array([full, kept]))
        saved_ms += float(before - after)
    expected = predict_network(GRAPH, BASIS, "fp16").time.ms - predict_network(small, BASIS, "fp16").time.ms
    assert expected > 0.005
    return abs(saved_ms / expected - 1)


def test_the_time_saved_is_that_of_the_network_without_the_channels() -> None:
    launches = narrowing.narrowed_launches(GRAPH, CHANNELS, BASIS, "fp16")
    assert max(difference(seed, launches) for seed in range(3)) < EXACT


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("macs=launch.macs * made * taken", "macs=launch.macs * made"),
        ("depth=launch.depth * taken", "depth=launch.depth * made"),
        ("weights=launch.weights * made * taken", "weights=np.full(len(kept), launch.weights)"),
        ("moved[:, count:].sum(axis=1)", "moved[:, count - 1 :].sum(axis=1)"),
    ],
)
def test_planted_bugs_are_noticed(old: str, new: str) -> None:
    broken = mutant(narrowing, old, new)
    launches = broken.narrowed_launches(GRAPH, CHANNELS, BASIS, "fp16")
    assert max(difference(seed, launches) for seed in range(3)) > EXACT
