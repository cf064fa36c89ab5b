"""``deploycc train gates``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

import deploycc
from deploycc.cli import main


def gates(output: Path, *more: str) -> list[str]:
    data = ["--data", "generated:5:24", "--batch", "2", "--gate-layers", "backend.2*", "-o", str(output)]
    return ["train", "gates", "street_ssd", *data, *more]


def test_a_gated_network_is_written_and_inspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "gated.onnx"
    options = ["--gates", "nested", "--block", "16", "--steps", "4", "--check-every", "2", "--gain", "30", "--bfloat16"]
    assert main(gates(output, *options)) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == str(output)
    metrics = json.loads((tmp_path / "gated.metrics.json").read_text(encoding="utf-8"))
    shown_err = " ".join(shown.err.split())
    assert "gates switch off" in shown_err
    assert f"the layers with gates have {100 * metrics['gated_share']:.1f} % of the network's" in shown_err
    assert [record["step"] for record in metrics["history"]] == [2, 4]
    assert len(metrics["engaged"]) == 2  # a tenth of the pictures
    assert main(["inspect", str(output), "--json"]) == 0
    inspected = json.loads(capsys.readouterr().out)
    assert [gate["layer"] for gate in inspected["gates"]] == metrics["layers"]
    assert {gate["granularity"] for gate in inspected["gates"]} == {"nested"}


def test_what_cannot_be_gated_is_refused_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, code in (
        (["--gates", "some"], "train-gates"),
        (["--shared", "50"], "gate-shared"),
        (["--gate-layers", "backend.9*"], "gate-pattern"),
        (["--gates", "block", "--block", "7"], "gate-block"),
    ):
        assert main(gates(tmp_path / "gated.onnx", *options)) == 1
        assert f"error[{code}]" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_a_file_does_not_say_is_said_by_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "gated.onnx"
    options = [
        "--steps",
        "4",
        "--check-every",
        "4",
        "--gain",
        "30",
        "--keep",
        "0.95",
        "--mean",
        "100,110,120",
        "--scale",
        "0.01",
        "--colour",
        "RGB",
    ]
    assert main(gates(output, *options)) == 0
    spec = deploycc.load(output).input
    assert (spec.mean, spec.colour, spec.assumed) == ((100.0, 110.0, 120.0), "RGB", False)
