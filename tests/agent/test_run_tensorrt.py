"""Timing through the Python API needs a GPU; without one it says so, and the names it uses exist."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from small_networks import SHAPE, conv_model, plan_folder

from deploycc import target
from deploycc.agent import bench_job, build_job, files, gpu, plan_file, run_tensorrt
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


class Cuda(ModuleType):
    """The names of pycuda.driver that are used; writes down what happens."""

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.log: list[str] = []

    def init(self) -> None:
        self.log.append("init")

    def Device(self, ordinal: int) -> SimpleNamespace:
        context = SimpleNamespace(pop=lambda: self.log.append("pop"))
        return SimpleNamespace(make_context=lambda: self.log.append(f"context on {ordinal}") or context)

    def Stream(self) -> SimpleNamespace:
        return SimpleNamespace(handle=1, synchronize=lambda: None)

    def pagelocked_empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return np.empty(shape, dtype)

    def mem_alloc(self, size: int) -> int:
        return size

    def memcpy_htod_async(self, *_: Any) -> None: ...

    def memcpy_dtoh_async(self, *_: Any) -> None: ...


def tensorrt(cuda: Cuda) -> ModuleType:
    """A runtime whose engines write down their name when they run; the file holds the name, and ``bad`` does not."""

    class Engine:
        num_io_tensors = 2

        def __init__(self, name: str) -> None:
            self.name = name

        def __del__(self) -> None:
            cuda.log.append(f"end of {self.name}")

        def get_tensor_name(self, index: int) -> str:
            return ("x", "y")[index]

        def get_tensor_dtype(self, name: str) -> str:
            return "float"

        def get_tensor_mode(self, name: str) -> str:
            return "input" if name == "x" else "output"

        def create_execution_context(self) -> SimpleNamespace:
            return SimpleNamespace(
                get_tensor_shape=lambda name: SHAPE,
                set_tensor_address=lambda name, address: None,
                execute_async_v3=lambda stream: cuda.log.append(self.name) or self.name != "bad",
            )

    class Logger:
        ERROR = INTERNAL_ERROR = 0

        def __init__(self, *_: Any) -> None: ...

    module = ModuleType("tensorrt_rtx")
    for name, value in {
        "__version__": "1.7",
        "ILogger": Logger,
        "TensorIOMode": SimpleNamespace(INPUT="input"),
        "init_libnvinfer_plugins": lambda logger, namespace: None,
        "nptype": lambda dtype: np.float32,
        "Runtime": lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda data: Engine(data.decode())),
    }.items():
        setattr(module, name, value)
    return module


def bench_engines(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure two variants, whose engine files hold these names; return the rows and what happened."""
    cuda = Cuda()
    monkeypatch.setattr(gpu, "devices", lambda: [{"ordinal": 0, "name": "dGPU"}])
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", cuda)
    sys.modules["pycuda"].driver = cuda  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", tensorrt(cuda))
    plan = plan_folder(folder, target.load("x86-rtx"), {"fp32": conv_model(), "fp32 original": conv_model()})
    rows = []
    for engine, name in zip(plan.engines, names, strict=True):
        (folder / engine.file).write_text(name)
        row = build_job.empty_row(plan_file.read_plan(str(folder / "plan.json")), engine.model_dump())
        rows.append({**row, "sha256": files.sha256_of(str(folder / engine.file)), "size_bytes": len(name)})
    files.write_json({"engines": rows}, str(folder / "build.json"))
    measured = bench_job.bench(str(folder / "plan.json"), [engine.file for engine in plan.engines], None)
    return measured, [what for what, _ in itertools.groupby(cuda.log)]


def test_engines_take_turns_in_one_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, happened = bench_engines(tmp_path, monkeypatch, "small", "large")
    assert [(row["status"], row["device"], row["engine"]["runtime_version"]) for row in rows] == [
        ("measured", "dGPU", "1.7")
    ] * 2
    rounds = len(rows[0]["blocks"])
    assert len(rows[1]["blocks"]) == rounds >= 8
    assert happened[:4] == ["init", "context on 0", "small", "large"]  # both warm up
    assert happened[4:-3] == ["small", "large"] * (rounds // 2) + ["small"]  # A B, B A, ...
    assert {*happened[-3:-1]} == {"end of small", "end of large"}
    assert happened[-1] == "pop"  # the context outlives the engines


def test_an_engine_that_does_not_run_leaves_the_other_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, happened = bench_engines(tmp_path, monkeypatch, "bad", "large")
    assert [row["status"] for row in rows] == ["failed", "measured"]
    assert "the engine does not run" in rows[0]["reason"]
    assert len(rows[1]["blocks"]) == 1
    assert happened[-1] == "pop"


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
