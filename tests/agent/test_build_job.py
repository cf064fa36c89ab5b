"""Building an engine; what is refused before a builder sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from json_edits import edit

from deploycc.agent import build_job, environment, files


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


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/hostname", "link.onnx"])
def test_a_file_outside_the_folder_is_refused(folder: Path, name: str) -> None:
    (folder / "link.onnx").symlink_to("/etc/hostname")
    edit(folder, "plan.json", lambda plan: plan["networks"][0].update(file=name))
    row = build_job.build(str(folder / "plan.json"), "engine-fp32.onnx")
    assert (row["status"], "not inside the plan's folder" in row["reason"]) == ("failed", True)


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
