"""build.json is read strictly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploycc.documents.build import read_build_result
from deploycc.documents.seal import sealed
from deploycc.errors import ArtefactError

BUILT = {"builder": "onnxruntime", "sha256": "c" * 64, "size_bytes": 10}
RECORD = {
    "schema": 1,
    "target": "x86-cpu",
    "tool": {"deploycc": "0.1.0", "agent": "1.0"},
    "plan_sha256": "a" * 64,
    "environment": {"cpu_model": "any", "gpu": None},
    "engines": [{"file": "e.onnx", "precision": "fp32", "network_sha256": "b" * 64, "status": "built", **BUILT}],
}


def test_reading(tmp_path: Path) -> None:
    (tmp_path / "build.json").write_text(sealed(json.dumps(RECORD)))
    assert read_build_result(tmp_path) == read_build_result(tmp_path / "build.json")
    assert read_build_result(tmp_path).engines[0].file == "e.onnx"


@pytest.mark.parametrize("change", [{"more": 1}, {"plan_sha256": "x"}, {"engines": [{}]}])
def test_a_wrong_file_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    (tmp_path / "build.json").write_text(json.dumps({**RECORD, **change}))
    with pytest.raises(ArtefactError) as caught:
        read_build_result(tmp_path)
    assert caught.value.code == "artefact-invalid"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError) as caught:
        read_build_result(tmp_path)
    assert caught.value.code == "artefact-missing"
