"""Jobs: one process an engine; what is refused before a builder sees it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fake_trtexec
import pytest
from small_networks import conv_model, plan_folder

from deploycc import target
from deploycc.agent import environment, files, jobs
from deploycc.agent.outcome import Failed

NAME = "x86-cpu"


def edit(folder: Path, name: str, change: Any) -> None:
    value = json.loads((folder / name).read_text())
    change(value)
    (folder / name).write_text(json.dumps(value))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plan_folder(tmp_path, target.load(NAME), {"fp32": conv_model()})
    return tmp_path


@pytest.fixture
def built(folder: Path) -> Path:
    row = jobs.build_one(str(folder / "plan.json"), "engine-fp32.onnx")
    assert row["status"] == "built"
    files.write_json({"engines": [row]}, str(folder / "build.json"))
    return folder


def bench(folder: Path) -> dict[str, Any]:
    return jobs.bench_one(str(folder / "plan.json"), "engine-fp32.onnx", None)


def test_a_built_engine_is_described(built: Path) -> None:
    (row,) = json.loads((built / "build.json").read_text())["engines"]
    assert row["sha256"] == files.sha256_of(str(built / row["file"]))
    assert row["size_bytes"] == (built / row["file"]).stat().st_size
    assert 0 < row["build_seconds"] < 60
    assert row["peak_memory_mib"] > 10
    assert not list(built.glob("*.partial"))


def test_a_changed_network_is_refused(folder: Path) -> None:
    with (folder / "network-fp32.onnx").open("ab") as file:
        file.write(b"\0")
    row = jobs.build_one(str(folder / "plan.json"), "engine-fp32.onnx")
    assert row["status"] == "failed"
    assert "not the file the plan was made for" in row["reason"]


def test_a_missing_network_is_refused(folder: Path) -> None:
    (folder / "network-fp32.onnx").unlink()
    row = jobs.build_one(str(folder / "plan.json"), "engine-fp32.onnx")
    assert (row["status"], "cannot read" in row["reason"]) == ("failed", True)


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/hostname", "link.onnx"])
def test_a_file_outside_the_folder_is_refused(folder: Path, name: str) -> None:
    (folder / "link.onnx").symlink_to("/etc/hostname")
    edit(folder, "plan.json", lambda plan: plan["networks"][0].update(file=name))
    row = jobs.build_one(str(folder / "plan.json"), "engine-fp32.onnx")
    assert (row["status"], "not inside the plan's folder" in row["reason"]) == ("failed", True)


def test_another_architecture_is_not_possible(folder: Path) -> None:
    edit(folder, "plan.json", lambda plan: plan["target"].update(architecture="riscv64"))
    row = jobs.build_one(str(folder / "plan.json"), "engine-fp32.onnx")
    assert row["status"] == "not-possible"
    assert "the target is riscv64" in row["reason"]
    assert "agent.pyz build plan.json" in row["hint"]


def test_too_little_memory_is_not_possible(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(folder, "plan.json", lambda plan: plan["target"].update(workspace_mib=2048))
    monkeypatch.setattr(environment, "memory_mib", lambda field: 2047)
    row = jobs.build_one(str(folder / "plan.json"), "engine-fp32.onnx")
    assert row["status"] == "not-possible"
    assert "2047 MiB of memory are free, and the build needs at least 2048 MiB" in row["reason"]
    monkeypatch.setattr(environment, "memory_mib", lambda field: 2048)
    assert jobs.build_one(str(folder / "plan.json"), "engine-fp32.onnx")["status"] == "built"


def test_measuring_says_what_ran(built: Path) -> None:
    row = bench(built)
    assert row["status"] == "measured"
    assert row["engine"]["sha256"] == files.sha256_of(str(built / "engine-fp32.onnx"))
    assert row["constraints"] == {"min_duration_s": 10.0, "min_samples": 100}
    assert row["environment_after"]["load_1min"] is not None


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "build.json").unlink(), "no build.json beside the plan"),
        (lambda folder: (folder / "engine-fp32.onnx").unlink(), "the engine engine-fp32.onnx is gone"),
        (lambda folder: (folder / "engine-fp32.onnx").write_bytes(b"other"), "is not the engine that build.json names"),
        (
            lambda folder: edit(folder, "build.json", lambda made: made["engines"][0].update(network_sha256="0" * 64)),
            "built from another network",
        ),
        (lambda folder: edit(folder, "build.json", lambda made: made["engines"].clear()), "built from another network"),
    ],
)
def test_a_stale_engine_is_refused(built: Path, damage: Any, said: str) -> None:
    damage(built)
    row = bench(built)
    assert row["status"] == "failed"
    assert said in row["reason"]
    assert row["hint"].startswith("build it again")
    assert row["samples_ms"] == []


def test_what_was_not_built_is_not_measured(built: Path) -> None:
    change = {"status": "not-possible", "reason": "no GPU", "hint": "buy one"}
    edit(built, "build.json", lambda made: made["engines"][0].update(change))
    row = bench(built)
    assert (row["status"], row["reason"], row["hint"]) == ("not-possible", "not built: no GPU", "buy one")


def test_no_such_precision(folder: Path) -> None:
    with pytest.raises(Failed, match="no fp16 engine"):
        jobs.bench_all(str(folder / "plan.json"), "fp16", None)


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 2}'])
def test_what_is_no_plan_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(Failed, match=r"plan\.json is not"):
        jobs.build_all(str(tmp_path / "plan.json"))


@pytest.fixture
def board(tmp_path: Path) -> target.Target:
    """A TX2's software on this machine's processor, with a program that stands in for trtexec."""
    tx2 = target.load("jetson-tx2-jp461")
    here = {"architecture": environment.hardware()["architecture"], "trtexec": str(tmp_path / "trtexec")}
    return tx2.model_copy(update=here)


def test_a_board_with_trtexec(tmp_path: Path, board: target.Target) -> None:
    fake_trtexec.write(tmp_path / "trtexec")
    plan_folder(tmp_path, board, {"fp32": conv_model(), "fp16": conv_model()})
    plan = str(tmp_path / "plan.json")
    made = jobs.build_all(plan)
    assert [row["status"] for row in made["engines"]] == ["built", "built"]
    files.write_json(made, str(tmp_path / "build.json"))
    run = jobs.bench_all(plan, "fp16", None)["runs"][0]
    assert run["samples_ms"] == [9.0] * 10  # five more were warm-up
    assert run["warmup_samples"] == 5
    assert [layer["share"] for layer in run["layers"]] == [0.75, 0.25]
    assert "means" in run["reason"]
    calls = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert ["--fp16" in call for call in calls] == [False, True, False, False]
    assert not list(tmp_path.glob("*.partial"))


def test_a_builder_that_refuses(tmp_path: Path, board: target.Target) -> None:
    fake_trtexec.write(tmp_path / "trtexec", "refuse")
    plan_folder(tmp_path, board, {"fp32": conv_model()})
    (row,) = jobs.build_all(str(tmp_path / "plan.json"))["engines"]
    assert row["status"] == "failed"
    assert "conv1: could not find any implementation" in row["reason"]


def test_a_job_that_is_killed_takes_only_itself_along(tmp_path: Path, board: target.Target) -> None:
    fake_trtexec.write(tmp_path / "trtexec", "kill")
    plan_folder(tmp_path, board, {"fp32": conv_model(), "fp16": conv_model()})
    rows = jobs.build_all(str(tmp_path / "plan.json"))["engines"]
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert "was killed by signal 9" in rows[0]["reason"]
    assert "memory runs out" in rows[0]["hint"]


def test_a_board_without_trtexec(tmp_path: Path, board: target.Target) -> None:
    plan_folder(tmp_path, board, {"fp32": conv_model()})
    (row,) = jobs.build_all(str(tmp_path / "plan.json"))["engines"]
    assert row["status"] == "not-possible"
    assert "trtexec is not on this machine" in row["reason"]
