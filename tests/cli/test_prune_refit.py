"""`prune --reconstruct`: the weights that are left are refitted on pictures without labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gated_files import pictures, write
from gated_networks import Spelling
from graph_text import run
from PIL import Image

from deploycc.cli import main
from deploycc.detector.held_out import held_out_numbers
from deploycc.detector.pictures import prepare
from deploycc.importers import load
from deploycc.pruning import reconstruct

BELOW = 0.4


def prune(*arguments: str) -> None:
    assert main(["prune", *arguments]) == 0


def test_refitting_brings_responses_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruct, "_POSITIONS", 32)  # a rough fit is enough here
    out = tmp_path / "small.onnx"
    command = ["street_ssd", "--by", "l1", "--below", "0.3", "--round-to", "8"]
    prune(*command, "-o", str(out), "--reconstruct", "--data", "generated:7:10", "--json")
    facts = json.loads(capsys.readouterr().out)["reconstruction"]
    assert (facts["fitted"], facts["held_out"]) == (8, 2)
    assert facts["source"] == "generated:7:10"
    last = {layer["name"]: layer["error"] for layer in facts["layers"][-4:]}
    assert all(after < 0.5 * before for before, after in last.values())
    assert any(note.code == "weights-refitted" and "generated:7:10" in note.reason for note in load(out).notes)


@pytest.mark.parametrize("keep_gates", [False, True])
def test_refitting_a_gated_network(keep_gates: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the constants and the removed kernels got wrong is lessened on pictures that the fit has not seen."""
    model, profile, found, _ = write(tmp_path, Spelling(layout="after-activation"))
    folder, out = tmp_path / "pictures", tmp_path / "out.onnx"
    folder.mkdir()
    drawn = pictures(80)  # the kernels that go are on in few of them
    for number in range(80):
        Image.fromarray(drawn.read(number)).save(folder / f"{number:02d}.png")
    options = ["--keep-gates"] if keep_gates else []
    command = [model, "--profile", profile, "--below", str(BELOW), "--round-to", "1", "-o", str(out), *options]
    errors = []
    for more in ([], ["--reconstruct", "--images", str(folder)]):
        prune(*command, *more)
        small = load(out).graph
        held_out = [prepare(drawn.read(number), found.input) for number in held_out_numbers(80)]
        errors.append(sum(float(np.sum((run(small, x)[0] - run(found.graph, x)[0]) ** 2)) for x in held_out))
    assert errors[1] < 0.95 * errors[0]
    assert "refitted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--reconstruct"], "calibration-pictures"),
        (["--images", "."], "prune-option"),
        (["--reconstruct", "--data", "generated:1:3"], "reconstruct-few-pictures"),
        (["--reconstruct", "--images", "EMPTY"], "picture-folder-empty"),
        (["--reconstruct", "--images", "BROKEN"], "picture-unreadable"),
    ],
)
def test_refitting_without_pictures_is_refused(
    arguments: list[str], code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {"EMPTY": tmp_path / "empty", "BROKEN": tmp_path / "broken"}
    for folder in folders.values():
        folder.mkdir()
    for number in range(5):
        (folders["BROKEN"] / f"{number}.jpg").write_bytes(b"no picture")
    given = [str(folders.get(each, each)) for each in arguments]
    out = tmp_path / "out.onnx"
    assert main(["prune", "street_ssd", "--by", "l1", "--round-to", "1", "-o", str(out), *given]) == 1
    assert f"error[{code}]" in capsys.readouterr().err
    assert not out.exists()
