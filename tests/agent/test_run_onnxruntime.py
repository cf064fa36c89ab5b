"""ONNX Runtime: building is optimising, measuring is timing; both for real on a small network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from small_networks import SHAPE, conv_model, if_model, plan_folder

from deploycc import target
from deploycc.agent import run_onnxruntime, timing
from deploycc.agent.outcome import Failed


@pytest.fixture
def plan(tmp_path: Path) -> dict[str, Any]:
    plan_folder(tmp_path, target.load("x86-cpu"), {"fp32": conv_model(), "fp16": conv_model("fp16")})
    return json.loads((tmp_path / "plan.json").read_text())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_engine_computes_what_the_network_computes(plan: dict[str, Any], tmp_path: Path, precision: str) -> None:
    network, engine = str(tmp_path / f"network-{precision}.onnx"), str(tmp_path / "engine.onnx")
    facts = run_onnxruntime.build(plan, network, engine)
    assert facts["builder_version"] == ort.__version__
    picture = {"x": np.random.default_rng(1).standard_normal(SHAPE, dtype=np.float32)}
    (expected,) = ort.InferenceSession(network, providers=["CPUExecutionProvider"]).run(None, picture)
    (actual,) = run_onnxruntime.load(engine, 1).run(None, picture)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_the_engine_is_already_optimised(plan: dict[str, Any], tmp_path: Path) -> None:
    engine = str(tmp_path / "engine.onnx")
    run_onnxruntime.build(plan, str(tmp_path / "network-fp32.onnx"), engine)
    picture = {"x": np.zeros(SHAPE, np.float32)}
    assert "Relu" not in {layer["op"] for layer in run_onnxruntime.profile_layers(engine, 1, picture)}  # fused


def test_measuring(plan: dict[str, Any], tmp_path: Path) -> None:
    engine = str(tmp_path / "engine.onnx")
    run_onnxruntime.build(plan, str(tmp_path / "network-fp32.onnx"), engine)
    before = set(Path.cwd().iterdir())
    network, limits = plan["networks"][0], plan["measurement"]
    with run_onnxruntime.Runner(plan, None) as runner:
        watch = timing.Stopwatch(runner.prepare(network, engine))
        watch.warm_up(limits["warmup_s"])
        (result,) = timing.take_samples([watch], limits["min_duration_s"], limits["min_samples"])
        result.update(runner.describe(network, engine))
    assert set(Path.cwd().iterdir()) == before  # no profile left behind
    assert len(result["samples_ms"]) >= 10
    assert result["duration_s"] >= 0.05
    assert result["runtime_version"] == ort.__version__
    assert {"Conv"} <= {layer["op"] for layer in result["layers"]}
    assert sum(layer["share"] for layer in result["layers"]) == pytest.approx(1.0, rel=0, abs=1e-6)
    slack_ms = 0.001
    offsets = result["start_offsets_s"]
    for start, end, latency in zip(offsets, offsets[1:], result["samples_ms"], strict=False):
        assert latency <= (end - start) * 1e3 + slack_ms  # one picture at a time


def test_a_node_of_a_branch_counts_once(plan: dict[str, Any], tmp_path: Path) -> None:
    network, engine = tmp_path / "if.onnx", str(tmp_path / "engine.onnx")
    network.write_bytes(if_model().SerializeToString())
    run_onnxruntime.build(plan, str(network), engine)
    layers = run_onnxruntime.profile_layers(engine, 1, {"x": np.ones(SHAPE, np.float32)})
    ops = [layer["op"] for layer in layers]
    assert ops.count("If") == ops.count("Conv") == 1
    assert "Neg" not in ops  # the other branch did not run


def event(name: str, op: str, ts: int, dur: int) -> dict[str, Any]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": {"op_name": op}}


def test_a_trace_becomes_layers() -> None:
    events = [{"cat": "Session", "name": "model_run", "ts": 0, "dur": 999, "args": {}}]
    for run, slow in enumerate([50, 1, 3, 2]):  # the first run is warm-up
        at = 10_000 * run
        events += [
            event("conv", "Conv", at, 1000 * slow),
            event("gate", "If", at + 5000, 900),
            event("inner", "Conv", at + 5100, 500),
            event("inner2", "Relu", at + 5700, 100),
        ]
    layers = run_onnxruntime.read_profile(events, skip=1)
    assert [(layer["name"], layer["op"], layer["median_ms"]) for layer in layers] == [
        ("conv", "Conv", 2.0), ("gate", "If", 0.3), ("inner", "Conv", 0.5), ("inner2", "Relu", 0.1),
    ]  # fmt: skip
    assert layers[0]["share"] == pytest.approx(2.0 / 2.9, rel=1e-9, abs=0)


@pytest.mark.parametrize("content", [b"", b"not a network", conv_model().SerializeToString()[:300]])
def test_a_corrupt_network_is_refused(plan: dict[str, Any], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(Failed, match="ONNX Runtime refuses the network"):
        run_onnxruntime.build(plan, str(tmp_path / "bad.onnx"), str(tmp_path / "engine.onnx"))
