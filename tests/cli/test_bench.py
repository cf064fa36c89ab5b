"""``deploycc bench``: its exit status tells whether every engine was measured."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import sample_reports

from deploycc import cli
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
    monkeypatch.setattr(rebuild, "bench_folder", lambda *given: sample_reports.latency(*runs))
    monkeypatch.setattr(output_folder, "summarise_folder", lambda folder: ["summary"])
    assert cli.main(["bench", str(tmp_path)]) == status
    captured = capsys.readouterr()
    assert said in captured.err
    assert "summary" in captured.err
    assert captured.out.strip() == str(tmp_path / "latency.json")
