"""``deploycc evaluate``: table, JSON and detections of a real detector."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploycc import models
from deploycc.cli import main


@pytest.fixture
def few_pictures(assets: Path, tmp_path: Path) -> Path:
    """Ten of the real pictures, as a VOC folder with a split."""
    folder = tmp_path / "voc"
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    names = sorted(path.stem for path in (assets / "voc100" / "Annotations").glob("*.xml"))[:10]
    for part in ("Annotations", "JPEGImages"):
        (folder / part).symlink_to(assets / "voc100" / part)
    (folder / "ImageSets" / "Main" / "few.txt").write_text("\n".join(names), encoding="utf-8")
    return folder


def test_json_and_detections(
    assets: Path, few_pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(assets / "voc21_ssd_mobilenet" / "voc21_ssd_mnv1_075_boxes.onnx")
    rows = tmp_path / "rows.json"
    command = ["evaluate", model, "--data", f"voc:{few_pictures}@few", "--detections", str(rows), "--json"]
    assert main(command) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert summary["pictures"] == 10
    assert 0.5 < summary["map50_area"] <= 1
    assert "assumed to be Pascal VOC's" in printed.err
    detections = json.loads(rows.read_text(encoding="utf-8"))
    assert {tuple(row) for row in map(dict.keys, detections)} == {("picture", "class", "score", "box")}
    assert len({row["picture"] for row in detections}) == 10


def test_the_same_weights_from_caffe_score_the_same(
    assets: Path, few_pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = assets / "voc21_ssd_mobilenet"
    told = ["--mean", "128", "--scale", "0.0078125", "--colour", "RGB"]
    scores = []
    for model, more in (("voc21_ssd_mnv1_075_boxes.onnx", []), ("voc21_ssd_mnv1_075.prototxt", told)):
        command = ["evaluate", str(folder / model), *more, "--data", f"voc:{few_pictures}@few", "--json"]
        assert main(command) == 0
        scores.append(json.loads(capsys.readouterr().out)["map50_area"])
    assert scores[0] == pytest.approx(scores[1], rel=0, abs=0.01)


def test_bad_data_is_one_diagnosed_error(assets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(assets / "voc21_ssd_mobilenet" / "voc21_ssd_mnv1_075_boxes.onnx")
    (tmp_path / "a.xml").write_text("<annotation>\n<object>\n</annotation>", encoding="utf-8")
    assert main(["evaluate", model, "--data", f"voc:{tmp_path}"]) == 1
    err = capsys.readouterr().err
    assert "error[data-xml]" in err
    assert "line: 3" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("name", models.names())
def test_a_compiled_folder_is_as_accurate_as_its_model(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", name, "-t", "x86-cpu", "-o", str(tmp_path / "out"), "--no-build", "--no-verify"]) == 0
    capsys.readouterr()
    scores = []
    for model in (name, str(tmp_path / "out")):
        assert main(["evaluate", model, "--data", "generated:9:25", "--json"]) == 0
        scores.append(json.loads(capsys.readouterr().out)["map50_area"])
    assert scores[0] > 0.6
    assert scores[0] == pytest.approx(scores[1], rel=0, abs=0.005)
