"""`profile` from files to files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gated_networks import Spelling, gated
from PIL import Image

from deploycc.cli import main
from deploycc.detector import InputSpec
from deploycc.detector import picture_list as module
from deploycc.detector.file import save
from deploycc.documents.utilisation import gate_vectors, read_profile

TINY = str(Path(__file__).parents[1] / "models" / "tiny_ssd.prototxt")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(6):
        pixels = rng.integers(0, 256, (20, 24, 3), np.uint8) // np.uint8(1 + number)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> str:
    found = gated(Spelling(group="gather", layout="before-batchnorm"), seed=3)
    spec = InputSpec("x", 6, 6, "RGB", (128.0,) * 3, (1 / 32,) * 3)
    save(replace(found, input=spec), tmp_path / "gated.onnx")
    return str(tmp_path / "gated.onnx")


def test_gates_are_recorded_and_drawn(
    model: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, html, svg = tmp_path / "p.json", tmp_path / "p.html", tmp_path / "p.svg"
    command = ["profile", model, "--images", str(images), "-o", str(out), "--html", str(html), "--svg", str(svg)]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "gated  before-batchnorm" in shown.out
    assert "operation reduction" in shown.out
    assert "switch" not in shown.out
    assert "divided by those of the back-end" in shown.err
    profile = read_profile(out)
    assert profile.pictures.count == 6
    assert gate_vectors(profile.layers[0], 6).shape == (6, 8)
    assert html.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert svg.read_text(encoding="utf-8").startswith("<svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gated.onnx", "images", "p.html", "p.json", "p.svg"]


def test_json_repeats_the_table(model: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", model, "--images", str(images), "-o", str(tmp_path / "p.json"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    profile = read_profile(tmp_path / "p.json")
    assert profile.reduction is not None
    assert facts["reduction"]["average_percent"] == profile.reduction.average_percent
    assert facts["layers"][0]["name"] == "gated"
    assert facts["layers"][0]["granularity"] == "block"


def test_generated_pictures_and_activations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p.json"
    assert main(["profile", TINY, "--random-weights", "1", "--data", "generated:3:2", "-o", str(out)]) == 0
    assert "activation utilisation over 2 pictures" in capsys.readouterr().out
    profile = read_profile(out)
    assert (profile.kind, profile.scope, profile.random_weights) == ("activations", "back-end", 1)
    assert all(layer.activation for layer in profile.layers)
    first = out.read_bytes()
    assert main(["profile", TINY, "--random-weights", "1", "--data", "generated:3:2", "-o", str(out)]) == 0
    assert out.read_bytes() == first


def test_an_interrupt_leaves_a_file_that_the_next_call_continues(
    model: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, partial = tmp_path / "p.json", tmp_path / "p.json.partial"
    command = ["profile", model, "--images", str(images), "-o", str(out)]
    assert main(command) == 0
    whole = out.read_bytes()
    out.unlink()
    real, read = module.read_picture, []

    def interrupted(path: Path) -> np.ndarray:
        if len(read) == 4:
            raise KeyboardInterrupt
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(module, "read_picture", interrupted)
    assert main(command) == 130
    assert partial.exists()
    assert not out.exists()
    monkeypatch.setattr(module, "read_picture", lambda path: (read.append(path.name), real(path))[1])
    assert main(command) == 0
    assert read == [f"{number}.png" for number in range(6)]
    assert out.read_bytes() == whole
    assert not partial.exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--images", "EMPTY"], "picture-folder-empty"),
        (["--images", "nowhere"], "picture-folder"),
        ([], "calibration-pictures"),
        (["--images", "IMAGES", "--data", "generated:1"], "calibration-pictures"),
        (["--data", "generated:"], "data-spelling"),
        (["--images", "BROKEN"], "picture-unreadable"),
        (["--images", "IMAGES", "--scale", "1e30"], "response-not-finite"),
        (["--images", "IMAGES", "--svg", "nowhere/p.svg"], "file-unwritable"),
    ],
)
def test_what_cannot_be_profiled_is_refused(
    arguments: list[str], code: str, model: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_bytes(b"\xff\xd8 no more")
    places = {"EMPTY": str(tmp_path / "empty"), "BROKEN": str(tmp_path / "broken"), "IMAGES": str(images)}
    given = [places.get(each, each) for each in arguments]
    out = tmp_path / "p.json"
    assert main(["profile", model, "-o", str(out), *given]) == 1
    assert f"error[{code}]" in capsys.readouterr().err
    assert not out.exists()


def test_a_real_detector(assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every convolution of SSD-MobileNet's back-end ends in a ReLU6; some kernels never fire, none always does in the first."""
    model = str(assets / "voc21_ssd_mobilenet" / "voc21_ssd_mnv1_075.prototxt")
    out, pictures = tmp_path / "p.json", str(assets / "test_images")
    assert main(["profile", model, "--images", pictures, "-o", str(out)]) == 0
    assert "warning: no file says how this network expects its pictures" in capsys.readouterr().err
    stated = ["--mean", "128", "--scale", "0.0078125", "--colour", "RGB"]
    assert main(["profile", model, "--images", pictures, "-o", str(out), *stated]) == 0
    assert "warning" not in capsys.readouterr().err
    profile = read_profile(out)
    assert len(profile.layers) == 35
    assert {layer.activation for layer in profile.layers} == {"Clip"}
    assert profile.scope_macs == sum(layer.macs for layer in profile.layers)
    assert sum(each == 0 for layer in profile.layers for each in layer.used) >= 1
    assert all(0.2 < np.mean(layer.used) / profile.pictures.count < 0.8 for layer in profile.layers)
    assert out.stat().st_size < 1 << 20
