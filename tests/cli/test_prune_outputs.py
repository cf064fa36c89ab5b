"""`prune` into Caffe files, and for a board that is not this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gated_files import write
from gated_networks import Spelling

from deploycc.cli import main
from deploycc.files import sha256_of
from deploycc.graph.cost import measure_cost
from deploycc.importers import load

TINY = Path(__file__).resolve().parents[1] / "models" / "tiny_ssd.prototxt"


@pytest.mark.parametrize("name", ["small.prototxt", "small.caffemodel"])
def test_a_name_of_caffe_writes_caffe(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["prune", str(TINY), "--random-weights", "0", "--by", "l1", "--below", "0.5", "--round-to", "1"]
    assert main([*model, "-o", str(tmp_path / name), "--json"]) == 0
    captured = capsys.readouterr()
    facts = json.loads(captured.out)
    text = tmp_path / "small.prototxt"
    assert (facts["file"], facts["sha256"]) == (str(text), sha256_of(text))
    assert sorted(tmp_path.iterdir()) == sorted([text, tmp_path / "small.caffemodel"])
    assert "Caffe files hold no record of what was removed" in captured.err
    again, source = load(text), load(TINY, random_weights=0)
    assert again.heads is not None
    assert measure_cost(again.graph).macs < measure_cost(source.graph).macs


def test_what_caffe_cannot_express_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, profile, _, _ = write(tmp_path, Spelling())
    before = sorted(tmp_path.iterdir())
    assert main(["prune", model, "--profile", profile, "--below", "0.4", "-o", str(tmp_path / "x.prototxt")]) == 1
    assert "error[caffe-cannot-express]" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_for_a_board_the_counts_follow_predicted_times_and_nothing_is_timed_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(*arguments: object) -> None:
        raise AssertionError("this machine was timed for another target")

    monkeypatch.setattr("deploycc.timing.timer.time_short_runs", timed)
    monkeypatch.setattr("deploycc.pruning.kept_counts.relative_times", timed)
    arguments = [
        "prune",
        str(TINY),
        "--random-weights",
        "1",
        "--by",
        "l1",
        "--below",
        "0.3",
        "-o",
        str(tmp_path / "small.onnx"),
        "--json",
    ]
    assert main([*arguments, "-t", "jetson-tx2-jp461"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["times"] == "predicted"
    assert record["timed_on"].startswith("jetson-tx2-jp461 fp16")
    assert any(layer["predicted_ms"] for layer in record["layers"])
    assert main([*arguments, "-t", "x86-rtx"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["round_to"] == 32
    assert "no times are measured or predicted" in captured.err
    assert main([*arguments, "-t", "jetson-tx2-jp461", "--costs", str(tmp_path / "costs.json")]) == 1
    assert "--costs holds times of this machine" in capsys.readouterr().err
