"""The agent as one file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

import deploycc.agent
from deploycc.device.agent_file import write_agent


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    write_agent(tmp_path / "agent.pyz")
    return tmp_path / "agent.pyz"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run with the standard library alone: no site packages, no environment, no current folder."""
    return subprocess.run(
        [sys.executable, "-I", "-S", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_same_sources_give_the_same_bytes(agent: Path, tmp_path: Path) -> None:
    first = agent.read_bytes()
    time.sleep(0.01)
    os.utime(Path(deploycc.agent.__file__))
    write_agent(tmp_path / "again.pyz")
    assert (tmp_path / "again.pyz").read_bytes() == first
    assert {info.date_time for info in zipfile.ZipFile(agent).infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_it_holds_the_agent_and_nothing_else(agent: Path) -> None:
    sources = {path.name for path in Path(deploycc.agent.__file__).parent.glob("*.py")}
    names = set(zipfile.ZipFile(agent).namelist())
    assert names == {"__main__.py"} | {f"deploycc_agent/{name}" for name in sources}
    assert os.access(agent, os.X_OK)


def test_it_starts_with_the_standard_library_alone(agent: Path, tmp_path: Path) -> None:
    assert run(agent, "--version").stdout.strip() == deploycc.agent.__version__
    out = tmp_path / "probe.json"
    done = run(agent, "probe", "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(out.read_text())
    assert facts["python"].startswith("3.")
    assert facts["version_onnxruntime"] is None  # no site packages


def test_a_missing_plan_is_said_in_one_line(agent: Path, tmp_path: Path) -> None:
    done = run(agent, "build", tmp_path / "nothing.json")
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot read")
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.pyz"]


def test_wrong_usage(agent: Path) -> None:
    assert run(agent).returncode == 2
    assert run(agent, "destroy").returncode == 2
