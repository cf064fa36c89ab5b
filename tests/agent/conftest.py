"""A plan of one small network, and its engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_networks import conv_model, plan_folder

from deploycc import target
from deploycc.agent import build_job, files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    plan_folder(tmp_path, target.load("x86-cpu"), {"fp32": conv_model()})
    return tmp_path


@pytest.fixture
def built(folder: Path) -> Path:
    row = build_job.build(str(folder / "plan.json"), "engine-fp32.onnx")
    assert row["status"] == "built"
    files.write_json({"engines": [row]}, str(folder / "build.json"))
    return folder
