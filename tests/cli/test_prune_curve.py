"""`prune-curve` from a model to its files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploycc.cli import main
from deploycc.cli.pruning_options import PruningChoice, PruningSweep
from deploycc.documents.document import read_document
from deploycc.documents.pruning_curve import PruningCurve
from deploycc.importers import load
from deploycc.models import resolve
from deploycc.pruning import reconstruct
from deploycc.workflows.predict import predict
from deploycc.workflows.prune import PruneSettings

DATA = "generated:3:4"


def test_the_curve_of_the_shipped_detector(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruct, "_POSITIONS", 32)  # a rough fit is enough here
    command = ["prune-curve", "street_ssd", "--data", DATA, "--below", "0.3", "--calibrate", "generated:7:10"]
    command += ["--by", "l1", "--round-to", "8", "--target", "jetson-tx2-jp461"]
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
    assert (curve.target, curve.latency and curve.latency.kind) == ("jetson-tx2-jp461", "predicted")
    assert dense.latency_ms is not None
    assert pruned.latency_ms == refitted.latency_ms
    kept = load(tmp_path / "out" / str(refitted.file))
    expected = predict(kept, "jetson-tx2-jp461", precisions=["fp16"]).predictions[0].time.ms
    assert refitted.latency_ms == pytest.approx(expected, rel=1e-6, abs=0)
    assert refitted.latency_ms < dense.latency_ms
    same = [
        "prune",
        "street_ssd",
        "--by",
        "l1",
        "--below",
        "0.3",
        "--round-to",
        "8",
        "-o",
        str(tmp_path / "small.onnx"),
    ]
    assert main([*same, "--json"]) == 0
    parts = {part["name"]: part for part in json.loads(capsys.readouterr().out)["parts"]}
    assert (pruned.macs, pruned.params) == (parts["total"]["macs"][1], parts["total"]["params"][1])
    assert refitted.map50[0] > pruned.map50[0], "with 30 % of the filters gone"
    assert curve.source_sha256 == load(resolve("street_ssd")).source.sha256
    assert curve.calibration is not None
    assert curve.calibration.count == 10
    assert main(["evaluate", "street_ssd", "--data", DATA, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["map50_area"] == pytest.approx(dense.map50[0], rel=1e-9, abs=0)
    page = (tmp_path / "out" / "pruning-curve.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert (tmp_path / "out" / "pruning-curve.md").read_text(encoding="utf-8").count("\n| l1 |") == 2


def test_the_curve_is_told_what_prune_is_told() -> None:
    """The default criterion, multiple, scope and coefficient are those of `deploycc prune`, and so are given ones."""
    given = {"scope": "both", "coefficient": "none", "round_to": "16", "keep_gates": True, "always_from": 0.9}
    for options in ({}, given, {"by": "l1"}):
        curve = PruningSweep(below="0.1,0.3", **options).choices()  # type: ignore[arg-type]
        alone = [PruningChoice(below=below, **options) for below in (0.1, 0.3)]  # type: ignore[arg-type]
        assert [each.settings() for each in curve] == [each.settings() for each in alone]
    assert PruningSweep(below="0.05").choices()[0].settings() == PruningChoice().settings() == PruneSettings()
    assert [(each.by, each.below) for each in PruningSweep(below="0.1", by="utilisation,l1").choices()] == [
        ("utilisation", 0.1),
        ("l1", 0.1),
    ]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], "prune-no-profile"),
        (["--by", "magic"], "prune-option"),
        (["--below", "0.1,x"], "prune-option"),
        (["--below", "0"], "prune-option"),
        (["--by", "l1", "--calibrate", DATA, "--images", "."], "calibration-pictures"),
        (["--round-to", "7"], "prune-option"),
        (["--by", "l1", "--images", "nowhere"], "picture-folder"),
    ],
)
def test_refused(options: list[str], code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prune-curve", "street_ssd", "--data", DATA, "-o", str(tmp_path / "out"), *options]) == 1
    assert f"error[{code}]" in capsys.readouterr().err
