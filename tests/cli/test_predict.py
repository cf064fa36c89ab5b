"""`predict` from the command line: tables, JSON, a page, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploycc.cli import main

TINY = str(Path(__file__).parents[1] / "models" / "tiny_ssd.prototxt")


def test_a_definition_without_weights_is_a_table_for_several_targets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    targets = ["-t", "jetson-tx2-jp461", "-t", "jetson-xavier-jp512", "-t", "x86-cpu"]
    assert main(["predict", TINY, *targets, "-p", "fp16", "-o", str(out)]) == 0
    captured = capsys.readouterr()
    assert "jetson-xavier-jp512" in captured.out
    assert "90 % interval" in captured.out
    assert "x86-cpu: not predicted" in captured.err
    assert "TensorRT 8.5 was not measured" in captured.err
    page = (out / "prediction.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert "no trained weights" in page
    assert "src=" not in page
    data = json.loads((out / "prediction.json").read_text(encoding="utf-8"))
    assert [each["target"]["name"] for each in data["predictions"]] == ["jetson-tx2-jp461", "jetson-xavier-jp512"]


def test_json_holds_every_launch_with_what_bounds_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", TINY, "-t", "jetson-tx2-jp46", "-p", "fp16", "--json"]) == 0
    (prediction,) = json.loads(capsys.readouterr().out)["predictions"]
    assert prediction["evidence"]["kind"] == "predicted"
    launches = prediction["launches"]
    assert {launch["bound"] for launch in launches} <= {"compute", "tile waste", "latency", "memory", "launch"}
    total = sum(launch["time"]["ms"] for launch in launches) + prediction["network_ms"] + prediction["branch_ms"]
    assert prediction["time"]["ms"] == pytest.approx(total, rel=1e-9, abs=0)


def test_the_launches_of_a_single_target_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", TINY, "-t", "jetson-tx2-jp46", "-p", "fp16", "--layers"]) == 0
    out = capsys.readouterr().out
    assert "fewer kernels" in out
    assert "conv1" in out


def test_a_target_without_constants_is_an_error_with_a_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", TINY, "-t", "x86-cpu"]) == 1
    err = capsys.readouterr().err
    assert "prediction-none" in err
    assert "deploycc compile" in err


def test_an_unattached_board_shows_the_prediction_in_its_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["compile", TINY, "--random-weights", "1", "-t", "jetson-tx2-jp461", "-p", "fp16", "-o", str(out)]) == 0
    (predicted,) = json.loads((out / "compile.json").read_text(encoding="utf-8"))["predictions"]
    assert predicted["low_ms"] < predicted["ms"] < predicted["high_ms"]
    report = (out / "report.md").read_text(encoding="utf-8")
    assert "Predicted, with the interval of 90 %: fp16" in report
    assert "| latency fp16 |" in report
    assert "| predicted | TensorRT 8.0 on Maxwell and Pascal" in report
