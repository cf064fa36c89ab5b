"""A device beside a target."""

from __future__ import annotations

from typing import Any

import pytest

from deploycc.target import load
from deploycc.target.device import differences

TX2: dict[str, Any] = {
    "architecture": "aarch64",
    "gpu": "NVIDIA Tegra X2 (sm 6.2)",
    "os": "Ubuntu 18.04.6 LTS",
    "python": "3.6.9",
    "l4t": "32.7.1",
    "cuda": "10.2.300",
    "tensorrt_library": "8.2.1-1+cuda10.2",
    "nvpmodel": "NV Power Mode: MAXN; 0",
}


def test_the_board_itself_differs_in_nothing() -> None:
    assert differences(load("jetson-tx2-jp461"), TX2) == []


@pytest.mark.parametrize(
    ("fact", "said", "expected", "matters"),
    [
        ("tensorrt_library", "8.2.10-1+cuda10.2", "runtime_version", True),
        ("tensorrt_library", None, "runtime_version", True),
        ("gpu", "Xavier (sm 7.2)", "compute_capability", True),
        ("l4t", "32.6.1", "l4t", True),
        ("cuda", "10.20", "cuda", False),
        ("python", "3.60.1", "device_python", False),
        ("nvpmodel", "MODE_15W", "power_modes", False),
    ],
)
def test_one_fact_that_differs(fact: str, said: str | None, expected: str, matters: bool) -> None:
    [found] = differences(load("jetson-tx2-jp461"), {**TX2, fact: said})
    assert (found.fact, found.matters) == (expected, matters)
    assert found.todo


def test_onnxruntime_must_be_there() -> None:
    here = {"architecture": "x86_64", "version_onnxruntime": "1.20.0"}
    assert differences(load("x86-cpu"), here) == []
    [found] = differences(load("x86-cpu"), {"architecture": "x86_64"})
    assert found.matters
    assert "pip install onnxruntime" in found.todo
