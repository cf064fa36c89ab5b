"""trtexec of a simulated board, whose pictures all take 9 ms: for tests of what surrounds a measurement."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from simulated_board.programs import write_trtexec


def write(path: Path, behaviour: str = "work", banner: str = " [TensorRT v8201]", capability: str = "6.2") -> Path:
    """Write the program, which keeps its calls in ``calls.jsonl`` and its last input in ``input`` beside itself.

    Args:
        path: of the program.
        behaviour: see `simulated_board.trtexec`.
        banner: what its banner says of the release; without one it is 8.2.1.
        capability: compute capability of the GPU that it says it selected.
    """
    number = re.search(r"v(\d)(\d)(\d\d)\]", banner)
    release = ".".join(str(int(part)) for part in number.groups()) if number else "8.2.1"
    return write_trtexec(path, behaviour=behaviour, banner=banner, capability=capability, release=release)


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str = "work", banner: str = " [TensorRT v8201]"
) -> Path:
    """Write the program as ``trtexec`` into a folder and make that the only one on PATH; return the folder."""
    write(folder / "trtexec", behaviour, banner)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    return folder
