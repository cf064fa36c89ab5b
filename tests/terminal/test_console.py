"""What reaches a terminal and what reaches a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from deploycc.cli import main
from deploycc.errors import DeployError
from deploycc.progress import prefixed, quiet
from deploycc.target import names
from deploycc.terminal import console


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
            say("measuring\x1b[2J pictures", done, 2)
            time.sleep(0.2)  # the line is printed once, though it is shown four times as long
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"profile: measuring\\x1b[2J pictures {done}/2" for done in (1, 2)]


def test_a_counted_step_is_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _on_a_terminal(monkeypatch)
    with console.progress("profile") as say:
        say("reading [bold]model[/]\x1b]0;title\x07")
        time.sleep(0.2)
        for done in range(5):
            say("measuring pictures", done, 9)
            time.sleep(0.05)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "profile: reading [bold]model[/]\\x1b]0;title" in captured.err
    assert "\x1b]0;" not in captured.err
    assert "profile: measuring pictures" in captured.err
    assert "4/9" in captured.err
    assert "━" in captured.err


def test_what_is_said_beside_a_bar_goes_above_it() -> None:
    code = (
        "from deploycc.terminal import console\n"
        "with console.progress('profile') as say:\n"
        "    say('measuring pictures', 3, 3)\n"
        "    say('writing the report')\n"
        "    console.say('x86-cpu: street', ['one ' * 30])\n"
    )
    shown = _on_a_pty([sys.executable, "-c", code], 80)
    assert "\rx86-cpu: street\n" in shown
    assert " one one\n" in shown
    assert max(map(len, shown.replace("\r", "\n").splitlines())) <= 80
    assert not {"3/3", "--:--", "━"} & set(shown.partition("writing the report")[2].split())


def test_a_prefix_leaves_the_count() -> None:
    seen: list[tuple[str, int, int]] = []
    prefixed(lambda what, done=0, total=0: seen.append((what, done, total)), "fp16")("writing", 1, 3)
    assert seen == [("fp16: writing", 1, 3)]
    quiet("writing", 1, 3)


LONG = "the network takes 1.715 of the time of the dense network at /a/folder/with/a/long/name/that/stays/whole.onnx"


def test_a_note_is_one_line_in_a_pipe_and_wrapped_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console.note(LONG)
    assert capsys.readouterr().err == f"note: {LONG}\n"
    _on_a_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    console.note(LONG)
    assert capsys.readouterr().err == (
        "note: the network takes 1.715 of the time of the dense network at\n"
        "      /a/folder/with/a/long/name/that/stays/whole.onnx\n"
    )


def test_an_error_is_wrapped_below_its_labels(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = DeployError("too-slow", LONG, context={"evidence": "measured"}, hint=LONG)
    console.fail(error)
    assert capsys.readouterr().err == error.render() + "\n"
    _on_a_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    console.fail(error)
    assert _plain(capsys.readouterr().err) == (
        "error[too-slow]: the network takes 1.715 of the time of the dense network at\n"
        "    /a/folder/with/a/long/name/that/stays/whole.onnx\n"
        "  evidence: measured\n"
        "  hint: the network takes 1.715 of the time of the dense network at\n"
        "        /a/folder/with/a/long/name/that/stays/whole.onnx\n"
    )


def test_no_colour_where_the_user_wants_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _on_a_terminal(monkeypatch)
    console.warn("look")
    assert "\x1b[33m" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    console.warn("look")
    assert "\x1b" not in capsys.readouterr().err


HOSTILE = "a\x1b[2Jb\nc\u202ed"
SAFE = r"a\x1b[2Jb\x0ac\x202ed"


def test_control_characters_do_not_reach_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    for terminal in (False, True):
        if terminal:
            _on_a_terminal(monkeypatch)
            monkeypatch.setenv("NO_COLOR", "1")
        console.table(["layer"], [[HOSTILE]])
        console.note(HOSTILE)
        console.fail(DeployError("x", HOSTILE, context={"file": HOSTILE}))
        console.say("title", [HOSTILE])
        captured = capsys.readouterr()
        assert captured.out.splitlines()[1] == SAFE
        assert captured.err.count(SAFE) == 4
        console.print_json({"name": HOSTILE})
        shown = capsys.readouterr().out
        assert json.loads(shown) == {"name": HOSTILE}
        assert "\x1b" not in shown
    console.out(HOSTILE)
    assert capsys.readouterr().out == SAFE + "\n"


def test_what_is_written_is_said_on_stderr_and_given_on_stdout_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console.wrote(Path("out/a.json"), Path("out/a.html"))
    assert capsys.readouterr() == ("", "wrote out/a.json\nwrote out/a.html\n")
    console.wrote(Path("out"), answer=True)
    assert capsys.readouterr() == ("out\n", "wrote out\n")
    _on_a_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    console.wrote(Path("out"), answer=True)
    assert capsys.readouterr() == ("", "wrote out\n")


def test_parameters_are_spelled_as_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "options", {"round_to": "--round-to", "keep_gates": "--keep-gates", "model": "MODEL"})
    assert console.spelled("`round_to=16` needs no timing") == "--round-to 16 needs no timing"
    assert console.spelled("give `keep_gates` or `keep_gates=True`") == "give --keep-gates or --keep-gates"
    assert console.spelled("`model` and `profile` and `deploycc prune`") == "MODEL and `profile` and `deploycc prune`"


def _on_a_pty(command: list[str], width: int) -> str:
    """What a program shows on a terminal of this width."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 60, width, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    environment |= {"NO_COLOR": "1", "TERM": "xterm"}
    with subprocess.Popen(command, stdin=there, stdout=there, stderr=there, env=environment) as process:
        os.close(there)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal is gone when the program has ended
            while part := os.read(here, 4096):
                shown += part
        os.close(here)
    assert process.returncode == 0
    return _plain(shown.decode().replace("\r\n", "\n"))


@pytest.mark.parametrize(
    "command",
    [["target", "list"], ["target", "show", "jetson-xavier-jp512"], ["inspect", "street_ssd_lkam", "--layers"]],
)
def test_on_a_terminal_of_80_columns_lines_fit_and_names_stay_whole(
    command: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    shown = _on_a_pty([sys.executable, "-m", "deploycc", *command], 80)
    assert main(command) == 0
    piped = capfd.readouterr().out
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80 < max(map(len, piped.splitlines()))
    if command[1] == "list":
        assert {line.split()[0] for line in lines} >= set(names())
    for word in ("backend.0.4/conv/", "jetson-xavier-jp512", "TensorRT 8.5.2"):
        assert (word in shown) == (word in piped)


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
