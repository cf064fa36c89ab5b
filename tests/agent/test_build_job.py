"""Building an engine; what is refused before a builder sees it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from json_edits import edit

from deploycc.agent import build_job, environment, files
from deploycc.agent.outcome import Failed


def test_a_built_engine_is_described(built: Path) -> None:
    (row,) = json.loads((built / "build.json").read_text())["engines"]
    assert row["sha256"] == files.sha256_of(str(built / row["file"]))
    assert row["size_bytes"] == (built / row["file"]).stat().st_size
    assert 0 < row["build_seconds"] < 60
    assert row["peak_memory_mib"] > 10
    assert not list(built.glob("*.partial"))


def test_a_changed_network_is_refused(folder: Path) -> None:
    with (folder / "network-fp32.onnx").open("ab") as file:
        file.write(b"\0")
    row = build_job.build(str(folder / "plan.json"), "engine-fp32.onnx")
    assert row["status"] == "failed"
    assert "not the file the plan was made for" in row["reason"]


def test_a_missing_network_is_refused(folder: Path) -> None:
    (folder / "network-fp32.onnx").unlink()
    row = build_job.build(str(folder / "plan.json"), "engine-fp32.onnx")
    assert (row["status"], "cannot read" in row["reason"]) == ("failed", True)


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/hostname", "-o", "a/../../b", "", "a\nb"])
def test_a_name_that_leaves_the_folder_is_refused(folder: Path, name: str) -> None:
    edit(folder, "plan.json", lambda plan: plan["networks"][0].update(file=name))
    with pytest.raises(Failed, match=r"networks\.0\.file: must be"):
        build_job.build(str(folder / "plan.json"), "engine-fp32.onnx")


def test_a_link_that_leaves_the_folder_is_refused(folder: Path) -> None:
    (folder / "link.onnx").symlink_to("/etc/hostname")
    edit(folder, "plan.json", lambda plan: plan["networks"][0].update(file="link.onnx"))
    row = build_job.build(str(folder / "plan.json"), "engine-fp32.onnx")
    assert (row["status"], "not inside the plan's folder" in row["reason"]) == ("failed", True)


def test_a_pipe_in_place_of_a_network_keeps_nobody_waiting(folder: Path) -> None:
    (folder / "network-fp32.onnx").unlink()
    os.mkfifo(folder / "network-fp32.onnx")
    row = build_job.build(str(folder / "plan.json"), "engine-fp32.onnx")
    assert (row["status"], "not an ordinary file" in row["reason"]) == ("failed", True)


def test_nothing_is_written_through_links(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Links planted at the names that a build writes lead to a file that must stay as it is."""
    victim = tmp_path_factory.mktemp("elsewhere") / "victim"
    victim.write_text("mine")
    for name in ("engine-fp32.onnx", "engine-fp32.onnx.partial", "build.json.partial", "build.json"):
        (folder / name).symlink_to(victim)
    row = build_job.build(str(folder / "plan.json"), "engine-fp32.onnx")
    files.write_json({"engines": [row]}, str(folder / "build.json"))
    assert row["status"] == "built"
    assert victim.read_text() == "mine"
    assert not (folder / "engine-fp32.onnx").is_symlink()
    assert not (folder / "build.json").is_symlink()


def test_another_architecture_is_not_possible(folder: Path) -> None:
    edit(folder, "plan.json", lambda plan: plan["target"].update(architecture="riscv64"))
    row = build_job.build(str(folder / "plan.json"), "engine-fp32.onnx")
    assert row["status"] == "not-possible"
    assert "the target is riscv64" in row["reason"]
    assert "agent.pyz build plan.json" in row["hint"]


def test_too_little_memory_is_not_possible(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(folder, "plan.json", lambda plan: plan["target"].update(workspace_mib=2048))
    monkeypatch.setattr(environment, "memory_mib", lambda field: 2047)
    row = build_job.build(str(folder / "plan.json"), "engine-fp32.onnx")
    assert row["status"] == "not-possible"
    assert "2047 MiB of memory are free, and the build needs at least 2048 MiB" in row["reason"]
    monkeypatch.setattr(environment, "memory_mib", lambda field: 2048)
    assert build_job.build(str(folder / "plan.json"), "engine-fp32.onnx")["status"] == "built"
