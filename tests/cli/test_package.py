"""keys, package and verify from the command line, and the agent's commands on what they wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bundles import board_folder

from deploycc.agent_host.zipapp import write_agent
from deploycc.cli import main


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a compiled folder, keys, a bundle and the agent."""
    place = tmp_path_factory.mktemp("place")
    board_folder(place / "out")
    write_agent(place / "agent.pyz")
    assert main(["keys", str(place / "me")]) == 0
    made = main(["package", str(place / "out"), "--key", str(place / "me.key"), "-o", str(place / "b.tar")])
    assert made == 0
    return place


def agent(place: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(place / "agent.pyz"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_verify_shows_the_chain(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(place / "b.tar"), "--key", str(place / "me.pub")]) == 0
    shown = capsys.readouterr()
    assert "signed and unchanged" in shown.err
    assert "engine-fp32.engine (fp32)" in shown.out


def test_verify_as_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(place / "b.tar"), "--key", str(place / "me.pub"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["target"] == "jetson-tx2-jp461"


def test_verify_needs_a_key_for_a_bundle_and_none_for_a_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(place / "b.tar")]) == 1
    assert "--key PUB" in capsys.readouterr().err
    assert main(["verify", str(place / "out")]) == 0
    assert "nobody signed them" in capsys.readouterr().err


def test_keys_are_not_replaced(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (place / "me.key").read_bytes()
    assert main(["keys", str(place / "me")]) == 1
    assert "error[key-exists]" in capsys.readouterr().err
    assert (place / "me.key").read_bytes() == before


def test_the_key_is_not_overwritten_by_the_bundle(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = str(place / "me.key")
    assert main(["package", str(place / "out"), "--key", key, "-o", key]) == 1
    assert "error[output-is-the-input]" in capsys.readouterr().err


def test_the_agent_installs_lists_and_rolls_back(place: Path, tmp_path: Path) -> None:
    root, key = ("--root", tmp_path), ("--key", place / "me.pub")
    refused = agent(place, "verify", place / "b.tar", *key)
    assert refused.returncode == 1
    assert "error: the bundle is for aarch64, and this machine is" in refused.stderr
    installed = agent(place, "install", place / "b.tar", *key, *root)
    assert installed.returncode == 0, installed.stderr
    [row] = json.loads(agent(place, "list", *root).stdout)
    assert (row["role"], row["target"]) == ("current", "jetson-tx2-jp461")
    back = agent(place, "rollback", *root)
    assert (back.returncode, back.stderr.split(" below")[0]) == (1, "error: there is no previous release")
    prepared = agent(place, "prepare", *root)
    assert "this machine is" in prepared.stderr
