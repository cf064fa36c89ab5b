"""Detections of one detector and of two side by side: what is found, matched, drawn and written."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import deploycc
from deploycc.cli import main
from deploycc.detector import Detector
from deploycc.documents.detections import DetectionReport, read_detection_report
from deploycc.errors import ArtefactError, InputError
from deploycc.evaluation.difference import matched_pairs
from deploycc.evaluation.nms import Detections
from deploycc.scenes import draw_scene

SCENES = "generated:3:3"


@pytest.fixture(scope="module")
def detector() -> Detector:
    return deploycc.load("street_ssd")


@pytest.fixture(scope="module")
def compared(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DetectionReport]:
    """The detector beside itself with pictures that are too dark."""
    other = replace(detector, input=replace(detector.input, scale=tuple(0.6 * each for each in detector.input.scale)))
    folder = tmp_path_factory.mktemp("detect") / "out"
    labels = ("<one>", "two")
    return folder, deploycc.detect(detector, SCENES, folder, compare=other, shown=2, labels=labels)


def test_objects_that_are_there_are_found(detector: Detector) -> None:
    report = deploycc.detect(detector, SCENES)
    found = 0
    for number, picture in enumerate(report.pictures):
        scene = draw_scene(3, number, detector.input.height)
        for box, label in zip(scene.boxes, scene.classes, strict=True):
            near = [
                each
                for [detections] in [picture.detections]
                for each in detections
                if each.label == label + 1 and np.abs(np.array(each.box) - box).max() < 12
            ]
            found += bool(near)
    assert found >= 4
    assert report.agreement is None
    assert report.networks[0].evidence.kind == "measured"
    assert {each.name for picture in report.pictures for each in picture.detections[0]} <= set(detector.class_names)


def test_partners_are_mutual_and_the_rest_is_counted(compared: tuple[Path, DetectionReport]) -> None:
    _, report = compared
    assert report.agreement is not None
    alone = [0, 0]
    for picture in report.pictures:
        for side, found in enumerate(picture.detections):
            for position, each in enumerate(found):
                if each.partner is None:
                    alone[side] += 1
                else:
                    assert picture.detections[1 - side][each.partner].partner == position
                    assert picture.detections[1 - side][each.partner].label == each.label
    assert (report.agreement.only_first, report.agreement.only_second) == tuple(alone)
    assert sum(alone) > 0
    assert report.agreement.matched > 0


def test_the_folder_holds_json_page_and_drawn_pictures(compared: tuple[Path, DetectionReport]) -> None:
    folder, report = compared
    assert read_detection_report(folder) == report
    page = (folder / "detections.html").read_text(encoding="utf-8")
    assert "&lt;one&gt;" in page
    assert "<one>" not in page
    images = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(images) == 4  # two of three pictures, twice
    assert Image.open(io.BytesIO(base64.b64decode(images[0]))).format == "JPEG"
    links = re.findall(r'href="(pictures/[^"]+)"', page)
    assert sorted(links) == sorted(f"pictures/{path.name}" for path in (folder / "pictures").iterdir())
    assert "2 pictures are shown, those that differ most first" in page


def test_pictures_that_differ_most_come_first(compared: tuple[Path, DetectionReport]) -> None:
    folder, report = compared
    page = (folder / "detections.html").read_text(encoding="utf-8")
    shown = re.findall(r"<h3>([^<]+)</h3>", page)
    unmatched = {picture.name: picture.unmatched for picture in report.pictures}
    assert [unmatched[name] for name in shown] == sorted(unmatched.values(), reverse=True)[:2]


def test_a_detector_that_finds_nothing_is_said_to(
    detector: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", "generated:3:1", "--score", "1", "-o", str(tmp_path / "out")]
    assert main(["detect", "street_ssd", *options]) == 0
    shown = capsys.readouterr()
    assert "nothing" in shown.out
    assert "detects nothing with a score of at least 1 in any picture" in " ".join(shown.err.split())
    assert "detects nothing in any picture" in (tmp_path / "out" / "detections.html").read_text(encoding="utf-8")


def test_files_of_somebody_else_stay(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ArtefactError) as refused:
        deploycc.detect(detector, "generated:3:1", tmp_path)
    assert refused.value.code == "output-not-empty"
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_a_threshold_beyond_one_is_refused(detector: Detector) -> None:
    with pytest.raises(InputError, match=r"1\.5"):
        deploycc.detect(detector, "generated:3:1", score_threshold=1.5)


def test_pairs_are_of_one_class_and_the_best_overlap_wins() -> None:
    def found(*rows: tuple[int, float, float]) -> Detections:
        boxes = np.float32([[x, 0, x + 1, 1] for _, x, _ in rows])
        return Detections(boxes, np.float32([s for *_, s in rows]), np.array([c for c, *_ in rows]))

    one, two = found((1, 0.0, 0.9), (1, 0.2, 0.8), (2, 0.0, 0.7)), found((1, 0.15, 0.9), (2, 0.9, 0.9))
    [(first, second, iou)] = matched_pairs(one, two)
    assert (first, second) == (1, 0)
    assert iou == pytest.approx(0.95 / 1.05, abs=1e-5)
