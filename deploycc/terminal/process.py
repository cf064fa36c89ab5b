"""How a program of the command line meets signals and closed streams."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path

_signals: list[int] = []
"""Signals that asked this process to end."""


def end_on_signals() -> None:
    """Let `timeout`, CI and a closed terminal end a run as Ctrl-C does: cleaned up."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and a shell's background job for Ctrl-C
            signal.signal(number, _interrupt)


def was_interrupted() -> bool:
    """Return whether a signal asked this process to end."""
    return bool(_signals)


def open_streams() -> None:
    """Open what the caller closed of input, output and error, so that no file that is opened later takes its number.

    A path that is not UTF-8 leaves on stdout as it came in.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - stays open
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")


def _interrupt(number: int, frame: object) -> None:
    """Note the signal: libraries written in C turn a KeyboardInterrupt inside them into errors of their own."""
    _signals.append(number)
    raise KeyboardInterrupt
