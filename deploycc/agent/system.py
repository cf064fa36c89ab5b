"""Small files of the kernel and the system, and what programs say: None where they are absent or refuse."""

import glob
import os
import shutil
import subprocess
import threading
from typing import Any, List, Optional

ROOT = "/"


def read(path: str) -> "Optional[str]":
    """A small text file's content, stripped; None where it is absent, forbidden, or has nothing to say just now."""
    try:
        with open(_below_root(path), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return None


def listed(pattern: str) -> "List[str]":
    """Paths that match a pattern, sorted."""
    top = ROOT.rstrip("/")
    return sorted(path[len(top) :] for path in glob.glob(_below_root(pattern)))


def _below_root(path: str) -> str:
    return os.path.join(ROOT, path.lstrip("/"))


def number(text: "Optional[str]") -> "Optional[int]":
    """A whole number, or None."""
    return int(text) if text and text.lstrip("-").isdigit() else None


def scaled(text: "Optional[str]", factor: float) -> "Optional[float]":
    """A whole number times a factor, or None."""
    value = number(text)
    return None if value is None else value * factor


def first_line(text: "Optional[str]") -> "Optional[str]":
    """The first line, or None of nothing."""
    return text.splitlines()[0].lstrip("# ") if text else None


def find_program(name: str) -> bool:
    """Return whether a program is on PATH."""
    return shutil.which(name) is not None


def command_output(arguments: "List[str]") -> "Optional[str]":
    """What a program says, its lines joined with semicolons; None where it is absent or refuses."""
    if shutil.which(arguments[0]) is None:
        return None
    try:
        output = subprocess.check_output(arguments, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = output.decode("utf-8", "replace").splitlines()
    return "; ".join(line.strip() for line in lines if line.strip()) or None


def _start(arguments: "List[str]") -> "Any":
    return subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def first_output_line(arguments: "List[str]", wait_s: float) -> "Optional[str]":
    """The first line of a program that goes on talking, which is ended then."""
    if shutil.which(arguments[0]) is None:
        return None
    try:
        child = _start(arguments)
    except OSError:
        return None
    timer = threading.Timer(wait_s, child.kill)
    timer.start()
    try:
        return child.stdout.readline(1 << 16).decode("utf-8", "replace").strip() or None
    finally:
        timer.cancel()
        child.kill()
        child.wait()
        child.stdout.close()
