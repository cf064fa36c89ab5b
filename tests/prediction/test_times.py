"""The time of a launch: what always holds of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from mutation import find_example, mutant

from deploycc.prediction import times as module
from deploycc.prediction.launches import Launch
from deploycc.prediction.stacks import Gpu, gpu_of, stacks
from deploycc.prediction.times import LaunchTable, launch_times, network_ms
from deploycc.target import load

TX2 = gpu_of(load("jetson-tx2-jp46"))
STACK = next(stack for stack in stacks() if stack.name == "tensorrt-8.0-pascal")


def convolution(kernels: int, inputs: int = 64, size: int = 28, window: int = 3) -> Launch:
    depth = inputs * window**2
    return Launch(
        "conv", "convolution", ("conv",), macs=size**2 * kernels * depth, pixels=size**2, kernels=kernels,
        depth=depth, window=(window, window), read=inputs * size**2, written=kernels * size**2, weights=kernels * depth,
    )  # fmt: skip


def total(launch: Launch, gpu: Gpu = TX2, precision: str = "fp16") -> float:
    return float(launch_times(LaunchTable.of([launch]), gpu, STACK.model, precision).total[0])


CONVOLUTIONS = st.builds(
    convolution,
    st.integers(1, 600),
    st.integers(1, 512),
    st.sampled_from([1, 3, 10, 19, 38, 75]),
    st.sampled_from([1, 3, 5]),
)


@settings(max_examples=examples(30))
@given(CONVOLUTIONS)
def test_one_kernel_more_is_never_faster(launch: Launch) -> None:
    more = replace(launch, kernels=launch.kernels + 1, macs=launch.macs // launch.kernels * (launch.kernels + 1))
    assert total(launch) <= total(more) * (1 + 1e-12)


def whole_tiles_hold_every_mac(times: object, launch: Launch) -> bool:
    return bool(times.tile_macs(LaunchTable.of([launch]), STACK.model)[0] >= launch.macs)  # type: ignore[attr-defined]


@settings(max_examples=examples(30))
@given(CONVOLUTIONS)
def test_whole_tiles_hold_every_mac(launch: Launch) -> None:
    assert whole_tiles_hold_every_mac(module, launch)


def test_a_tile_count_that_rounds_down_would_be_noticed() -> None:
    wrong = mutant(
        module, "np.ceil(table.kernels / table.groups / kernels)", "(table.kernels // table.groups // kernels)"
    )
    launch = find_example(CONVOLUTIONS, lambda launch: not whole_tiles_hold_every_mac(wrong, launch))
    assert whole_tiles_hold_every_mac(module, launch)


@settings(max_examples=examples(30))
@given(CONVOLUTIONS)
def test_no_launch_is_faster_than_its_memory_traffic_and_its_arithmetic_at_the_peak(launch: Launch) -> None:
    traffic = 2 * (launch.read + launch.written + launch.weights) / TX2.bandwidth * 1e3
    fewest = launch.macs / 2.25 / TX2.macs("fp16") * 1e3  # Winograd's method needs 4 / 9 of the products
    assert total(launch) >= max(traffic, fewest)
    assert total(launch) <= total(launch, precision="fp32")


@pytest.mark.parametrize("kernels", [33, 48, 64])
def test_the_staircase_has_its_steps_at_multiples_of_32_kernels(kernels: int) -> None:
    """TensorRT's convolution kernels on this GPU are 32, 64 or 128 kernels wide."""
    arithmetic = [
        float(launch_times(LaunchTable.of([convolution(count)]), TX2, STACK.model, "fp16").arithmetic[0])
        for count in (32, kernels, 64, 65)
    ]
    assert arithmetic[1] == pytest.approx(arithmetic[2], rel=1e-12, abs=0)
    assert arithmetic[0] < 0.8 * arithmetic[1] < 0.8 * arithmetic[3]


def test_parts_add_up_and_padding_is_nothing_for_whole_tiles() -> None:
    whole, ragged = convolution(128, size=32), convolution(129, size=32)
    found = launch_times(LaunchTable.of([whole, ragged]), TX2, STACK.model, "fp16")
    assert np.allclose(found.total, found.launch + np.maximum(found.arithmetic, found.memory), rtol=1e-12, atol=0)
    assert found.padding[0] == pytest.approx(0, abs=1e-9)
    assert found.padding[1] > 0.15 * found.work[1]


def test_a_clock_half_as_fast_takes_twice_as_long_where_arithmetic_bounds() -> None:
    slow = replace(TX2, clock_hz=TX2.clock_hz / 2, fp32_macs=TX2.fp32_macs / 2, fp16_macs=TX2.fp16_macs / 2)
    assert total(convolution(256), slow) == pytest.approx(2 * total(convolution(256)), rel=1e-9, abs=0)


def test_the_copy_of_the_picture_counts_only_where_it_was_timed() -> None:
    old = next(stack for stack in stacks() if stack.name == "tensorrt-3.0-pascal").model
    assert network_ms(TX2, STACK.model, 3 * 300 * 300) == STACK.model.network_ms
    assert network_ms(TX2, old, 3 * 300 * 300) == pytest.approx(1.08 / old.copy_gb_s, rel=1e-9, abs=0)
