"""How far a student detects what its teacher detects, on pictures that neither was trained on here.

The teacher's confident detections serve as the objects, and the student is scored against them as against labels. So
the figure needs no labels, depends on no threshold of the student's, and moves like its accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.evaluation.detect import OnnxRuntimeDetector
from deploycc.evaluation.nms import Detections
from deploycc.evaluation.truth import Predictions, Truth
from deploycc.evaluation.voc import voc_scores

CONFIDENT = 0.5
"""Score from which a teacher's detection is an object; those below are neither right nor wrong."""
_DOUBTFUL = 0.2


@dataclass(frozen=True)
class Agreement:
    """Average precision of the student against the teacher's detections.

    Attributes:
        map50: mean over the classes that the teacher detects, each weighted by how often, 0..1; NaN where it detects
            nothing. Few pictures are held out: a class seen once would otherwise move the mean as much as one seen in
            half of them, and decide which weights are the best.
        by_class: class index to average precision and number of the teacher's detections.
    """

    map50: float
    by_class: dict[int, tuple[float, int]]


class Judge:
    """Scores students on the same pictures.

    Args:
        teacher: the reference.
        pictures: numbers of pictures.
        read: returns a picture, [H, W, 3] uint8, red first.
    """

    def __init__(self, teacher: Detector, pictures: Sequence[int], read: Callable[[int], NDArray[np.uint8]]) -> None:
        self._pictures = [read(number) for number in pictures]
        runner = OnnxRuntimeDetector(teacher)
        self._truths = [_truth(runner.detect(picture)) for picture in self._pictures]
        self._classes = 1 + max((int(truth.classes.max()) for truth in self._truths if len(truth.classes)), default=0)

    @property
    def objects(self) -> int:
        """The teacher's confident detections."""
        return sum(int(np.count_nonzero(~truth.difficult)) for truth in self._truths)

    def agreement(self, student: Detector) -> Agreement:
        """Score a student."""
        runner = OnnxRuntimeDetector(student)
        found = [runner.detect(picture) for picture in self._pictures]
        predictions = [Predictions(d.boxes, np.asarray(d.classes, np.int64), d.scores) for d in found]
        scores = voc_scores(self._truths, predictions, self._classes)
        by_class = {k: (score.area, score.objects) for k, score in enumerate(scores) if score.objects}
        if not by_class:
            return Agreement(float("nan"), {})
        return Agreement(sum(area * count for area, count in by_class.values()) / self.objects, by_class)


def _truth(detections: Detections) -> Truth:
    kept = detections.scores >= _DOUBTFUL
    classes = np.asarray(detections.classes, np.int64)[kept]
    return Truth(detections.boxes[kept], classes, detections.scores[kept] < CONFIDENT)
