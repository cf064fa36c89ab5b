"""Layers of a profile and the convolutions that they compute."""

from __future__ import annotations

import pytest

from deploycc.timing.profile_layers import convolution_times

MACS = {"Conv_0": 30, "Conv_4": 10, "/neck/Conv": 20, "a + b": 5}


@pytest.mark.parametrize(
    ("layer", "times"),
    [
        ("Conv_0", {"Conv_0": 1.0}),
        ("Conv_0 + PWN(Clip_3)", {"Conv_0": 1.0}),
        ("Conv_0 + Relu_1 || Conv_4 + Relu_5", {"Conv_0": 0.75, "Conv_4": 0.25}),
        ("PWN(/neck/Conv, /neck/Relu)", {"/neck/Conv": 1.0}),
        ("a + b", {"a + b": 1.0}),
        ("Reformatting CopyNode for Input Tensor 0 to Conv_0 + Relu_1", {}),
        ("Conv_01", {}),
        ("Pool_7", {}),
    ],
)
def test_time_goes_to_the_convolutions_that_a_layer_names(layer: str, times: dict[str, float]) -> None:
    assert convolution_times([(layer, 1.0)], MACS) == (times, 0.0 if times else 1.0)


def test_layers_of_one_convolution_add_up() -> None:
    assert convolution_times([("Conv_4", 1.0), ("Conv_4 + Relu_5", 0.5), ("Pool_7", 2.0)], MACS) == (
        {"Conv_4": 1.5},
        2.0,
    )
