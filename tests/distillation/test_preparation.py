"""Whichever file states the preparation of pictures, student and teacher see the same pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import deploycc
from deploycc.detector import Detector, InputSpec
from deploycc.distillation.preparation import prepare_alike
from deploycc.errors import ModelError


def prepared(**changes: Any) -> Detector:
    detector = deploycc.load("street_ssd")
    return replace(detector, input=replace(detector.input, **changes))


def specs(student: Detector, teacher: Detector) -> tuple[InputSpec, InputSpec]:
    mine, its = prepare_alike(student, teacher)
    return mine.input, its.input


KNOWN = {"colour": "RGB", "mean": (128.0,) * 3, "scale": (1 / 128,) * 3, "assumed": False}
ASSUMED = {"colour": "BGR", "mean": (104.0, 117.0, 123.0), "scale": (1.0,) * 3, "assumed": True}


def test_what_is_stated_counts_on_both_sides() -> None:
    known, assumed = prepared(**KNOWN), prepared(**ASSUMED)
    assert specs(known, assumed) == (known.input, known.input)
    assert specs(assumed, known) == (known.input, known.input)
    assert specs(known, known) == (known.input, known.input)


def test_of_two_assumptions_the_students_counts_and_stays_one() -> None:
    student, teacher = prepared(**ASSUMED), prepared(**{**ASSUMED, "mean": (0.0,) * 3})
    assert specs(student, teacher) == (student.input, student.input)


def test_names_of_inputs_stay() -> None:
    mine, its = specs(prepared(**KNOWN, name="a"), prepared(**ASSUMED, name="b"))
    assert (mine.name, its.name) == ("a", "b")


@pytest.mark.parametrize("changes", [{"height": 80}, {"mean": (0.0,) * 3}, {"scale": (1.0,) * 3}, {"colour": "BGR"}])
def test_networks_of_other_pictures_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as error:
        prepare_alike(prepared(**KNOWN), prepared(**{**KNOWN, **changes}))
    assert error.value.code == "distillation-other-input"
    assert "cannot be compared: the teacher reads pictures as " in str(error.value)
