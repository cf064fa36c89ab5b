"""How well a student detects what its teacher detects, on pictures without labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.distillation.expected_precision import expected_objects, expected_precision
from deploycc.evaluation.detect import OnnxRuntimeDetector
from deploycc.evaluation.nms import Detections

CONFIDENT = 0.5
"""Score from which a teacher's detection is an object."""
DOUBTFUL = 0.05
"""Score from which a teacher's detection counts; see `deploycc.distillation.expected_precision`."""
_LEAST_OBJECTS = 0.5
"""Expected objects of a class from which it counts: below, chance decides its precision."""


@dataclass(frozen=True)
class Agreement:
    """Average precision of the student to be expected without labels, relative to the teacher's own.

    Attributes:
        map50: mean over the classes that the teacher detects, each weighted by how often; 1 for the teacher; NaN where
            it detects nothing. Few pictures are held out: a class seen once would otherwise move the mean as much as
            one seen in half of them, and decide which weights are the best.
        by_class: class index to the same for a class, and how many objects the teacher expects: the sum of its scores.
    """

    map50: float
    by_class: dict[int, tuple[float, float]]


class Judge:
    """Scores students on the same pictures.

    Args:
        teacher: the reference.
        pictures: numbers of pictures.
        read: returns a picture, [H, W, 3] uint8, red first.
    """

    def __init__(self, teacher: Detector, pictures: Sequence[int], read: Callable[[int], NDArray[np.uint8]]) -> None:
        self._pictures = [read(number) for number in pictures]
        own = self._detections(teacher)
        self._teachers = [_from(found, DOUBTFUL) for found in own]
        labels = sorted({int(label) for found in self._teachers for label in found.classes})
        expected = {label: expected_objects(self._teachers, label) for label in labels}
        self._expected = {label: objects for label, objects in expected.items() if objects >= _LEAST_OBJECTS}
        self._own = {label: expected_precision(self._teachers, own, label) for label in self._expected}

    @property
    def objects(self) -> int:
        """The teacher's confident detections."""
        return sum(int(np.count_nonzero(found.scores >= CONFIDENT)) for found in self._teachers)

    def agreement(self, student: Detector) -> Agreement:
        """Score a student."""
        found = self._detections(student)
        shares = {k: expected_precision(self._teachers, found, k) / own for k, own in self._own.items()}
        if not shares:
            return Agreement(float("nan"), {})
        mean = sum(share * self._expected[k] for k, share in shares.items()) / sum(self._expected.values())
        return Agreement(mean, {k: (share, self._expected[k]) for k, share in shares.items()})

    def _detections(self, detector: Detector) -> list[Detections]:
        runner = OnnxRuntimeDetector(detector)
        return [runner.detect(picture) for picture in self._pictures]


def _from(found: Detections, least: float) -> Detections:
    kept = found.scores >= least
    return Detections(found.boxes[kept], found.scores[kept], found.classes[kept])
