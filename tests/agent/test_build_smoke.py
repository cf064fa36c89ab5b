"""A builder that writes a broken engine without a word: the engine is refused, here and wherever the folder goes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import deploycc
from deploycc.agent import build_job, run_onnxruntime
from deploycc.agent_host.remote import _needed
from deploycc.documents.contract import read_contract

TINY = Path(__file__).parents[1] / "models" / "tiny_ssd.prototxt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("smoke") / "out"
    detector = deploycc.load(TINY, random_weights=1)
    deploycc.compile(detector, "x86-cpu", out, deploycc.CompileSettings(build=False))
    return out


def build_zeros(plan: dict[str, Any], network: str, partial: str) -> dict[str, Any]:
    """Write an engine whose weights are all zero."""
    model = onnx.load(network)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(values), tensor.name))
    onnx.save(model, partial)
    return {"builder_version": "0", "layers": []}


def test_a_broken_engine_is_not_put_in_its_place(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Path(shutil.copytree(folder, tmp_path / "out"))
    monkeypatch.setattr(run_onnxruntime, "build", build_zeros)
    row = build_job.build(str(out / "plan.json"), "engine-fp32.onnx")
    assert row["status"] == "failed"
    assert "the engine" in row["reason"]
    assert "FP32 network" in row["reason"]
    assert not (out / "engine-fp32.onnx").exists()


def test_a_board_gets_what_the_smoke_test_reads(folder: Path) -> None:
    smoke = read_contract(folder).networks[0].smoke
    assert smoke is not None
    sent = set(_needed(folder / "plan.json", {"build"}))
    wanted = {"contract.json", "priors.npy", "variances.npy", smoke.pictures, *smoke.outputs.values()}
    assert wanted <= sent
    assert not wanted & set(_needed(folder / "plan.json", {"bench"}))
