"""What `inspect` says of a detector, as a table and as JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from gated_networks import Spelling, gated, text_network

from deploycc.cli import main
from deploycc.detector.file import save
from deploycc.target import names

TINY = str(Path(__file__).parents[1] / "models" / "tiny_ssd.prototxt")
SEEDED = [TINY, "--random-weights", "1"]


def test_json_holds_counts_heads_layers_and_every_target(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", *SEEDED, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["detector"]["heads"] == "ssd"
    assert facts["detector"]["priors"] == 4 * (8 * 8 + 4 * 4)
    assert facts["macs"] == sum(layer["macs"] for layer in facts["layers"]) == sum(p["macs"] for p in facts["parts"])
    assert [row["target"] for row in facts["targets"]] == names()
    assert all(row["accepted"] for row in facts["targets"])
    first = facts["layers"][0]
    assert (first["name"], first["part"], first["output"]) == ("conv1", "back-end", [1, 8, 32, 32])


def test_the_table_says_that_random_weights_are_untrained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", *SEEDED, "--layers", "--mean", "1,2,3", "--colour", "rgb"]) == 0
    captured = capsys.readouterr()
    assert "untrained: random weights, seed 1" in captured.out
    assert "SSD, 320 priors, 4 classes" in captured.out
    assert "RGB, (pixel - (1, 2, 3)) * 1" in captured.out
    assert "assumed" not in captured.out
    assert "conv4_conf" in captured.out


def test_published_sizes_are_printed(assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    definition = str(assets / "prototxt" / "squeezenet_ssd_voc_deploy.prototxt")
    assert main(["inspect", definition, "--random-weights", "0"]) == 0
    out = capsys.readouterr().out
    assert "1.18 G" in out
    assert "5.53 M" in out
    assert "8030 priors" in out


def test_gates_are_listed_with_where_they_multiply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gated.onnx"
    save(gated(Spelling(group="gather", layout="after-activation")), path)
    assert main(["inspect", str(path), "--json"]) == 0
    (gate,) = json.loads(capsys.readouterr().out)["gates"]
    assert (gate["layer"], gate["place"], gate["units"], gate["threshold"]) == ("gated", "after-activation", 4, 0.5)
    assert gate["reads"] == ["a"]
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^gated +8 +4 +block +after-activation +0.5 +structure +24$", out, re.MULTILINE)


def test_attention_is_named_and_not_listed_as_a_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = ["a = Conv<pads=[1,1,1,1]>(x, w_first)", "c = Conv<pads=[1,1,1,1]>(a, w, b)", "p = GlobalAveragePool(a)"]
    body += ["z = Conv(p, w_gate, b_gate)", "s = Sigmoid(z)", "y = Mul(c, s)", "out = Conv(y, w_last)"]
    path = tmp_path / "attention.onnx"
    save(text_network(body), path)
    assert main(["inspect", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["gates"] == []
    assert [note["code"] for note in facts["gate_notes"]] == ["gate-soft"]
    assert main(["inspect", str(path)]) == 0
    captured = capsys.readouterr()
    assert "gated layer" not in captured.out
    assert "attention" in captured.err
