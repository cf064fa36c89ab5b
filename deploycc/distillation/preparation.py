"""Student and teacher see the same pixels: a file that does not state its preparation gets it from the other one."""

from __future__ import annotations

from dataclasses import replace

from deploycc.detector import Detector, InputSpec
from deploycc.errors import ModelError


def prepare_alike(student: Detector, teacher: Detector) -> tuple[Detector, Detector]:
    """Give a student and its teacher the same preparation of pictures.

    A preparation that a file states counts, before one that is assumed; of two assumed ones the student's does.

    Raises:
        ModelError: ``distillation-other-input``: the sizes differ, or both files state preparations that differ.
    """
    mine, its = student.input, teacher.input
    if (mine.height, mine.width) != (its.height, its.width):
        raise _other_input(student, teacher, f"{its.width}x{its.height}", f"{mine.width}x{mine.height} pixels")
    if not (mine.assumed or its.assumed or _preparation(mine) == _preparation(its)):
        raise _other_input(student, teacher, _shown(its), _shown(mine))
    known = its if mine.assumed and not its.assumed else mine
    return (
        replace(student, input=replace(known, name=mine.name)),
        replace(teacher, input=replace(known, name=its.name)),
    )


def _preparation(spec: InputSpec) -> tuple[object, ...]:
    return spec.colour, spec.mean, spec.scale


def _shown(spec: InputSpec) -> str:
    return f"{spec.colour} with mean {_numbers(spec.mean)} and scale {_numbers(spec.scale)}"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _other_input(student: Detector, teacher: Detector, its: str, mine: str) -> ModelError:
    return ModelError(
        "distillation-other-input",
        f"the two networks cannot be compared: the teacher reads pictures as {its}, the student as {mine}",
        context={"student": student.name, "teacher": teacher.name},
        hint="the teacher is the trained network that the student was pruned from",
    )
