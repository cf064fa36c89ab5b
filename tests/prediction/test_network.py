"""What is said of each launch of a network."""

from __future__ import annotations

import pytest
from published_networks.builder import Builder

from deploycc.prediction.launches import launches
from deploycc.prediction.network import gated_ms, kernel_steps, predict_network
from deploycc.prediction.stacks import basis_for
from deploycc.target import load

BASIS = basis_for(load("jetson-tx2-jp46"), "fp16")


def test_bounds_name_what_most_of_the_time_goes_to() -> None:
    net = Builder("bounds", 300)
    x = net.conv(net.input, 64, 3)
    big = net.conv(x, 128, 3)
    copied = net.upsample(big, 1)
    small = net.conv(net.global_pool(copied), 4)
    deep = net.conv(net.pool(net.conv(net.pool(copied, 2, 64), 512), 3, 4), 32, 3)
    found = predict_network(net.finish(small, deep), BASIS, "fp16")
    bounds = {launch.name: launch.bound for launch in found.launches}
    assert bounds["conv_2"] == "compute"
    assert bounds["resize_4"] == "memory"
    assert bounds[small.inputs[0].inputs[0].inputs[0].name] == "launch"
    assert bounds[deep.inputs[0].inputs[0].inputs[0].name] == "latency"


def test_the_total_is_the_sum_of_the_launches_and_of_what_belongs_to_none() -> None:
    net = Builder("sum", 64)
    found = predict_network(net.finish(net.conv(net.conv(net.input, 33, 3), 40)), BASIS, "fp16")
    assert found.time.ms == pytest.approx(sum(x.time.ms for x in found.launches) + found.network_ms, rel=1e-9, abs=0)
    assert found.macs == 64 * 64 * (33 * 27 + 40 * 33)
    first = found.launches[0]
    assert first.wasted_macs == 64 * 64 * (64 - 33) * 27
    assert first.time.low_ms < first.time.ms < first.time.high_ms


def test_steps_lead_to_counts_that_are_cheaper_and_nothing_between_is_as_cheap() -> None:
    net = Builder("steps", 64)
    (launch,) = launches(net.finish(net.conv(net.conv(net.input, 64, 3), 100, 3)), BASIS.stack.merges)[1:]
    steps = kernel_steps(launch, BASIS, "fp16")
    assert [step.kernels for step in steps] == [96, 64, 32]
    assert [step.saved_ms for step in steps] == sorted(step.saved_ms for step in steps)


def test_active_kernels_cost_what_their_tiles_cost() -> None:
    net = Builder("gated", 64)
    x = net.conv(net.input, 64, 3)
    graph = net.finish(net.conv(x, 128, 3))
    name = graph.nodes[2].name
    full = gated_ms(graph, BASIS, "fp16", {name: [128]}, 0.0)
    assert full == pytest.approx(predict_network(graph, BASIS, "fp16").time.ms, rel=1e-9, abs=0)
    half, none = gated_ms(graph, BASIS, "fp16", {name: [64]}, 0.0), gated_ms(graph, BASIS, "fp16", {name: [0]}, 0.0)
    assert none < half < full
    mixed = gated_ms(graph, BASIS, "fp16", {name: [64, 128, 0, 64]}, 30.0)
    assert mixed == pytest.approx((half + full + none + half) / 4 + 0.03, rel=1e-9, abs=0)
