"""What reaches a terminal and what reaches a pipe."""

from __future__ import annotations

import sys
import time

import pytest

from deploycc.cli import console
from deploycc.progress import prefixed, quiet


def _on_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int = 80) -> None:
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_step_under_ten_seconds_is_silent_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("profile") as say:
        say("measuring pictures", 1, 2)
    assert capsys.readouterr().err == ""


def test_a_long_step_prints_plain_lines_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_LINE_EVERY_S", 0.05)
    with console.progress("profile") as say:
        for done in (1, 2):
            say("measuring pictures", done, 2)
            time.sleep(0.2)  # the line is printed once, though it is shown four times as long
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["profile: measuring pictures 1/2", "profile: measuring pictures 2/2"]


def test_a_counted_step_is_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _on_a_terminal(monkeypatch)
    with console.progress("profile") as say:
        say("reading [bold]model[/]")
        time.sleep(0.2)
        for done in range(5):
            say("measuring pictures", done, 9)
            time.sleep(0.05)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "profile: reading [bold]model[/]" in captured.err
    assert "profile: measuring pictures" in captured.err
    assert "4/9" in captured.err
    assert "━" in captured.err


def test_a_prefix_leaves_the_count() -> None:
    seen: list[tuple[str, int, int]] = []
    prefixed(lambda what, done=0, total=0: seen.append((what, done, total)), "fp16")("writing", 1, 3)
    assert seen == [("fp16: writing", 1, 3)]
    quiet("writing", 1, 3)
