"""Recovery from two files."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

import deploycc
from deploycc.detector import Detector
from deploycc.distillation.loop import TrainingSettings

PICTURES = "generated:6:30"
STILL = TrainingSettings(steps=1, batch=2, rate=0.0)
ASSUMED = {"colour": "BGR", "mean": (104.0, 117.0, 123.0), "scale": (1.0,) * 3, "assumed": True}


@pytest.fixture(scope="module")
def teacher() -> Detector:
    return deploycc.load("street_ssd")


@pytest.fixture(scope="module")
def pruned(teacher: Detector) -> Detector:
    return deploycc.prune(teacher, deploycc.PruneSettings(by="l1", below=0.1, multiple=1)).detector


def test_a_teacher_whose_file_does_not_state_its_preparation_judges_as_well(
    teacher: Detector, pruned: Detector
) -> None:
    silent = replace(teacher, input=replace(teacher.input, **ASSUMED))
    found = [deploycc.recover(pruned, one, PICTURES, STILL) for one in (teacher, silent)]
    assert found[0].training.before.by_class == found[1].training.before.by_class
    assert found[0].training.before.map50 > 0.1
    silent = replace(pruned, input=replace(pruned.input, **ASSUMED))
    assert deploycc.recover(silent, teacher, PICTURES, STILL).detector.input == teacher.input
