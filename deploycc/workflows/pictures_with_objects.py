"""Pictures to rank kernels and refit weights on: those in which the detector is sure of an object.

Where a detector sees next to nothing, its outputs say how much it doubts, and kernels and weights that are chosen for
such pictures serve doubts. On a MobileNet-SSD of 21 classes, which is sure of an object in half of the pictures, 22 %
fewer MACs left 0.56 mAP50 of other pictures where all were ranked and refitted on, and 0.61 where only those
with objects were (0.70 before).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deploycc.detector.held_out import to_fit_on
from deploycc.progress import Say, quiet
from deploycc.workflows.pictures import open_pictures

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.detector.picture_list import FitPictures, PictureList

LEAST = 200
"""Fewer pictures are too few to do without one; so many are chosen even where the detector is less sure."""
_LOOK = 1200  # at most: enough for whatever is fitted


def pictures_with_objects(pictures: str | Path | PictureList, detector: Detector, say: Say = quiet) -> FitPictures:
    """Choose the pictures to rank kernels on, and to refit weights on.

    Args:
        pictures: see `deploycc.workflows.pictures.open_pictures`; those that were chosen already stay.
        detector: the trained network.
        say: progress.

    Returns:
        Of the pictures that do not judge (`deploycc.detector.held_out`), or 1,200 of more, those in which the detector
        is sure of an object; the 200 of which it is surest, where these are fewer. All, where there are no more than
        200, or where the detector's outputs are not known as detections.

    Raises:
        InputError, PictureError: see `open_pictures`.
        MeasureError: ONNX Runtime refuses the network.
    """
    from deploycc.detector.picture_list import FitPictures
    from deploycc.distillation.agreement import CONFIDENT
    from deploycc.evaluation.detect import OnnxRuntimeDetector

    opened = open_pictures(pictures, detector.input)
    if isinstance(opened, FitPictures):
        return opened
    fit_on = to_fit_on(opened)
    if len(fit_on.names) <= LEAST or (detector.heads is None and detector.detections is None):
        return fit_on
    looked_at = fit_on.some(_LOOK, 1)
    runner = OnnxRuntimeDetector(detector)
    surest = np.zeros(len(looked_at.names))
    for number in range(len(surest)):
        say("looking for pictures with objects", number, len(surest))
        surest[number] = runner.detect(looked_at.read(number)).scores.max(initial=0.0)
    enough = min(CONFIDENT, float(np.sort(surest)[-LEAST]))
    return looked_at.only(np.flatnonzero(surest >= enough).tolist())
