"""Exit statuses, streams, and what a bug looks like."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from deploycc import __version__, cli
from deploycc.cli import inspect, main
from deploycc.errors import (
    EXIT_BUDGET,
    EXIT_BUG,
    EXIT_DIAGNOSED,
    EXIT_INTERRUPTED,
    EXIT_UNDECIDED,
    EXIT_USAGE,
    DeployError,
)
from deploycc.terminal import process


def test_version_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"deploycc {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["compile"], ["report", "compare", "one"], ["inspect", "--what"]]
)
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert "Usage" in captured.err
    assert captured.out == ""


def test_a_diagnosed_error_is_status_1_on_stderr_without_a_traceback(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["inspect", str(tmp_path / "nothing.onnx")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error[")
    assert "Traceback" not in captured.err
    assert captured.out == ""


def _failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def load(self: object, say: object) -> None:
        raise error

    monkeypatch.setattr(inspect.ModelChoice, "load", load)
    return main(["inspect", "x.onnx"])


def test_a_bug_is_status_70_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _failing(monkeypatch, ZeroDivisionError("planted")) == 70
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "planted" in err
    assert "bug of deploycc" in err


def test_ctrl_c_is_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _failing(monkeypatch, KeyboardInterrupt()) == 130


@pytest.mark.usefixtures("hangups_heard")
@pytest.mark.parametrize(
    ("number", "ignored"),
    [(signal.SIGTERM, False), (signal.SIGHUP, False), (signal.SIGQUIT, False), (signal.SIGHUP, True)],
)
def test_a_signal_ends_a_command_as_ctrl_c_does(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, ignored: bool
) -> None:
    """A closed terminal, `kill` and `timeout`: what is half done is cleaned up. Under nohup it goes on."""
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT)
    before = {each: signal.getsignal(each) for each in numbers}
    monkeypatch.setattr(process, "_signals", [])
    monkeypatch.setattr(cli, "main", lambda: signal.raise_signal(number))
    if ignored:
        signal.signal(number, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit if ignored else KeyboardInterrupt):
            cli.entry()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_ctrl_c_inside_a_library_is_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process, "_signals", [signal.SIGINT])
    assert _failing(monkeypatch, ImportError("initialization failed")) == 130
    assert capsys.readouterr().err == ""


def test_a_full_disk_is_diagnosed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "net.onnx")
    assert _failing(monkeypatch, full) == 1
    assert "error[disk-full]" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 7.28 TiB for an array"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 17 bytes."),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_memory_that_does_not_suffice_is_diagnosed(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _failing(monkeypatch, error) == 1
    err = capsys.readouterr().err
    assert "error[out-of-memory]" in err
    assert f"note: {error}" in err
    assert "hint: " in err


@dataclass(frozen=True)
class NumericOption:
    """An option that takes a number."""

    command: Any
    spelling: str
    whole: bool


@pytest.fixture(scope="module")
def numeric_options() -> list[NumericOption]:
    program: Any = typer.main.get_command(cli.app)
    cli._refuse_endless_numbers(program)
    found = []
    for names in _commands():
        command = program
        for name in names:
            command = command.commands[name]
        hints = typing.get_type_hints(command.callback) if command.callback else {}
        for parameter in command.params:
            kinds = {hints.get(parameter.name), *typing.get_args(hints.get(parameter.name))} & {int, float}
            found += [NumericOption(command, parameter.opts[-1], kind is int) for kind in kinds]
    assert len(found) > 20
    return found


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999", "9" * 30])
def test_no_numeric_option_takes_what_is_not_a_number_or_what_no_counter_holds(
    number: str, numeric_options: list[NumericOption], capsys: pytest.CaptureFixture[str]
) -> None:
    for option in numeric_options:
        if option.whole or not number.isdigit():
            with pytest.raises(Exception, match=r"Input should|finite|larger|not a percentage") as caught:
                option.command.make_context("command", [option.spelling, number])
            assert type(caught.value).__name__ == "BadParameter"  # typer may have its own click
            assert caught.value.param.opts[-1] == option.spelling
    assert main(["compile", "model.onnx", "--target", "x86-cpu", "--threads", number]) == 2
    assert "Invalid value for '--threads'" in capsys.readouterr().err


def test_what_the_disk_refuses_is_diagnosed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _failing(monkeypatch, OSError(errno.EROFS, "Read-only file system", "out/x")) == 1
    err = capsys.readouterr().err
    assert "error[file-refused]" in err
    assert "Read-only file system" in err
    assert "Traceback" not in err


def _commands() -> list[tuple[str, ...]]:
    """Every command and group of commands; the first is the program itself."""

    def below(command: Any, names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield names
        for name, each in getattr(command, "commands", {}).items():
            yield from below(each, (*names, name))

    return list(below(typer.main.get_command(cli.app), ()))


def test_every_command_is_in_the_help_and_its_summary_is_not_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for names in _commands()[1:]:
        if len(names) == 1:
            assert f"\n  {names[0]} " in out
    assert "..." not in out.partition("Commands:")[2]


@pytest.mark.parametrize("names", _commands(), ids=" ".join)
def test_help_fits_80_columns(
    names: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*names, "-h"]) == 0
    short = capsys.readouterr().out
    assert main([*names, "--help"]) == 0
    assert capsys.readouterr().out == short
    assert max(map(len, short.splitlines())) <= 80
    assert "…" not in short
    assert "..." not in short.partition("Commands:")[2]


def test_the_help_lists_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    table = capsys.readouterr().out.partition("Exit status:\n")[2]
    statuses = [int(line.split()[0]) for line in table.splitlines()]
    assert statuses == [0, EXIT_DIAGNOSED, EXIT_USAGE, EXIT_BUDGET, EXIT_UNDECIDED, EXIT_BUG, EXIT_INTERRUPTED]


def test_an_error_spells_parameters_as_options_of_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = DeployError("x", "`random_weights`, `round_to` and `gate`", hint="`output=out` or `scale=2`")
    assert _failing(monkeypatch, error) == 1
    assert "--random-weights, --round-to and `gate`\n  hint: --output out or --scale 2" in capsys.readouterr().err


def test_start_up_imports_no_heavy_library() -> None:
    """`deploycc --help` stays quick because of this; the time itself is a benchmark."""
    heavy = [
        "numpy",
        "onnx",
        "onnxruntime",
        "onnx_graphsurgeon",
        "pydantic",
        "matplotlib",
        "PIL",
        "jinja2",
        "rich",
        "torch",
        "tensorrt_rtx",
    ]
    code = f"import sys, deploycc.cli; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_module_runs_as_the_script_does() -> None:
    done = subprocess.run([sys.executable, "-m", "deploycc", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"deploycc {__version__}\n"
    assert callable(cli.entry)


def test_streams_that_the_caller_closed_are_no_bug(tmp_path: Path) -> None:
    """Nothing can be said, and the exit status still tells how it went; no file gets the number of a stream."""
    command = f'"{sys.executable}" -m deploycc target show jetson-tx2-jp46 <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 0
    command = f'"{sys.executable}" -m deploycc target show nothing <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 1
