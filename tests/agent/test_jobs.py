"""Jobs: a process of its own for each."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import fake_trtexec
import numpy as np
import pytest
from json_edits import edit
from small_networks import SHAPE, conv_model, plan_folder

from deploycc import target
from deploycc.agent import bench_job, build_job, environment, files, jobs, plan_file, processes
from deploycc.agent.__main__ import main
from deploycc.agent.outcome import Failed


def test_no_such_precision(folder: Path) -> None:
    with pytest.raises(Failed, match="no fp16 engine"):
        jobs.bench_all([str(folder / "plan.json")], "fp16", None)


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 2}'])
def test_what_is_no_plan_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(Failed, match=r"plan\.json is not"):
        jobs.build_all(str(tmp_path / "plan.json"))


@pytest.fixture
def board() -> target.Target:
    """A TX2's software on this machine's processor."""
    here = {"architecture": environment.hardware()["architecture"]}
    return target.load("jetson-tx2-jp461").model_copy(update=here)


def test_a_board_with_trtexec(tmp_path: Path, board: target.Target, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_folder = fake_trtexec.install(tmp_path / "bin", monkeypatch)
    plan_folder(tmp_path, board, {"fp32": conv_model(), "fp16": conv_model()})
    plan = str(tmp_path / "plan.json")
    made = jobs.build_all(plan)
    assert [row["status"] for row in made["engines"]] == ["built", "built"]
    files.write_json(made, str(tmp_path / "build.json"))
    [run] = jobs.bench_all([plan], "fp16", None)[0]["runs"]
    assert run["samples_ms"] == [9.0] * 10  # five more were warm-up
    assert run["warmup_samples"] == 5
    assert [layer["share"] for layer in run["layers"]] == [0.75, 0.25]
    assert "means" in run["reason"]
    calls = [json.loads(line) for line in (bin_folder / "calls.jsonl").read_text().splitlines()]
    assert ["--fp16" in call for call in calls] == [False, True, False, False]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bin", "build.json", "engine-fp16.engine", "engine-fp32.engine", "network-fp16.onnx", "network-fp32.onnx",
        "plan.json",
    ]  # fmt: skip


def test_a_builder_that_refuses(tmp_path: Path, board: target.Target, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_trtexec.install(tmp_path / "bin", monkeypatch, "refuse")
    plan_folder(tmp_path, board, {"fp32": conv_model()})
    (row,) = jobs.build_all(str(tmp_path / "plan.json"))["engines"]
    assert row["status"] == "failed"
    assert "conv1: could not find any implementation" in row["reason"]
    assert "set up failed" not in row["reason"]


def test_a_job_that_is_killed_takes_only_itself_along(
    tmp_path: Path, board: target.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_trtexec.install(tmp_path / "bin", monkeypatch, "kill")
    plan_folder(tmp_path, board, {"fp32": conv_model(), "fp16": conv_model()})
    rows = jobs.build_all(str(tmp_path / "plan.json"))["engines"]
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert "was killed by signal 9" in rows[0]["reason"]
    assert "memory runs out" in rows[0]["hint"]


def test_variants_on_a_board_are_measured_one_after_the_other(
    tmp_path: Path, board: target.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_trtexec.install(tmp_path / "bin", monkeypatch)
    plan_folder(tmp_path, board, {"fp32": conv_model(), "fp32 original": conv_model()})
    plan = str(tmp_path / "plan.json")
    files.write_json(jobs.build_all(plan), str(tmp_path / "build.json"))
    runs = jobs.bench_all([plan], None, None)[0]["runs"]
    assert [(run["variant"], run["status"], run["blocks"]) for run in runs] == [
        ("compiled", "measured", [10]),
        ("original", "measured", [10]),
    ]


def test_folders_on_a_board_are_measured_in_turns(
    tmp_path: Path, board: target.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_folder = fake_trtexec.install(tmp_path / "bin", monkeypatch)
    plans = []
    for name in "ab":
        (tmp_path / name).mkdir()
        plan_folder(tmp_path / name, board, {"fp32": conv_model()})
        plans.append(str(tmp_path / name / "plan.json"))
        row = build_job.build(plans[-1], "engine-fp32.engine")
        files.write_json({"engines": [row]}, str(tmp_path / name / "build.json"))
    monkeypatch.setattr(
        jobs,
        "_in_child",
        lambda command, parts, more, limit_s: bench_job.bench(
            [(part.path, part.engine["file"]) for part in parts],
            None,
            rounds=int(more[-1]) if "--rounds" in more else None,
        ),
    )
    (first,), (second,) = (result["runs"] for result in jobs.bench_all(plans, None, None))
    assert first["turns"] == second["turns"] is not None
    assert first["blocks"] == second["blocks"] == [2] * 8  # ten samples in eight blocks
    assert len(first["layers"]) == 2
    calls = [json.loads(line) for line in (bin_folder / "calls.jsonl").read_text().splitlines()]
    timed = [call[0].split("/")[-2] for call in calls if any("--exportTimes" in argument for argument in call)]
    assert "".join(timed) == "abba" * 4
    (bin_folder / "calls.jsonl").unlink()
    (first,), (second,) = (result["runs"] for result in jobs.bench_all(plans, None, None, rounds=2))
    assert first["blocks"] == second["blocks"] == [5, 5]
    assert first["layers"] == second["layers"] == []
    calls = [json.loads(line) for line in (bin_folder / "calls.jsonl").read_text().splitlines()]
    assert ["".join(word.split("=")[0] for word in call if "export" in word) for call in calls] == ["--exportTimes"] * 4
    with pytest.raises(Failed, match="given twice"):
        jobs.bench_all([plans[0], plans[0]], None, None)


def test_engines_that_do_not_fit_together_are_measured_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def child(command: str, parts: Any, more: Any, limit_s: float) -> tuple[int, str]:
        tried.append([part.engine["file"] for part in parts])
        return (-9, "") if len(parts) > 1 else (0, json.dumps([{"file": parts[0].engine["file"]}]))

    monkeypatch.setattr(jobs, "_run_child", child)
    parts = [bench_job.Part("plan.json", {}, {"file": name}) for name in "ab"]
    rows = jobs._in_child("bench-one", parts, [], 60.0)
    assert tried == [["a", "b"], ["a"], ["b"]]
    assert rows == [{"file": "a"}, {"file": "b"}]


def test_a_board_without_trtexec(tmp_path: Path, board: target.Target) -> None:
    plan_folder(tmp_path, board, {"fp32": conv_model()})
    (row,) = jobs.build_all(str(tmp_path / "plan.json"))["engines"]
    assert row["status"] == "not-possible"
    assert "trtexec is not on this machine" in row["reason"]


def test_a_given_input_reaches_trtexec(tmp_path: Path, board: target.Target, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_folder = fake_trtexec.install(tmp_path / "bin", monkeypatch)
    plan_folder(tmp_path, board, {"fp32": conv_model()})
    plan = str(tmp_path / "plan.json")
    files.write_json({"engines": [build_job.build(plan, "engine-fp32.engine")]}, str(tmp_path / "build.json"))
    picture = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    np.save(tmp_path / "x.npy", picture)
    (run,) = bench_job.bench([(plan, "engine-fp32.engine")], str(tmp_path / "x.npy"))
    assert run["status"] == "measured"
    assert (bin_folder / "input").read_bytes() == picture.tobytes()
    (run,) = bench_job.bench([(plan, "engine-fp32.engine")], str(tmp_path / "plan.json"))
    assert (run["status"], "cannot read the input" in run["reason"]) == ("failed", True)


@pytest.mark.parametrize(
    ("banner", "version", "status", "said"),
    [
        (" [TensorRT v8201]", "8.2.1", "built", None),
        (" [TensorRT v8205]", "8.2.5", "built", "this board has TensorRT 8.2.5, and the plan names 8.2.1"),
        (" [TensorRT v8001]", None, "not-possible", "the plan is for TensorRT 8.2.1, and this board has 8.0.1"),
        ("", "8.2.1", "built", "nothing on this board tells TensorRT's release; the plan is for 8.2.1"),
    ],
)
def test_the_release_is_read_from_the_banner(
    tmp_path: Path,
    board: target.Target,
    monkeypatch: pytest.MonkeyPatch,
    banner: str,
    version: str | None,
    status: str,
    said: str | None,
) -> None:
    fake_trtexec.install(tmp_path / "bin", monkeypatch, banner=banner)
    plan_folder(tmp_path, board, {"fp32": conv_model()})
    row = build_job.build(str(tmp_path / "plan.json"), "engine-fp32.engine")
    assert (row["status"], row["builder_version"], row["reason"]) == (status, version, said)


def test_an_engine_of_another_tensorrt_is_refused(
    tmp_path: Path, board: target.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_folder = fake_trtexec.install(tmp_path / "bin", monkeypatch)
    plan_folder(tmp_path, board, {"fp32": conv_model()})
    row = build_job.build(str(tmp_path / "plan.json"), "engine-fp32.engine")
    files.write_json({"engines": [row]}, str(tmp_path / "build.json"))
    fake_trtexec.write(bin_folder / "trtexec", banner=" [TensorRT v8205]")
    (run,) = bench_job.bench([(str(tmp_path / "plan.json"), "engine-fp32.engine")], None)
    assert run["status"] == "failed"
    assert run["reason"] == "the engine was built with TensorRT 8.2.1, and this machine has 8.2.5"


def test_what_was_timed_once_is_kept_per_release_and_gpu(
    tmp_path: Path, board: target.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_folder = fake_trtexec.install(tmp_path / "bin", monkeypatch)
    plan_folder(tmp_path, board, {"fp32": conv_model()})
    for _ in range(2):
        build_job.build(str(tmp_path / "plan.json"), "engine-fp32.engine")
    fake_trtexec.write(bin_folder / "trtexec", banner=" [TensorRT v8205]")
    build_job.build(str(tmp_path / "plan.json"), "engine-fp32.engine")
    caches = bin_folder / "cache" / "deploycc"
    assert {path.name: path.read_text() for path in caches.iterdir()} == {
        "tensorrt-8.2.1-sm6.2.timing": "timed timed ",
        "tensorrt-8.2.5-sm6.2.timing": "timed ",
    }
    shutil.rmtree(caches)
    caches.write_text("in the way")
    assert build_job.build(str(tmp_path / "plan.json"), "engine-fp32.engine")["status"] == "built"


def test_the_workspace_fits_into_the_free_memory(
    tmp_path: Path, board: target.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_folder = fake_trtexec.install(tmp_path / "bin", monkeypatch)
    plan_folder(tmp_path, board, {"fp32": conv_model()})
    monkeypatch.setattr(environment, "memory_mib", lambda field: 100)
    row = build_job.build(str(tmp_path / "plan.json"), "engine-fp32.engine")
    assert (row["status"], row["reason"]) == (
        "built", "built with a workspace of 100 MiB instead of 256 MiB: no more memory is free",
    )  # fmt: skip
    assert "--workspace=100" in (bin_folder / "calls.jsonl").read_text()
    monkeypatch.setattr(environment, "memory_mib", lambda field: 60)
    row = build_job.build(str(tmp_path / "plan.json"), "engine-fp32.engine")
    assert (row["status"], "60 MiB of memory are free" in row["reason"]) == ("not-possible", True)


def test_another_gpu_than_the_plans_is_refused(
    tmp_path: Path, board: target.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_trtexec.install(tmp_path / "bin", monkeypatch)
    fake_trtexec.write(tmp_path / "bin" / "trtexec", capability="7.2")
    plan_folder(tmp_path, board, {"fp32": conv_model()})
    row = build_job.build(str(tmp_path / "plan.json"), "engine-fp32.engine")
    assert row["status"] == "not-possible"
    assert "of compute capability 6.2, and NVIDIA Tegra X2 has 7.2" in row["reason"]
    assert not (tmp_path / "engine-fp32.engine").exists()


def test_a_plan_runs_no_program_of_its_folder(
    tmp_path: Path, board: target.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by its command lines, nor because PATH names the folder that the agent happens to be in."""
    fake_trtexec.write(tmp_path / "trtexec")
    plan_folder(tmp_path, board, {"fp32": conv_model()})
    commands = {"build": [str(tmp_path / "trtexec"), "--saveEngine=x"], "times_file": "../victim.json"}
    edit(tmp_path, "plan.json", lambda plan: plan["engines"][0].update(commands=commands))
    edit(tmp_path, "plan.json", lambda plan: plan["target"].update(trtexec=str(tmp_path / "trtexec")))
    monkeypatch.setenv("PATH", ":.:")
    monkeypatch.chdir(tmp_path)
    row = build_job.build("plan.json", "engine-fp32.engine")
    assert (row["status"], "trtexec is not on this machine" in row["reason"]) == ("not-possible", True)
    assert not (tmp_path / "calls.jsonl").exists()
    row = build_job.build("plan.json", "engine-fp32.engine", str(tmp_path / "trtexec"))  # the user says it
    assert row["status"] == "built"


@pytest.mark.parametrize(
    ("missing", "only", "code"),
    [((), None, 0), (("fp16",), None, 4), (("fp16",), "fp16", 5), (("fp32", "fp16"), None, 5)],
)
def test_exit_codes_tell_whether_all_was_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...], only: str | None, code: int
) -> None:
    rows = {
        "fp32": {"precision": "fp32", "variant": "compiled", "file": "engine-fp32.onnx"},
        "fp16": {"precision": "fp16", "variant": "compiled", "file": "engine-fp16.onnx"},
    }
    plan = {"engines": list(rows.values()), "target": {"name": "b", "builder": "onnxruntime"}}
    plan |= {
        "measurement": {
            "quick": True,
            "warmup_s": 1.0,
            "min_duration_s": 1.0,
            "min_samples": 1,
            "threads": 1,
            "seed": 0,
        },
        "tool": {"deploycc": "1"},
    }
    monkeypatch.setattr(jobs.plan_file, "read_plan", lambda path: plan)
    monkeypatch.setattr(environment, "probe", dict)
    monkeypatch.setattr(processes, "obey_signals", lambda: None)
    for command, good in (("build", "built"), ("bench", "measured")):

        def child(command: str, parts: Any, more: Any, limit_s: float, good: str = good) -> list[dict[str, str]]:
            return [{"status": "failed" if part.engine["precision"] in missing else good} for part in parts]

        monkeypatch.setattr(jobs, "_in_child", child)
        arguments = [command, str(folder / "plan.json"), *(["--only", only] if only and command == "bench" else [])]
        expected = code if command == "bench" or only is None else 4
        assert main(arguments) == expected


def test_a_job_that_takes_too_long_is_ended(
    tmp_path: Path, board: target.Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin_folder = fake_trtexec.install(tmp_path / "bin", monkeypatch, "hang")
    plan_folder(tmp_path, board, {"fp32": conv_model()})
    plan = plan_file.read_plan(str(tmp_path / "plan.json"))

    def wait(pipe: int, limit_s: float) -> None:
        while not (bin_folder / "pid").exists():
            time.sleep(0.01)

    monkeypatch.setattr(jobs.processes.Child, "read", lambda self, pipe, limit_s: wait(pipe, limit_s))
    made = jobs._in_child("build-one", [bench_job.Part(str(tmp_path / "plan.json"), plan, plan["engines"][0])], [], 5.0)
    assert made[0]["status"] == "failed"
    assert "took more than 5 s and was ended" in made[0]["reason"]
    assert "--time-limit" in made[0]["hint"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((bin_folder / "pid").read_text()), 0)
    assert not list(tmp_path.glob(".deploycc-agent-*"))


def test_reading_has_a_limit() -> None:
    for script, read in (("import os; os.write({}, b'done')", b"done"), ("import time; time.sleep(60)", None)):
        end, write_end = os.pipe()
        arguments = [sys.executable, "-S", "-c", script.format(write_end)]
        child = processes.Child(arguments, True, pass_fds=[write_end])
        os.close(write_end)
        assert child.read(end, 20.0 if read else 0.05) == read
        child.end()
        os.close(end)


def test_a_name_that_the_locale_cannot_spell_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python 3.5 and 3.6 in the C locale, as over ssh or in a container."""

    def build(*given: Any) -> None:
        "Gr\u00f6\u00dfe.onnx".encode("ascii")

    monkeypatch.setattr(jobs, "build_all", build)
    monkeypatch.setattr(processes, "obey_signals", lambda: None)
    assert main(["build", "plan.json"]) == 1
    assert "set LC_ALL=C.UTF-8" in capsys.readouterr().err
