"""Layers of a profile and the convolutions that they compute."""

from __future__ import annotations

import pytest

from deploycc.timing.profile_layers import TimedLayer, convolution_times

MACS = {"Conv_0": 30, "Conv_4": 10, "/neck/Conv": 20, "a + b": 5}


@pytest.mark.parametrize(
    ("layer", "times"),
    [
        ("Conv_0", {"Conv_0": 1.0}),
        ("Conv_0 + PWN(Clip_3)", {"Conv_0": 1.0}),
        ("Conv_0 + Relu_1 || Conv_4 + Relu_5", {"Conv_0": 0.75, "Conv_4": 0.25}),
        ("PWN(/neck/Conv, /neck/Relu)", {"/neck/Conv": 1.0}),
        ("a + b", {"a + b": 1.0}),
        ("/neck/Conv_myl3_18", {"/neck/Conv": 1.0}),
        ("Conv_0+Conv_4+Relu_5_myl12_7", {"Conv_0": 0.75, "Conv_4": 0.25}),
        ("__myl_ConvAddRelu_myl3_5", {}),
        ("Reformatting CopyNode for Input Tensor 0 to Conv_0 + Relu_1", {}),
        ("Conv_01", {}),
        ("Pool_7", {}),
    ],
)
def test_time_goes_to_the_convolutions_that_a_layer_names(layer: str, times: dict[str, float]) -> None:
    assert convolution_times([TimedLayer(layer, 1.0)], MACS) == (times, 0.0 if times else 1.0)


@pytest.mark.parametrize(
    ("layer", "nodes", "times"),
    [
        ("__myl_ConvAddRelu_myl3_5", ("Conv_0", "Add_2", "Relu_3"), {"Conv_0": 1.0}),
        ("__myl_ConvConv_myl0_1", ("Conv_0", "Conv_4"), {"Conv_0": 0.75, "Conv_4": 0.25}),
        ("__myl_Move_myl0_2", ("a + b",), {"a + b": 1.0}),
        ("Conv_0 + Relu_1", ("/neck/Conv",), {"/neck/Conv": 1.0}),  # what the runtime tells goes before its names
        ("Conv_0 + Relu_1", ("Pool_7",), {}),
        ("Reformatting CopyNode for Input Tensor 0 to Conv_0 + Relu_1", ("Conv_0",), {}),
    ],
)
def test_nodes_that_a_runtime_tells_go_before_names(layer: str, nodes: tuple[str, ...], times: object) -> None:
    assert convolution_times([TimedLayer(layer, 1.0, nodes)], MACS) == (times, 0.0 if times else 1.0)


def test_layers_of_one_convolution_add_up() -> None:
    layers = [TimedLayer("Conv_4", 1.0), TimedLayer("Conv_4 + Relu_5", 0.5), TimedLayer("Pool_7", 2.0)]
    assert convolution_times(layers, MACS) == ({"Conv_4": 1.5}, 2.0)
