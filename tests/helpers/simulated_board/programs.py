"""Programs of simulated boards, written into a folder: each starts a module of this package."""

from __future__ import annotations

import json
import sys
import sysconfig
from pathlib import Path
from typing import Any

_START = """#!{python} -IS
import sys
sys.path.insert(0, {helpers!r})
from simulated_board import {module}
sys.exit({module}.main(__file__, sys.argv[1:]))
"""
_HELPERS = str(Path(__file__).resolve().parents[1])


def write_program(path: Path, module: str) -> Path:
    """Write a program that calls ``main(path, arguments)`` of a module of this package."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_START.format(python=sys.executable, helpers=_HELPERS, module=module))
    path.chmod(0o755)
    return path


def write_trtexec(path: Path, **settings: Any) -> Path:
    """Write trtexec with its settings (see `simulated_board.trtexec`); those that are left out are a TX2's."""
    release = settings.get("release", "8.2.1")
    defaults = {
        "release": release,
        "banner": banner_of(release),
        "device": "NVIDIA Tegra X2",
        "capability": "6.2",
        "behaviour": "work",
        "times": 9.0,
        "build_s": 0.0,
        "longest_s": None,
        "packages": sysconfig.get_path("purelib"),
        "load": None,
    }
    write_program(path, "trtexec")
    path.with_name("trtexec.json").write_text(json.dumps({**defaults, **settings}))
    return path


def change_settings(path: Path, **settings: Any) -> None:
    """Change the settings of a program that is there, by its path."""
    file = path.with_name(f"{path.name}.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def banner_of(release: str) -> str:
    """Return what a banner says of a release: nothing up to 7.x, and from 10.4 on the number of the build too."""
    major, minor, patch = map(int, release.split(".")[:3])
    if major < 8:
        return ""
    number = major * (1000 if major < 10 else 10000) + minor * 100 + patch
    return f" [TensorRT v{number}]" + (" [b9]" if (major, minor) >= (10, 4) else "")
