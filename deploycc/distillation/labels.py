"""Labelled objects beside a teacher: what a data set says of pictures, and how far a network is from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from deploycc.detector import Detector, SsdHeads
from deploycc.distillation.heads import Activation, known_heads
from deploycc.distillation.loss import SEEN, logits_of
from deploycc.distillation.processes import total
from deploycc.distillation.views import Labels
from deploycc.errors import InputError, Note
from deploycc.evaluation.accuracy import known_classes, match_classes
from deploycc.evaluation.dataset import Dataset
from deploycc.trainable.matching import IGNORED
from deploycc.trainable.multibox import multibox_loss, sigmoid_entropy, softmax_entropy


def read_labels(
    dataset: Dataset, detector: Detector, names: tuple[str, ...] = ()
) -> tuple[Callable[[int], Labels], tuple[Note, ...]]:
    """Return the labels of a data set's pictures by their number, with the detector's classes, and notes.

    Args:
        dataset: annotated pictures.
        detector: with SSD heads.
        names: its class names with the background, if it does not know them.

    Raises:
        ModelError: ``distillation-no-heads``.
        InputError: ``labels-of-other-classes``: the data set has a class that the detector lacks; ``classes-unknown``,
            ``classes-count``, ``classes-foreign``: see `deploycc.evaluation.accuracy.match_classes`.
    """
    heads = known_heads(detector)
    matched, _ = match_classes(detector, dataset.class_names, names)
    known, notes = known_classes(detector, names)
    number_of = {matched[k]: number for number, k in enumerate(_objects(heads), start=1) if k in matched}
    missing = [name for label, name in enumerate(dataset.class_names) if label not in number_of]
    if missing:
        raise InputError(
            "labels-of-other-classes",
            f"the data set labels objects that the detector does not know: {', '.join(missing)}",
            context={"data": dataset.spelling, "detector": ", ".join(known)},
            note="their places would be taught as background",
            hint="leave them out of the data, name the detector's classes as the data set does (--names), or learn "
            "without labels (a label weight of 0)",
        )
    return partial(_labels, dataset, np.array([number_of[k] for k in range(len(number_of))], np.int64)), notes


def _labels(dataset: Dataset, number_of: np.ndarray[tuple[int], np.dtype[np.int64]], number: int) -> Labels:
    picture, truth = dataset.sample(number)
    height, width = picture.shape[:2]
    boxes = (truth.boxes / np.array([width, height] * 2, np.float32)).reshape(-1, 4)
    return Labels(boxes.astype(np.float32), np.where(truth.difficult, IGNORED, number_of[truth.classes]))


def _objects(heads: SsdHeads) -> list[int]:
    """The classes that are objects, in the order of the scores."""
    return [k for k in range(heads.classes) if k != heads.background]


class LabelLoss:
    """The SSD objective on the outputs of a detector's heads.

    Args:
        heads: of the detector.
        activation: of its scores.
        labelled: numbers of the classes that the data label. Of the others nobody knows where they are but the teacher:
            where it sees one, nothing is taught as background.
    """

    def __init__(self, heads: SsdHeads, activation: Activation, labelled: Collection[int]) -> None:
        self._priors = torch.from_numpy(heads.priors)
        variances = np.ones_like(heads.variances) if heads.variance_encoded else heads.variances
        self._variances, self._coding = torch.from_numpy(variances), heads.box_coding
        self._order = [1, 0, 3, 2] if heads.y_first else [0, 1, 2, 3]
        background = [] if heads.background is None else [heads.background]
        self._unlabelled = [k for number, k in enumerate(_objects(heads), start=1) if number not in labelled]
        self._columns, self._activation = [*background, *_objects(heads)], activation
        self._entropy = softmax_entropy
        if activation != "softmax":
            self._entropy = partial(sigmoid_entropy, background=bool(background))

    def of(self, scores: Tensor, locations: Tensor, labels: Sequence[Labels], teacher_probabilities: Tensor) -> Tensor:
        """Return the sum of both terms, divided by the number of priors that have an object in all processes.

        Args:
            scores: [N, P, C] as `deploycc.distillation.loss.distillation_loss` takes them.
            locations: [N, P, 4] offsets.
            labels: one per picture.
            teacher_probabilities: [N, P, C], without gradient.
        """
        boxes = torch.zeros(len(labels), max(len(label.classes) for label in labels), 4)
        classes = torch.zeros(boxes.shape[:2], dtype=torch.long)
        for row, label in enumerate(labels):
            boxes[row, : len(label.classes)] = torch.from_numpy(label.boxes)
            classes[row, : len(label.classes)] = torch.from_numpy(label.classes)
        loss = multibox_loss(
            locations[..., self._order],
            logits_of(scores, self._activation)[..., self._columns],
            self._priors,
            boxes,
            classes,
            self._variances,
            coding=self._coding,
            entropy=self._entropy,
            uncertain=(teacher_probabilities[..., self._unlabelled] > SEEN).any(2),
            total=total,
        )
        return loss.location + loss.score
