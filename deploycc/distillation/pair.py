"""A student beside its teacher: what is compared, and from where on the student is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deploycc.detector import Detector
from deploycc.distillation.heads import common_rows, score_tensor
from deploycc.distillation.labels import LabelLoss
from deploycc.distillation.loss import Loss, distillation_loss, map_distance, probabilities_of
from deploycc.distillation.precision import fast_type
from deploycc.distillation.samples import Samples
from deploycc.distillation.shared import common_maps, find_divergence
from deploycc.distillation.teacher import Teacher
from deploycc.trainable.network import TrainableNetwork


def _plain(detector: Detector, outputs: Sequence[str], inputs: Sequence[str]) -> TrainableNetwork:
    return TrainableNetwork(detector, outputs, inputs=inputs)


class Pair:
    """A student and its teacher.

    The student is trained from where it first differs from its teacher; what lies before is the same in both, and the
    teacher's values are the input.

    Args:
        student, teacher: with the same SSD heads.
        samples: pictures.
        memory_mib: for answers of the teacher that are remembered.
        map_weight: of the feature maps in the loss.
        make: makes the student's module from a detector and the names of outputs and inputs.
        label_weight: of the labels in the loss, where the pictures have labels.

    Attributes:
        student: the module that is trained.
        labelled: whether labels are part of the loss.
    """

    def __init__(
        self,
        student: Detector,
        teacher: Detector,
        samples: Samples,
        memory_mib: int,
        map_weight: float,
        make: Callable[[Detector, Sequence[str], Sequence[str]], TrainableNetwork] = _plain,
        label_weight: float = 0.0,
    ) -> None:
        self._rows = torch.from_numpy(common_rows(student, teacher))
        mine, its = score_tensor(student), score_tensor(teacher)
        divergence = find_divergence(student, teacher)
        starts = divergence.starts
        maps = common_maps(student, teacher, divergence.same) if map_weight else {}
        assert student.heads is not None
        assert teacher.heads is not None
        self._mine, self._its, self._map_weight = mine, its, map_weight
        self._channels = {name: torch.from_numpy(channels) for name, channels in maps.items()}
        self.student = make(student, [mine.name, student.heads.locations, *maps], starts)
        self._teacher = Teacher(
            teacher, [*starts, its.name, teacher.heads.locations, *maps], samples, memory_mib, torch.get_num_threads()
        )
        self._starts = len(starts)
        self._classes, self._background = student.heads.classes, student.heads.background
        self._samples, self._label_weight = samples, label_weight
        self.labelled = samples.labelled and label_weight > 0
        self._label_loss = LabelLoss(student.heads, mine.activation, samples.labelled_classes)

    def loss(self, views: Sequence[int], bfloat16: bool) -> Loss:
        """Compare the two on a batch of views, with ``bfloat16`` in 16 bits where the device has units for it."""
        answers = self._teacher.answers(views)
        begin, (scores, locations, *its_maps) = answers[: self._starts], answers[self._starts :]
        device = begin[0].device
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16 and fast_type(device) == torch.bfloat16):
            my_scores, my_locations, *my_maps = self.student(*begin)
        count, classes = len(views), self._classes
        target = probabilities_of(_per_prior(scores, count, classes), self._its.activation)[:, self._rows]
        my_scores, my_locations = _per_prior(my_scores, count, classes), _per_prior(my_locations, count, 4)
        loss = distillation_loss(
            my_scores,
            my_locations,
            target,
            _per_prior(locations, count, 4)[:, self._rows],
            self._mine.activation,
            self._background,
        )
        if self.labelled:
            labels = [self._samples.labels(view) for view in views]
            labelled = self._label_loss.of(my_scores, my_locations, labels, target)
            loss = replace(loss, labels=self._label_weight * labelled)
        if not my_maps:
            return loss
        distances = [
            map_distance(mine.float(), self.student.computed(name, its[:, channels]))
            for mine, its, (name, channels) in zip(my_maps, its_maps, self._channels.items(), strict=True)
        ]
        return replace(loss, maps=self._map_weight * torch.stack(distances).mean())


def _per_prior(values: Tensor, count: int, width: int) -> Tensor:
    """As [count, P, width], in 32 bits: a softmax may see all priors of all pictures as rows."""
    return values.float().reshape(count, -1, width)
