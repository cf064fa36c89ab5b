"""This machine as a place to build and measure: the agent runs as it would on a board."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fake_trtexec
import numpy as np
import pytest
from small_networks import SHAPE, conv_model, if_model, nms_model, plan_folder

from deploycc import target
from deploycc.agent import environment
from deploycc.agent.scratch import Scratch
from deploycc.agent_host import local
from deploycc.agent_host.session import AgentStopped
from deploycc.agent_host.temporary import temporary_folder
from deploycc.documents.build import read_build_result
from deploycc.errors import ArtefactError, BuildError, MeasureError
from deploycc.files import sha256_of

HERE = environment.hardware()["architecture"]


@pytest.fixture
def cpu() -> target.Target:
    return target.load("x86-cpu").model_copy(update={"architecture": HERE})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_build_and_bench(tmp_path: Path, cpu: target.Target) -> None:
    plan = plan_folder(tmp_path, cpu, {"fp32": conv_model(), "fp16": conv_model("fp16")})
    said: list[str] = []
    result = local.build(tmp_path, said.append)
    assert [engine.status for engine in result.engines] == ["built", "built"]
    assert result == read_build_result(tmp_path)
    assert result.plan_sha256 == sha256_of(tmp_path / "plan.json")
    for engine in result.engines:
        assert engine.sha256 == sha256_of(tmp_path / engine.file)
        assert engine.network_sha256 == plan.network(engine.precision).sha256
    assert any("engine-fp16.onnx" in line for line in said)

    report = local.bench(tmp_path / "plan.json", said.append)
    assert report.quick
    assert [run.precision for run in report.runs] == ["fp32", "fp16"]
    for run, engine in zip(report.runs, result.engines, strict=True):
        assert run.status == "measured"
        assert run.engine is not None
        assert run.engine.sha256 == engine.sha256
        assert run.network_sha256 == engine.network_sha256
        assert len(run.samples_ms) >= 10
        assert run.layers
    assert names(tmp_path) == [
        "build.json", "engine-fp16.onnx", "engine-fp32.onnx", "network-fp16.onnx", "network-fp32.onnx", "plan.json",
    ]  # fmt: skip


def test_two_variants_of_a_network(tmp_path: Path, cpu: target.Target) -> None:
    plan_folder(tmp_path, cpu, {"fp32": conv_model(), "fp32 original": if_model(), "fp16": conv_model("fp16")})
    result = local.build(tmp_path)
    assert [(engine.precision, engine.variant) for engine in result.engines] == [
        ("fp32", "compiled"), ("fp32", "original"), ("fp16", "compiled"),
    ]  # fmt: skip
    assert len({engine.sha256 for engine in result.engines}) == 3
    runs = local.bench(tmp_path, only="fp32").runs
    assert [(run.variant, run.status) for run in runs] == [("compiled", "measured"), ("original", "measured")]
    assert [run.engine and run.engine.sha256 for run in runs] == [engine.sha256 for engine in result.engines[:2]]
    assert [run.network_sha256 for run in runs] == [engine.network_sha256 for engine in result.engines[:2]]
    assert len(runs[0].blocks) == len(runs[1].blocks) >= 8  # in turns


def test_bench_of_one_engine_with_a_given_picture(tmp_path: Path, cpu: target.Target) -> None:
    plan_folder(tmp_path, cpu, {"fp32": conv_model(), "fp16": conv_model("fp16")})
    local.build(tmp_path)
    np.save(tmp_path / "x.npy", np.zeros(SHAPE, np.float32))
    report = local.bench(tmp_path, only="fp16", input_file=tmp_path / "x.npy")
    assert [run.precision for run in report.runs] == ["fp16"]
    with pytest.raises(MeasureError) as caught:
        local.check_measured(local.bench(tmp_path, input_file=tmp_path / "absent.npy"))
    assert caught.value.code == "measure-failed"
    assert "absent.npy" in caught.value.render()


def test_tensorrt_rtx_builds_here_and_runs_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the extra 'rtx'")
    plan_folder(tmp_path, target.load("x86-rtx"), {"fp32": if_model(), "fp16": conv_model("fp16")})
    result = local.build(tmp_path)
    assert [engine.status for engine in result.engines] == ["built", "built"]
    assert "CONDITION" in {layer.type for layer in result.engines[0].layers}
    assert "HALF" in {layer.precision for layer in result.engines[1].layers}
    if environment.hardware()["gpu"] is None:
        report = local.bench(tmp_path)
        assert {run.status for run in report.runs} == {"not-possible"}
        assert "has none" in str(report.runs[0].reason)


def test_a_refused_network_names_its_node(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the extra 'rtx'")
    plan_folder(tmp_path, target.load("x86-rtx"), {"fp32": nms_model()})
    with pytest.raises(BuildError) as caught:
        local.build(tmp_path)
    assert caught.value.code == "build-failed"
    assert "suppress" in caught.value.context["node"]
    assert "no runners" in str(caught.value.note)
    assert names(tmp_path) == ["build.json", "network-fp32.onnx", "plan.json"]


def test_a_corrupt_network_is_a_build_error(tmp_path: Path, cpu: target.Target) -> None:
    plan_folder(tmp_path, cpu, {"fp32": b"no network"})
    with pytest.raises(BuildError, match="ONNX Runtime refuses the network"):
        local.build(tmp_path)
    with pytest.raises(MeasureError, match="not built"):
        local.check_measured(local.bench(tmp_path))


def test_a_board_that_is_not_attached(tmp_path: Path) -> None:
    board = target.load("jetson-tx2-jp461").model_copy(update={"architecture": "another"})
    plan_folder(tmp_path, board, {"fp32": conv_model()})
    (engine,) = local.build(tmp_path).engines
    assert engine.status == "not-possible"
    assert engine.sha256 is None
    assert "python3 agent.pyz build plan.json" in str(engine.hint)
    report = local.bench(tmp_path)
    assert [run.status for run in report.runs] == ["not-possible"]
    local.check_measured(report)
    with pytest.raises(MeasureError, match="no engine was measured") as caught:
        local.check_measured(report, every=True)
    assert caught.value.code == "not-measured"


def test_a_missing_plan(tmp_path: Path) -> None:
    for step in (local.build, local.bench):
        with pytest.raises(ArtefactError):
            step(tmp_path)


def test_a_plan_without_that_engine(tmp_path: Path, cpu: target.Target) -> None:
    plan_folder(tmp_path, cpu, {"fp32": conv_model()})
    with pytest.raises(MeasureError) as caught:
        local.bench(tmp_path, only="int8")
    assert caught.value.code == "no-such-engine"


class Stopped:
    """A session whose agent ends without a result."""

    def run_agent(self, plans: Sequence[Path], arguments: list[str], on_progress: Any) -> bytes:
        raise AgentStopped(-9, ("parsing", "Killed"))


class Answers:
    """A session whose agent writes what the test says."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def run_agent(self, plans: Sequence[Path], arguments: list[str], on_progress: Any) -> bytes:
        return self.answer


@pytest.mark.parametrize("answer", [b"{", b'{"schema": 1}', b'{"schema": 2}'])
def test_an_answer_that_is_not_the_agents_is_refused(tmp_path: Path, cpu: target.Target, answer: bytes) -> None:
    plan_folder(tmp_path, cpu, {"fp32": conv_model()})
    for step in (local.build, local.bench):
        with pytest.raises(ArtefactError):
            step(tmp_path, session=Answers(answer))
    assert names(tmp_path) == ["network-fp32.onnx", "plan.json"]


def test_an_agent_that_stops_is_quoted(tmp_path: Path, cpu: target.Target) -> None:
    plan_folder(tmp_path, cpu, {"fp32": conv_model()})
    for step, kind in ((local.build, BuildError), (local.bench, MeasureError)):
        with pytest.raises(kind) as caught:
            step(tmp_path, session=Stopped())
        assert caught.value.code == "agent-stopped"
        assert caught.value.note == "parsing | Killed"
    assert names(tmp_path) == ["network-fp32.onnx", "plan.json"]


def test_a_folder_that_cannot_be_written(tmp_path: Path, cpu: target.Target) -> None:
    """A directory stands where the engine belongs; permissions would not stop root."""
    plan_folder(tmp_path, cpu, {"fp32": conv_model()})
    (tmp_path / "engine-fp32.onnx").mkdir()
    with pytest.raises(BuildError, match="cannot write"):
        local.build(tmp_path)
    assert not list(tmp_path.glob("*.partial"))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return status != "Z"


def test_ctrl_c_ends_every_process_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, temporary = tmp_path / "out", tmp_path / "tmp"
    folder.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    bin_folder = fake_trtexec.install(tmp_path / "bin", monkeypatch, "hang")
    plan_folder(folder, board_here(), {"fp32": conv_model()})
    seen: list[list[Path]] = []

    def interrupt(line: str) -> None:
        if line == "building":
            seen.append(list(folder.glob(".deploycc-agent-*/engine.out")))
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        local.build(folder, interrupt)
    assert len(seen[0]) == 1  # there was something to clean up
    assert not alive(int((bin_folder / "pid").read_text()))
    assert names(folder) == ["network-fp32.onnx", "plan.json"]
    assert names(temporary) == []


def board_here() -> target.Target:
    return target.load("jetson-tx2-jp461").model_copy(update={"architecture": HERE})


@pytest.mark.parametrize("victim", ["host", "agent"])
def test_a_killed_parent_takes_everything_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str) -> None:
    """And what it left is found and removed at the next start."""
    folder, temporary = tmp_path / "out", tmp_path / "tmp"
    folder.mkdir()
    temporary.mkdir()
    bin_folder = fake_trtexec.install(tmp_path / "bin", monkeypatch, "hang")
    plan_folder(folder, board_here(), {"fp32": conv_model()})
    script = (
        f"from deploycc.agent_host import local; from pathlib import Path; local.build(Path({str(folder)!r}), print)"
    )
    monkeypatch.setenv("TMPDIR", str(temporary))
    with subprocess.Popen([sys.executable, "-uc", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as host:
        assert host.stdout is not None
        assert b"building\n" in iter(host.stdout.readline, b"")
        pids = {"host": host.pid, "agent": int(Path(f"/proc/{host.pid}/task/{host.pid}/children").read_text())}
        os.kill(pids[victim], signal.SIGKILL)
        host.communicate(timeout=30)
    deadline = time.monotonic() + 10
    everything = [int((bin_folder / "pid").read_text()), pids["agent"]]
    while any(alive(pid) for pid in everything) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [pid for pid in everything if alive(pid)] == []
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with temporary_folder(), Scratch(str(folder)):
        pass
    assert names(folder) == ["network-fp32.onnx", "plan.json"]
    assert names(temporary) == []


def test_plans_for_different_targets_are_not_measured_in_turns(tmp_path: Path, cpu: target.Target) -> None:
    for name, board in (("a", cpu), ("b", target.load("x86-rtx"))):
        (tmp_path / name).mkdir()
        plan_folder(tmp_path / name, board, {"fp32": conv_model()})
    with pytest.raises(MeasureError) as caught:
        local.bench_in_turns([tmp_path / "a", tmp_path / "b"])
    assert caught.value.code == "bench-targets-differ"


@pytest.mark.parametrize("answer", [b"{", b"{}", b"[]"])
def test_an_answer_for_several_plans_is_a_list(tmp_path: Path, cpu: target.Target, answer: bytes) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        plan_folder(tmp_path / name, cpu, {"fp32": conv_model()})
    with pytest.raises(ArtefactError, match="not a list"):
        local.bench_in_turns([tmp_path / "a", tmp_path / "b"], session=Answers(answer))
