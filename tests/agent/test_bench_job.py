"""Measuring engines; which are refused, and how several take turns."""

from __future__ import annotations

import itertools
import shutil
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
from json_edits import edit
from small_networks import conv_model, if_model, plan_folder

from deploycc import target
from deploycc.agent import bench_job, build_job, files, jetson, run_onnxruntime, run_trtexec, timing
from deploycc.agent.outcome import Failed, NotPossible
from deploycc.agent.scenario import Scenario


def bench(folder: Path) -> dict[str, Any]:
    (row,) = bench_job.bench([(str(folder / "plan.json"), "engine-fp32.onnx")], None)
    return row


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


@pytest.mark.parametrize(("here", "status"), [("32.7.1", "failed"), ("32.6.1", "measured"), (None, "measured")])
def test_an_engine_of_another_release_is_refused(
    built: Path, monkeypatch: pytest.MonkeyPatch, here: str | None, status: str
) -> None:
    edit(built, "build.json", lambda made: made.update(environment={"l4t": "32.6.1"}))
    monkeypatch.setattr(jetson, "release", lambda: here)
    row = bench(built)
    assert row["status"] == status
    if here == "32.7.1":
        assert row["reason"] == "the engine was built under L4T 32.6.1, and this board has 32.7.1"


def test_what_was_not_built_is_not_measured(built: Path) -> None:
    change = {"status": "not-possible", "reason": "no GPU", "hint": "buy one"}
    edit(built, "build.json", lambda made: made["engines"][0].update(change))
    row = bench(built)
    assert (row["status"], row["reason"], row["hint"]) == ("not-possible", "not built: no GPU", "buy one")


PLANNED = ["engine-fp32.onnx", "engine-fp32-original.onnx"]


@pytest.fixture
def variants(tmp_path: Path) -> Path:
    """A plan of a network and the one it was compiled from, both built."""
    plan_folder(tmp_path, target.load("x86-cpu"), {"fp32": conv_model(), "fp32 original": if_model()})
    rows = [build_job.build(str(tmp_path / "plan.json"), name) for name in PLANNED]
    files.write_json({"engines": rows}, str(tmp_path / "build.json"))
    return tmp_path


class Runner:
    """A runtime that writes down what it is asked for."""

    def __init__(self, broken: str | None = None) -> None:
        self.broken = broken
        self.log: list[str] = []
        self.engines: list[weakref.ref[Any]] = []
        self.entered = False

    def __enter__(self) -> Runner:
        self.entered = True
        return self

    def __exit__(self, *error: Any) -> None:
        self.entered = False
        assert not [engine for engine in self.engines if engine() is not None]

    def prepare(self, network: dict[str, Any], engine: str) -> Any:
        assert self.entered
        name = Path(engine).name

        def run_once() -> None:
            if self.broken == name:
                raise Failed("it does not run")
            self.log.append(name)
            time.sleep(0.001)

        self.engines.append(weakref.ref(run_once))
        return run_once

    def describe(self, network: dict[str, Any], engine: str) -> dict[str, Any]:
        assert not self.entered
        assert Path(engine).parent.joinpath(network["file"]).exists()
        return {"layers": [], "device": "any", "runtime_version": "1"}


def bench_variants(folder: Path, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    monkeypatch.setattr(run_onnxruntime, "Runner", lambda plan, input_file: runner)
    return bench_job.bench([(str(folder / "plan.json"), name) for name in PLANNED], None)


def test_variants_are_measured_in_turns_in_one_run(variants: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner()
    compiled, original = bench_variants(variants, runner, monkeypatch)
    assert (compiled["variant"], original["variant"]) == ("compiled", "original")
    assert compiled["engine"]["sha256"] == files.sha256_of(str(variants / PLANNED[0]))
    assert original["engine"]["sha256"] == files.sha256_of(str(variants / PLANNED[1]))
    assert len(compiled["blocks"]) == len(original["blocks"]) >= 8
    order = [name for name, _ in itertools.groupby(runner.log)]
    assert order == [*PLANNED, *[PLANNED[number % 2] for number in range(len(compiled["blocks"]) + 1)]]  # warm-up first
    assert {job["environment_after"]["load_1min"] for job in (compiled, original)} != {None}


def test_a_variant_that_does_not_run_leaves_the_other_alone(variants: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, original = bench_variants(variants, Runner(broken=PLANNED[1]), monkeypatch)
    assert (original["status"], original["reason"], original["engine"]) == ("failed", "it does not run", None)
    assert compiled["status"] == "measured"
    assert compiled["blocks"] == [len(compiled["samples_ms"])]


def test_a_variant_that_was_not_built_leaves_the_other_alone(variants: Path) -> None:
    (variants / PLANNED[0]).unlink()
    compiled, original = bench_job.bench([(str(variants / "plan.json"), name) for name in PLANNED], None)
    assert (compiled["status"], original["status"]) == ("failed", "measured")
    assert len(original["blocks"]) == 1


def test_a_runtime_that_is_not_here_is_said_of_both(variants: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(plan: Any, input_file: Any) -> Any:
        raise NotPossible("no runtime")

    monkeypatch.setattr(run_onnxruntime, "Runner", absent)
    rows = bench_job.bench([(str(variants / "plan.json"), name) for name in PLANNED], None)
    assert [(row["status"], row["reason"]) for row in rows] == [("not-possible", "no runtime")] * 2


def part(path: str, builder: str, precision: str, variant: str = "compiled") -> bench_job.Part:
    engine = {"precision": precision, "variant": variant}
    return bench_job.Part(path, {"target": {"builder": builder}}, engine)


def test_engines_of_one_precision_are_a_group_unless_programs_run_them() -> None:
    for builder, grouped in (("onnxruntime", [[0, 2], [1]]), ("trtexec", [[0], [1], [2]])):
        parts = [part("a", builder, "fp32"), part("a", builder, "fp16"), part("a", builder, "fp32", "original")]
        assert bench_job.groups(parts) == [[parts[number] for number in group] for group in grouped]


@pytest.mark.parametrize("builder", ["onnxruntime", "trtexec"])
def test_engines_of_one_precision_are_a_group_across_plans(builder: str) -> None:
    parts = [part("a", builder, "fp32"), part("b", builder, "fp16"), part("b", builder, "fp32")]
    assert bench_job.groups(parts) == [[parts[0], parts[2]], [parts[1]]]


def test_engines_of_several_plans_take_turns(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    shutil.copytree(built, other, ignore=shutil.ignore_patterns("other"))
    runner = Runner()
    runner.describe = lambda network, engine: {"layers": [], "device": "any", "runtime_version": "1"}  # type: ignore[method-assign]
    monkeypatch.setattr(run_onnxruntime, "Runner", lambda plan, input_file: runner)
    rows = bench_job.bench([(str(folder / "plan.json"), "engine-fp32.onnx") for folder in (built, other)], None)
    assert [row["status"] for row in rows] == ["measured", "measured"]
    assert rows[0]["turns"] == rows[1]["turns"] is not None
    assert len(rows[0]["blocks"]) == len(rows[1]["blocks"]) >= 8
    alone = bench(built)
    assert (alone["turns"], alone["scenario"]) == (None, None)


@pytest.mark.parametrize(
    ("folders", "quick", "scenario", "most_times"),
    [
        (2, False, Scenario(), 4),
        (2, True, Scenario(), 1),
        (1, False, Scenario(), 1),
        (2, False, Scenario("single-stream", seconds=0.01), 1),
    ],
)
def test_only_engines_that_are_compared_are_measured_longer(
    built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    folders: int,
    quick: bool,
    scenario: Scenario,
    most_times: int,
) -> None:
    limits = {"warmup_s": 0.0, "min_duration_s": 10.0, "min_samples": 100, "quick": quick}
    edit(built, "plan.json", lambda plan: plan["measurement"].update(limits))
    other = tmp_path / "other"
    shutil.copytree(built, other, ignore=shutil.ignore_patterns("other"))
    seen, take_samples = [], timing.take_samples

    def shortly(watches: Any, min_duration_s: float, min_samples: int, period_s: Any, most_times: int) -> Any:
        seen.append(most_times)
        return take_samples(watches, 0.01, 1)

    monkeypatch.setattr(timing, "take_samples", shortly)
    engines = [(str(folder / "plan.json"), "engine-fp32.onnx") for folder in (built, other)[:folders]]
    rows = bench_job.bench(engines, None, None, scenario)
    assert [row["status"] for row in rows] == ["measured"] * folders
    assert seen == [most_times]


@pytest.mark.parametrize(("quick", "given", "rounds"), [(False, None, 32), (True, None, 8), (False, 3, 3)])
def test_a_program_is_started_until_pairs_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool, given: int | None, rounds: int
) -> None:
    """Blocks of which every other one takes twice as long never tell."""
    paths, asked = [], []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        plan_folder(folder, target.load("jetson-tx2-jp461"), {"fp32": conv_model()})
        edit(
            folder,
            "plan.json",
            lambda plan: plan["measurement"].update(min_duration_s=10.0, min_samples=100, quick=quick),
        )
        paths.append((str(folder / "plan.json"), "engine-fp32.engine"))

    class Board:
        def __init__(self, plan: Any, folder: str, program: str | None, like: Any) -> None:
            self.blocks = 0
            self.limits = plan["measurement"]

        def time(self, network: Any, built: Any, path: str, input_file: Any) -> dict[str, Any]:
            self.blocks += 1
            asked.append((path, self.limits["min_duration_s"]))
            samples_ms = [1.0 if len(asked) % 2 else 2.0] * 3
            return {
                "samples_ms": samples_ms,
                "start_offsets_s": [0.0, 0.002, 0.004],
                "blocks": [3],
                "duration_s": 1e-9,
                "warmup_samples": 1,
                "warmup_s": 0.1,
                "device": "board",
                "runtime_version": "8.2",
                "reason": None,
            }

        def profile(self, network: Any, path: str) -> dict[str, Any]:
            return {"layers": [], "remark": None}

    monkeypatch.setattr(run_trtexec, "Board", Board)
    monkeypatch.setattr(bench_job, "check_engine", lambda engine, folder: {"sha256": "0" * 64})
    rows = bench_job.bench(paths, None, rounds=given)
    assert [row["status"] for row in rows] == ["measured", "measured"]
    assert [row["blocks"] for row in rows] == [[3] * rounds] * 2
    order = "".join(Path(path).parent.name for path, _ in asked)
    assert order == ("abba" * rounds)[: 2 * rounds]
    assert {seconds for _, seconds in asked} == {10.0 / (given or 8)}


def test_a_constant_stream_says_so(built: Path) -> None:
    scenario = Scenario("constant-stream", 5.0, 0.05)
    (row,) = bench_job.bench([(str(built / "plan.json"), "engine-fp32.onnx")], None, None, scenario)
    assert (row["status"], row["scenario"]) == ("measured", {"name": "constant-stream", "period_ms": 5.0})
    assert row["start_offsets_s"] == pytest.approx([0.005 * number for number in range(10)], rel=0, abs=1e-9)
    assert row["constraints"] == {"min_duration_s": 10.0, "min_samples": 100000}
