"""Every consistency rule finds its fault, and passes every sound target."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploycc.target import Target, folder, load
from deploycc.target.check import check

FILES = sorted(folder().glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_target_is_consistent(path: Path) -> None:
    assert check(load(str(path)), path) == []


# One fault planted in a sound target: the target, the change, and part of the sentence that must name it.
FAULTS = [
    ("jetson-tx2-jp461", {"fp32_tflops": 0.75}, "fp32_tflops 0.75 is not 2 x cuda_cores x gpu_clock_mhz = 0.666"),
    ("jetson-tx2-jp461", {"memory_bandwidth_gb_s": 58.3}, "memory_bandwidth_gb_s 58.3 is not"),
    ("jetson-tx2-jp461", {"sm_count": 5}, "neither 64 nor 128"),
    ("jetson-tx2-jp461", {"sm_count": 3, "cuda_cores": 257, "fp32_tflops": None}, "neither 64 nor 128"),
    ("jetson-thor-jp70", {"cuda_cores": 2561}, "not a multiple of sm_count"),
    ("jetson-tx2-jp461", {"workspace_mib": 4096}, "more than half of memory_mib"),
    ("drive-px2-dgpu", {"precisions": ("fp32", "fp16")}, "both in precisions and in refused_precisions"),
    ("drive-px2-dgpu", {"precisions": ("fp32", "fp16"), "refused_precisions": {}}, "6.1 has no fast FP16"),
    ("x86-cpu", {"precisions": ("fp32", "fp32")}, "has the same precision twice"),
    ("jetson-tx2-jp461", {"unconfirmed": ("fp8_tflops",)}, "'fp8_tflops', which is not a field"),
    ("jetson-tx2-jp461", {"unconfirmed": ("cuda_device",)}, "'cuda_device', which has no value"),
    ("drive-px2-igpu", {"unconfirmed": ()}, "name it in unconfirmed"),
    ("x86-cpu", {"builder": "trtexec", "trtexec": "/bin/trtexec"}, "does not build for runtime onnxruntime"),
    ("jetson-tx2-jp461", {"model_format": "caffe"}, "tensorRT_optimization reads Caffe"),
    ("drive-px2-igpu", {"model_format": "onnx"}, "tensorRT_optimization reads Caffe"),
    ("drive-px2-igpu", {"runtime_version": "10.0.1"}, "no Caffe parser; 8.6 was the last release"),
    ("jetson-tx2-jp461", {"trtexec": None}, "needs its path in trtexec"),
    ("x86-rtx", {"architecture": "aarch64"}, "only for x86_64"),
    ("x86-rtx", {"runtime_version": None}, "state it"),
    ("x86-rtx", {"compute_capability": "6.2"}, "builds for 7.5, 8.0, 8.6, 8.9, 12.0, 12.1, not for 6.2"),
    ("x86-cpu", {"compute_capability": "8.6"}, "runs on the CPU"),
    ("jetson-thor-jp70", {"compute_capability": None}, "a board's compute_capability is known"),
    ("x86-dgpu-trt10", {"compute_capability": "6.1", "precisions": ("fp32",)}, "6.1 ends with TensorRT 8.6"),
    ("x86-dgpu-trt10", {"compute_capability": "5.3"}, "5.3 ends with TensorRT 8.5"),
    ("x86-dgpu-trt10", {"compute_capability": "7.0"}, "7.0 ends with TensorRT 10.4"),
    ("jetson-tx2-jp461", {"jetpack": None}, "given together"),
    ("jetson-tx2-jp461", {"jetpack": "4.6"}, "L4T 32.7.1 is JetPack 4.6.1, not 4.6"),
    ("jetson-tx2-jp461", {"l4t": "32.9.9"}, "not among the known releases"),
    ("jetson-tx2-jp461", {"runtime_version": "8.0.1"}, "JetPack 4.6.1 has TensorRT 8.2, not 8.0.1"),
    ("jetson-orin-jp62", {"architecture": "x86_64"}, "JetPack runs on aarch64"),
    ("jetson-thor-jp70", {"runtime_version": "11.1.0"}, "does not support Jetson; 11.4.1 does"),
]


@pytest.mark.parametrize(("name", "change", "sentence"), FAULTS, ids=lambda value: str(value)[:40])
def test_a_planted_fault_is_named(name: str, change: dict[str, object], sentence: str) -> None:
    faulty = Target.model_validate({**load(name).model_dump(), **change})
    problems = check(faulty)
    assert any(sentence in problem for problem in problems), problems


def test_the_name_of_a_shipped_target_is_its_files(tmp_path: Path) -> None:
    target = load("x86-cpu")
    assert check(target) == []
    assert check(target, folder() / "other.toml") == ["name 'x86-cpu' is not the file's name 'other'"]


def test_a_copy_of_a_target_may_have_any_file_name(tmp_path: Path) -> None:
    assert check(load("x86-cpu"), tmp_path / "other.toml") == []


def test_peaks_are_compared_within_two_percent() -> None:
    sound = load("jetson-tx2-jp461").model_dump()
    derived = 2 * 256 * 1300.5e6 / 1e12
    assert check(Target.model_validate({**sound, "fp32_tflops": derived * 1.019})) == []
    assert check(Target.model_validate({**sound, "fp32_tflops": derived * 1.03})) != []


def test_volta_and_turing_are_accepted_by_the_releases_that_support_them() -> None:
    sound = load("x86-dgpu-trt10").model_dump()
    for capability, version in (("7.0", "10.4.0"), ("7.5", "10.16.1"), ("6.1", "8.6.1")):
        change = {"compute_capability": capability, "runtime_version": version, "precisions": ("fp32",)}
        assert check(Target.model_validate({**sound, **change})) == []
