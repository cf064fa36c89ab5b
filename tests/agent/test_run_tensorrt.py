"""Timing through the Python API needs a GPU; without one it says so, and the names it uses exist."""

from __future__ import annotations

import pytest

from deploycc.agent import gpu, run_tensorrt
from deploycc.agent.outcome import NotPossible

PLAN = {"target": {"cuda_device": None, "runtime": "tensorrt-rtx"}, "measurement": {}}


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "devices", lambda: [])
    with pytest.raises(NotPossible, match="this machine has none"):
        run_tensorrt.Runner(PLAN, None)


def test_without_the_plans_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "devices", lambda: [{"ordinal": 0, "name": "dGPU"}])
    plan = {**PLAN, "target": {"cuda_device": 1, "runtime": "tensorrt-rtx"}}
    with pytest.raises(NotPossible, match="no CUDA device 1"):
        run_tensorrt.Runner(plan, None)


def test_the_api_has_the_names() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="needs the extra 'rtx'")
    used = {
        trt: ["Runtime", "TensorIOMode", "nptype", "init_libnvinfer_plugins"],
        trt.Runtime: ["deserialize_cuda_engine"],
        trt.ICudaEngine: [
            "num_io_tensors", "get_tensor_name", "get_tensor_dtype", "get_tensor_mode", "create_execution_context",
        ],
        trt.IExecutionContext: ["get_tensor_shape", "set_tensor_address", "execute_async_v3"],
    }  # fmt: skip
    assert [name for owner, names in used.items() for name in names if not hasattr(owner, name)] == []
