"""Commands of deploycc in forked children, which have its imports already, within limits of processor time and memory."""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import runpy
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

LIMIT_CPU_S = 20  # of each process: a loaded machine is not a hang
LIMIT_S = 8 * LIMIT_CPU_S  # for what waits without end
LIMIT_BYTES = 3 << 30
MARK = "DEPLOYCC_FUZZ"
"""Variable that marks the processes of one command."""


def import_all() -> None:
    """Load what commands load, once: every child has it. No session is opened here, which a fork would not survive."""
    for name in (
        *("onnxruntime", "numpy", "PIL.Image", "onnx", "onnx_graphsurgeon", "jinja2"),
        *("deploycc.passes", "deploycc.report.html"),
        *(f"deploycc.workflows.{name}" for name in ("compile", "evaluate", "gates", "predict", "rebuild", "report")),
    ):
        importlib.import_module(name)


def run(command: Sequence[str], place: Path, said: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run ``deploycc`` in a child of this process, within the limits.

    Args:
        command: its arguments.
        place: working folder.
        said: file that receives what it prints.
        environment: variables to add.

    Returns:
        The exit status, negative for a signal, and what it said.
    """
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            _become(command, place, said, environment)
        os._exit(99)
    timer = threading.Timer(LIMIT_S, os.killpg, (child, signal.SIGKILL))
    timer.start()
    _, status = os.waitpid(child, 0)
    timer.cancel()
    text = said.read_text(encoding="utf-8", errors="surrogateescape") if said.exists() else ""
    return os.waitstatus_to_exitcode(status), text


def limit() -> None:
    """Limit this process, and those that it starts."""
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_CPU_S, LIMIT_CPU_S + 2))


def deploycc(command: Sequence[str]) -> int:
    """Do what ``python -m deploycc`` does, in this process; return the exit status."""
    before, sys.argv = sys.argv, ["deploycc", *command]
    try:
        runpy.run_module("deploycc", run_name="__main__")
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0


def strays(mark: str) -> list[int]:
    """Return the processes that a command has left, whose environment had this mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={mark}\0".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def _become(command: Sequence[str], place: Path, said: Path, environment: Mapping[str, str]) -> None:
    """Turn this child into the command."""
    os.setsid()
    os.chdir(place)
    output = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    for number in (1, 2):
        os.dup2(output, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(environment)
    tempfile.tempdir = None
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + LIMIT_BYTES, in_use + LIMIT_BYTES))
    limit()
    status = deploycc(command)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
