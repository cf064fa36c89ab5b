"""Jobs: a process of its own for each."""

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


def test_variants_on_a_board_are_measured_one_after_the_other(tmp_path: Path, board: target.Target) -> None:
    fake_trtexec.write(tmp_path / "trtexec")
    plan_folder(tmp_path, board, {"fp32": conv_model(), "fp32 original": conv_model()})
    plan = str(tmp_path / "plan.json")
    files.write_json(jobs.build_all(plan), str(tmp_path / "build.json"))
    runs = jobs.bench_all(plan, None, None)["runs"]
    assert [(run["variant"], run["status"], run["blocks"]) for run in runs] == [
        ("compiled", "measured", [10]),
        ("original", "measured", [10]),
    ]


def test_engines_that_do_not_fit_together_are_measured_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def child(command: str, plan_path: str, engines: Any, more: Any) -> tuple[int, str]:
        tried.append([engine["file"] for engine in engines])
        return (-9, "") if len(engines) > 1 else (0, json.dumps([{"file": engines[0]["file"]}]))

    monkeypatch.setattr(jobs, "_run_child", child)
    rows = jobs._in_child("bench-one", {}, "plan.json", [{"file": "a"}, {"file": "b"}])
    assert tried == [["a", "b"], ["a"], ["b"]]
    assert rows == [{"file": "a"}, {"file": "b"}]


def test_a_board_without_trtexec(tmp_path: Path, board: target.Target) -> None:
    plan_folder(tmp_path, board, {"fp32": conv_model()})
    (row,) = jobs.build_all(str(tmp_path / "plan.json"))["engines"]
    assert row["status"] == "not-possible"
    assert "trtexec is not on this machine" in row["reason"]
