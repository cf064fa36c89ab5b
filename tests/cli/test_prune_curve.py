"""`prune-curve` from a model to its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploycc.cli import main
from deploycc.documents.document import read_document
from deploycc.documents.pruning_curve import PruningCurve
from deploycc.importers import load
from deploycc.models import resolve
from deploycc.pruning import reconstruct

DATA = "generated:3:4"


def test_the_curve_of_the_shipped_detector(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruct, "_POSITIONS", 32)  # a rough fit is enough here
    command = ["prune-curve", "street_ssd", "--data", DATA, "--below", "0.3", "--calibrate", "generated:7:10"]
    assert main([*command, "-o", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "as trained" in shown
    curve = read_document(tmp_path / "out", PruningCurve)
    assert [(p.criterion, p.below, p.refitted) for p in curve.points] == [
        ("none", 0.0, False), ("l1", 0.3, False), ("l1", 0.3, True),
    ]  # fmt: skip
    dense, pruned, refitted = curve.points
    assert dense.backend_macs > pruned.backend_macs == refitted.backend_macs
    assert pruned.params == refitted.params
    assert refitted.map50[0] > pruned.map50[0], "with 30 % of the filters gone"
    assert curve.source_sha256 == load(resolve("street_ssd")).source.sha256
    assert curve.calibration is not None
    assert curve.calibration.count == 10
    assert main(["evaluate", "street_ssd", "--data", DATA, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["map50_area"] == pytest.approx(dense.map50[0], rel=1e-9, abs=0)
    page = (tmp_path / "out" / "pruning-curve.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert (tmp_path / "out" / "pruning-curve.md").read_text(encoding="utf-8").count("\n| l1 |") == 2


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--by", "utilisation"], "prune-no-profile"),
        (["--by", "magic"], "prune-option"),
        (["--below", "0.1,x"], "prune-option"),
        (["--below", "0"], "prune-option"),
        (["--calibrate", DATA, "--images", "."], "calibration-pictures"),
        (["--images", "nowhere"], "picture-folder"),
    ],
)
def test_refused(options: list[str], code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prune-curve", "street_ssd", "--data", DATA, "-o", str(tmp_path / "out"), *options]) == 1
    assert f"error[{code}]" in capsys.readouterr().err
