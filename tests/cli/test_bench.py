"""``deploycc bench``: its exit status tells whether every engine was measured."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import sample_reports

from deploycc import cli
from deploycc.agent_host.session import Scenario
from deploycc.documents.latency import Run
from deploycc.workflows import devices, output_folder, rebuild

MEASURED = sample_reports.run(sample_reports.samples())


@pytest.mark.parametrize(
    ("runs", "status", "said"),
    [
        ((MEASURED,), 0, ""),
        ((sample_reports.unmeasured(),), 1, "no engine was measured"),
        ((MEASURED, sample_reports.unmeasured("fp16")), 1, "not every engine was measured"),
    ],
)
def test_the_status_tells_whether_all_was_measured(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    runs: tuple[Run, ...],
    status: int,
    said: str,
) -> None:
    monkeypatch.setattr(devices, "session_on", lambda *given: contextlib.nullcontext())
    monkeypatch.setattr(rebuild, "bench_folders", lambda *given: [sample_reports.latency(*runs)])
    monkeypatch.setattr(output_folder, "summarise_folder", lambda folder: ["summary"])
    assert cli.main(["bench", str(tmp_path)]) == status
    captured = capsys.readouterr()
    assert said in captured.err
    assert "summary" in captured.err
    assert captured.out.strip() == str(tmp_path / "latency.json")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the command asks for, and reports of two engines measured in turns, the second 20 % slower."""
    calls: list[Any] = []
    first, second = sample_reports.runs_in_turns(
        sample_reports.samples(seed=1), sample_reports.samples(seed=2, median_ms=12.0), 12
    )
    runs = (first, second.model_copy(update={"variant": "compiled"}))
    reports = [sample_reports.latency(run.model_copy(update={"turns": "a" * 16})) for run in runs]

    def bench(folders: Any, say: Any, only: Any, input_file: Any, session: Any, note: Any, *how: Any) -> Any:
        calls.append(how[0])
        return reports[: len(folders)]

    monkeypatch.setattr(devices, "session_on", lambda *given: contextlib.nullcontext())
    monkeypatch.setattr(rebuild, "bench_folders", bench)
    monkeypatch.setattr(output_folder, "summarise_folder", lambda folder: ["summary"])
    return calls


def test_several_folders_are_compared_with_the_first(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "a", "b"]) == 0
    told = capsys.readouterr()
    assert told.out.split() == ["a/latency.json", "b/latency.json"]
    assert "b against a" in told.err
    assert "slower (" in told.err
    assert "from blocks measured in turns" in told.err


@pytest.mark.parametrize(
    ("options", "scenario"),
    [
        ([], None),
        (["--single-stream"], Scenario("single-stream")),
        (["--single-stream", "--seconds", "20"], Scenario("single-stream", seconds=20.0)),
        (["--period", "66.7ms"], Scenario("constant-stream", 66.7)),
        (["--period", "0.1 s", "--seconds", "5"], Scenario("constant-stream", 100.0, 5.0)),
    ],
)
def test_options_name_the_scenario(asked: list[Any], options: list[str], scenario: Scenario | None) -> None:
    assert cli.main(["bench", "a", *options]) == 0
    assert asked == [scenario]


@pytest.mark.parametrize(
    "options",
    [
        ["--seconds", "5"],
        ["--single-stream", "--period", "5ms"],
        ["--period", "5"],
        ["--period", "0ms"],
        ["--period", "2h"],
        ["--period", "61s"],
    ],
)
def test_scenarios_that_make_no_sense_are_wrong_usage(asked: list[Any], options: list[str]) -> None:
    assert cli.main(["bench", "a", *options]) == 2
    assert asked == []
