"""What the shell offers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploycc.terminal import complete


def test_targets_complete_by_name_and_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x86-own.toml", "x86-own.onnx", "boards/mine.toml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert complete.target("x86") == ["x86-cpu", "x86-dgpu-trt10", "x86-rtx", "x86-own.toml"]
    assert complete.target("bo") == ["boards/"]
    assert complete.target("boards/") == ["boards/mine.toml"]
    assert complete.target("no/such/") == []


def test_models_complete_by_name_and_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("street.onnx", "street.prototxt", "street.txt"):
        Path(name).touch()
    assert complete.model("street_ssd_l") == ["street_ssd_lkam"]
    assert complete.model("street.") == ["street.onnx", "street.prototxt"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("deploycc compile street_ssd -t drive", "drive-px2-dgpu\ndrive-px2-igpu"),
        ("deploycc target show x86-c", "x86-cpu"),
        ("deploycc inspect street_ssd_b", "street_ssd_blocks"),
        ("deploycc prune-", "prune-curve"),
    ],
)
def test_bash_is_told(line: str, offered: str) -> None:
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1), "_DEPLOYCC_COMPLETE": "complete_bash"}
    code = "import sys; sys.argv[0] = 'deploycc'; from deploycc.cli import entry; entry()"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **words}, capture_output=True, text=True)
    assert done.stdout.strip() == offered
