"""Real detectors on real pictures reach the accuracy that was measured for them independently."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deploycc import importers
from deploycc.detector import Detector
from deploycc.errors import InputError
from deploycc.evaluation.accuracy import match_classes, measure_accuracy
from deploycc.evaluation.dataset import open_dataset

MEAN_AREA, MEAN_ELEVEN = 0.698, 0.690  # of voc21_ssd_mobilenet on voc100, by an independent script


@pytest.fixture(scope="module")
def detector(assets: Path) -> Detector:
    return importers.load(assets / "voc21_ssd_mobilenet" / "voc21_ssd_mnv1_075_boxes.onnx")


def test_a_real_detector_reaches_its_known_accuracy(detector: Detector, assets: Path) -> None:
    accuracy = measure_accuracy(detector, open_dataset(f"voc:{assets / 'voc100'}"))
    summary = accuracy.summary()
    assert summary["pictures"] == 100
    assert sum(row["objects"] for row in summary["classes"]) == 235
    assert summary["map50_area"] == pytest.approx(MEAN_AREA, rel=0, abs=0.003)
    assert summary["map50_11point"] == pytest.approx(MEAN_ELEVEN, rel=0, abs=0.003)
    rows = accuracy.detections()
    assert {row["class"] for row in rows} <= set(accuracy.dataset.class_names)
    assert len(rows) == sum(len(predicted.scores) for predicted in accuracy.predictions)


def test_names_are_matched_whatever_their_order_and_case(detector: Detector) -> None:
    named = replace(detector, class_names=("background", "Dog", *(f"c{k}" for k in range(18)), "CAT"))
    label_of, notes = match_classes(named, ("cat", "dog", "yak"))
    assert label_of == {1: 1, 20: 0}
    assert [note.code for note in notes] == ["classes-missing"]
    assert "yak" in notes[0].reason


def test_foreign_unknown_and_miscounted_names_are_refused(detector: Detector) -> None:
    with pytest.raises(InputError, match="classes-foreign"):
        match_classes(detector, ("brick",))
    with pytest.raises(InputError, match="classes-count"):
        match_classes(detector, ("cat",), names=("background", "cat"))
    assert detector.heads is not None
    other = replace(detector, heads=replace(detector.heads, classes=3))
    with pytest.raises(InputError, match="classes-unknown"):
        match_classes(other, ("cat",))
