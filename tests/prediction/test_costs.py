"""Predicted times of single convolutions, as pruning asks for them."""

from __future__ import annotations

import pytest
from published_networks.builder import Builder

from deploycc.errors import TargetError
from deploycc.prediction.costs import PredictedCosts
from deploycc.prediction.network import predict_network
from deploycc.prediction.stacks import basis_for
from deploycc.target import load
from deploycc.timing.convolutions import convolution_of

TX2 = load("jetson-tx2-jp46")


@pytest.mark.parametrize(("kernels", "window", "stride", "groups"), [(40, 3, 1, 1), (24, 5, 2, 1), (16, 3, 2, 16)])
def test_a_convolution_takes_what_it_takes_in_a_network(kernels: int, window: int, stride: int, groups: int) -> None:
    net = Builder("one", 19)
    x = net.conv(net.input, 16, act=None)
    graph = net.finish(net.conv(x, kernels, window, stride, groups=groups, act=None, bias=False))
    convolution = convolution_of(graph.nodes[1])
    assert convolution is not None
    launch = predict_network(graph, basis_for(TX2, "fp16"), "fp16").launches[1]
    assert PredictedCosts(TX2).time_ms(convolution) == pytest.approx(launch.time.ms, rel=1e-9, abs=0)


def test_costs_name_their_target_and_a_target_without_constants_has_none() -> None:
    assert PredictedCosts(TX2).describe() == "jetson-tx2-jp46 fp16, constants of TensorRT 8.0 on Maxwell and Pascal"
    assert PredictedCosts(load("drive-px2-dgpu")).precision == "fp32"
    with pytest.raises(TargetError):
        PredictedCosts(load("x86-rtx"))
