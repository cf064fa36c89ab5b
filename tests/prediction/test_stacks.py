"""Which constants a target is predicted with, and how far its interval reaches."""

from __future__ import annotations

import math

import pytest
from published_networks.yolox import YOLOX

from deploycc.errors import TargetError
from deploycc.prediction.network import predict_network
from deploycc.prediction.stacks import basis_for, gpu_of, stacks
from deploycc.target import load, names


def test_the_board_of_the_constants_gets_their_own_interval() -> None:
    basis = basis_for(load("jetson-tx2-jp46"), "fp16")
    assert (basis.stack.name, basis.remarks) == ("tensorrt-8.0-pascal", ())
    low, high = basis.interval(10.0)
    assert (low, high) == pytest.approx((10 / math.exp(1.645 * 0.104), 10 * math.exp(1.645 * 0.104)), rel=1e-9, abs=0)
    assert basis.interval(10.0, layer=True)[1] > high


@pytest.mark.parametrize(
    ("target", "precision", "stack", "remarks"),
    [
        ("jetson-tx2-jp461", "fp16", "tensorrt-8.0-pascal", ["TensorRT 8.2 was not measured (8.0 was)"]),
        ("jetson-tx2-jp46", "fp32", "tensorrt-8.0-pascal", ["fp32 was measured on single convolutions only"]),
        ("jetson-xavier-jp512", "fp16", "tensorrt-8.0-volta", ["TensorRT 8.5"]),
        ("jetson-orin-jp62", "fp16", "tensorrt-8.0-volta", ["compute capability 8.7", "TensorRT 10.3"]),
        ("drive-px2-igpu", "fp16", "tensorrt-3.0-pascal", ["version is not known"]),
        ("drive-px2-dgpu", "fp32", "tensorrt-3.0-pascal", ["compute capability 6.1", "version is not known"]),
    ],
)
def test_other_targets_take_the_nearest_with_a_wider_interval(
    target: str, precision: str, stack: str, remarks: list[str]
) -> None:
    basis = basis_for(load(target), precision)
    assert basis.stack.name == stack
    assert len(basis.remarks) == len(remarks)
    assert all(part in remark for part, remark in zip(remarks, basis.remarks, strict=True))
    assert basis.spread > basis.stack.spread


@pytest.mark.parametrize("target", ["x86-cpu", "x86-rtx", "x86-dgpu-trt10", "jetson-thor-jp70"])
def test_a_target_that_is_too_far_is_refused(target: str) -> None:
    with pytest.raises(TargetError, match="no constants of prediction are near") as caught:
        basis_for(load(target), "fp16")
    assert caught.value.code == "prediction-none"
    assert "TensorRT 8.0 on Volta" in str(caught.value.context["constants"])


def test_a_target_without_the_facts_of_its_gpu_is_refused() -> None:
    bare = load("jetson-tx2-jp46").model_copy(update={"sm_count": None, "gpu_clock_mhz": None})
    with pytest.raises(TargetError) as caught:
        basis_for(bare, "fp16")
    assert caught.value.code == "prediction-facts"
    assert caught.value.context["missing"] == "sm_count, gpu_clock_mhz"


def test_caffe_is_predicted_by_its_own_constants() -> None:
    assert basis_for(load("jetson-tx2-jp46"), "fp32", "caffe").stack.name == "caffe-cudnn-pascal"


def test_every_target_with_tensor_cores_states_their_rate() -> None:
    capabilities = {name: load(name).compute_capability for name in names()}
    for name in (name for name, found in capabilities.items() if found in ("7.2", "8.7")):
        assert gpu_of(load(name)).fp16_macs == pytest.approx(8 * gpu_of(load(name)).fp32_macs, rel=0.02, abs=0)


def test_constants_are_physical() -> None:
    for stack in stacks():
        model = stack.model
        assert 0 < model.direct <= 1
        assert model.winograd <= 2.25  # Winograd's method saves no more
        assert 0 < model.bandwidth <= 1
        assert [kernels for kernels, _ in model.kernel_tiles] == sorted(kernels for kernels, _ in model.kernel_tiles)
        assert stack.source


# https://github.com/Nota-NetsPresso/netspresso-trainer docs/benchmarks/device_matrix/tensorrt.md: YOLOX-s, 640x640,
# FP16, JetPack 4.6. The constants were fitted to classification networks only.
@pytest.mark.parametrize(
    ("target", "version", "measured_ms"),
    [("jetson-tx2-jp46", "8.0.1", 35.8665), ("jetson-xavier-jp512", "8.0.1", 8.83621)],
)
def test_the_interval_holds_a_detector_that_no_fit_has_seen(target: str, version: str, measured_ms: float) -> None:
    board = load(target).model_copy(update={"runtime_version": version})
    time = predict_network(YOLOX["YOLOX-s"](), basis_for(board, "fp16"), "fp16").time
    assert time.low_ms < measured_ms < time.high_ms
    assert time.high_ms < 1.5 * time.low_ms
