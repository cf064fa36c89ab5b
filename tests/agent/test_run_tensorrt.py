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
from deploycc.agent.outcome import Failed, NotPossible

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
    measured = bench_job.bench([(str(folder / "plan.json"), engine.file) for engine in plan.engines], None)
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
        trt: ["Runtime", "TensorIOMode", "nptype", "init_libnvinfer_plugins", "IProfiler"],
        trt.IProfiler: ["report_layer_time"],
        trt.LayerInformationFormat: ["JSON"],
        trt.EngineInspector: ["get_engine_information"],
        trt.Runtime: ["deserialize_cuda_engine"],
        trt.ICudaEngine: [
            "num_io_tensors", "get_tensor_name", "get_tensor_dtype", "get_tensor_mode", "create_execution_context",
            "create_engine_inspector",
        ],
        trt.IExecutionContext: ["get_tensor_shape", "set_tensor_address", "execute_async_v3", "profiler"],
    }  # fmt: skip
    assert [name for owner, names in used.items() for name in names if not hasattr(owner, name)] == []


def test_before_8_5_tensors_are_bindings_with_an_index() -> None:
    """JetPack 4's Python API: no tensor names, addresses in the order of the bindings, execute_async_v2."""
    calls: list[Any] = []
    cuda = Cuda()
    allocated = iter((100, 200))
    cuda.mem_alloc = lambda size: next(allocated)  # type: ignore[method-assign]
    context = SimpleNamespace(
        get_binding_shape=lambda index: (SHAPE, (1, 4, 32, 32))[index],
        execute_async_v2=lambda addresses, stream: calls.append((addresses, stream)) or True,
    )
    engine = SimpleNamespace(
        num_bindings=2,
        binding_is_input=lambda index: index == 0,
        get_binding_dtype=lambda index: "float",
        get_binding_name=lambda index: ("x", "loc")[index],
    )
    trt = tensorrt(cuda)
    given = {"x": np.ones(SHAPE, np.float32)}
    inputs, enqueue, outputs = run_tensorrt._indexed(trt, cuda, engine, context, given, {})
    assert enqueue(7)
    assert calls == [([100, 200], 7)]
    [(name, device, host)] = inputs
    assert (name, device, host.shape, float(host.min())) == ("x", 100, SHAPE, 1.0)
    assert [(name, host.shape, device) for name, device, host in outputs] == [("loc", (1, 4, 32, 32), 200)]
    allocated = iter((100, 200))
    with pytest.raises(Failed, match=r"takes an input of shape \(1, 3, 32, 32\), the plan names \(1, 3, 8, 8\)"):
        run_tensorrt._indexed(trt, cuda, engine, context, {"x": np.ones((1, 3, 8, 8), np.float32)}, {})
    context.get_binding_shape = lambda index: (-1, 3, 32, 32)
    with pytest.raises(Failed, match="no fixed shape"):
        run_tensorrt._indexed(trt, cuda, engine, context, given, {})


def test_a_second_engine_reads_only_what_the_first_one_writes() -> None:
    there = {"a": (100, np.ones((1, 8), np.float32))}
    assert run_tensorrt._handed(there, "a", (1, 8), np.float32) == 100
    for shape, kind in (((1, 4), np.float32), ((1, 8), np.float16)):
        with pytest.raises(Failed, match="the second engine reads a as"):
            run_tensorrt._handed(there, "a", shape, kind)


def test_an_engine_answers_with_copies_of_its_outputs_by_name(tmp_path: Path) -> None:
    cuda = Cuda()
    seen: list[float] = []
    cuda.memcpy_htod_async = lambda device, host, stream: seen.append(float(host.max()))  # type: ignore[method-assign]
    cuda.memcpy_dtoh_async = lambda host, device, stream: host.fill(2 * seen[-1])  # type: ignore[method-assign]
    runner = run_tensorrt.Runner.__new__(run_tensorrt.Runner)
    runner._trt, runner._cuda = tensorrt(cuda), cuda
    (tmp_path / "engine").write_text("good")
    answer = runner.answer({"input": {"name": "x", "shape": list(SHAPE)}}, str(tmp_path / "engine"))
    first, second = (answer({"x": np.full(SHAPE, value, np.float32)}) for value in (3, 4))
    assert {name: float(values.max()) for name, values in first.items()} == {"y": 6.0}  # not what the second wrote
    assert float(second["y"].min()) == 8.0


@pytest.mark.parametrize(
    ("device", "version", "said"),
    [
        ({"name": "Orin", "compute_capability": "8.7"}, "1.7", "compute capability 8.6, and Orin has 8.7"),
        ({"name": "RTX", "compute_capability": "8.6"}, "1.2.0", r"TensorRT 1\.7[.0-9]*, and this board has 1\.2\.0"),
    ],
)
def test_another_stack_than_the_plans_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: dict[str, str], version: str, said: str
) -> None:
    monkeypatch.setattr(gpu, "devices", lambda: [device])
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", SimpleNamespace(__version__=version))
    plan_folder(tmp_path, target.load("x86-rtx"), {"fp32": conv_model()})
    with pytest.raises(NotPossible, match=said):
        run_tensorrt.Runner(plan_file.read_plan(str(tmp_path / "plan.json")), None)
