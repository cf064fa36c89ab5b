"""Accuracy of a detector on annotated pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploycc.progress import Say, quiet

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.evaluation.accuracy import Accuracy


def evaluate_detector(detector: Detector, data: str, *, names: tuple[str, ...] = (), say: Say = quiet) -> Accuracy:
    """Run a detector over annotated pictures and score it.

    Args:
        detector: with raw heads or with in-graph detections.
        data: ``voc:FOLDER``, ``voc:FOLDER@SPLIT`` or ``generated:SEED[:COUNT]``.
        names: the detector's class names with the background, where it does not know them.
        say: told how many pictures are done.

    Raises:
        InputError: the data cannot be read or show no object, or the classes cannot be matched.
        ModelError, MeasureError: the detector cannot run or be read.
    """
    from deploycc.evaluation.accuracy import measure_accuracy
    from deploycc.evaluation.dataset import open_dataset

    return measure_accuracy(detector, open_dataset(data, size=detector.input.height), names=names, say=say)
