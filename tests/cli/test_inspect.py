"""What `inspect` says of a detector, as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploycc.cli import main
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
