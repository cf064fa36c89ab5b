"""Measurements by commit: the nearest earlier one is what a change is compared with."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import sample_reports
from sample_reports import latency, run, samples

from deploycc.cli import main
from deploycc.errors import EXIT_BUDGET, ArtefactError, InputError
from deploycc.workflows.baselines import find_baseline, keep_baseline

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def output(path: Path, median_ms: float) -> Path:
    path.mkdir(parents=True)
    for document in (sample_reports.compiled(), latency(run(samples(median_ms=median_ms)))):
        (path / document.FILE_NAME).write_text(document.to_json(), encoding="utf-8")
    (path / "engine.onnx").write_bytes(b"large")
    return path


@pytest.fixture
def commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three commits, the first one first; the last one is checked out, and this process works there."""
    found = []
    (tmp_path / "code").mkdir()
    monkeypatch.chdir(tmp_path / "code")
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "init", "-q"], check=True)
    for number in range(3):
        subprocess.run(["git", *who, "commit", "-q", "--allow-empty", "-m", str(number)], check=True)
        told = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
        found.append(told.stdout.strip())
    return found


def test_the_nearest_earlier_commit_is_compared_with(
    commits: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, candidate = tmp_path / "store", output(tmp_path / "new" / "cpu", 10.0)
    with pytest.raises(ArtefactError) as caught:
        find_baseline(store, candidate)
    assert caught.value.code == "baseline-missing"
    for commit, median_ms in ((commits[0], 9.0), (commits[1], 10.0), (commits[2], 20.0)):
        folder = output(tmp_path / commit / "cpu", median_ms)
        [kept] = keep_baseline(store, [folder.parent], commit)
        assert kept == store / commit / "cpu"
        assert sorted(path.name for path in kept.iterdir()) == ["compile.json", "latency.json"]
    assert find_baseline(store, candidate) == store / commits[1] / "cpu"  # its own commit is not a baseline
    assert find_baseline(store, candidate.parent) == store / commits[1]
    assert find_baseline(store, candidate, "HEAD~2") == store / commits[0] / "cpu"
    arguments = ["report", "check", str(candidate), "--baseline", str(store), "--max-regression", "5%"]
    assert main(arguments) == 0
    assert commits[1] in capsys.readouterr().err
    assert main([*arguments, "--commit", commits[0]]) == EXIT_BUDGET
    assert main([*arguments[:3], str(candidate), *arguments[3:]]) == 2
    shutil.rmtree(store / commits[1])
    assert main(arguments) == EXIT_BUDGET


def test_what_was_kept_before_is_replaced(
    commits: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, store = output(tmp_path / "out", 10.0), tmp_path / "store"
    for _ in range(2):
        assert main(["report", "baseline", str(folder), "--store", str(store)]) == 0
        assert capsys.readouterr().out.strip() == str(store / commits[2] / "out")
    assert [path.name for path in (store / commits[2]).iterdir()] == ["out"]
    with pytest.raises(ArtefactError):
        keep_baseline(store, [tmp_path / "code"], commits[0])
    assert not (store / commits[0]).exists()


def test_a_commit_that_is_not_here_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for commit in (None, "HEAD", "--all"):
        with pytest.raises(InputError) as caught:
            keep_baseline(tmp_path / "store", [output(tmp_path / str(commit), 1.0)], commit)
        assert caught.value.code == "no-commit"
