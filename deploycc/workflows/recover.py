"""Recovering a pruned network: it learns from the network that it was pruned from, without labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.errors import Note
from deploycc.progress import Say, quiet
from deploycc.workflows.pictures import open_pictures
from deploycc.workflows.train import require_torch

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.detector.picture_list import PictureList
    from deploycc.distillation.loop import TrainingSettings
    from deploycc.distillation.recovery import Recovered


@dataclass(frozen=True, eq=False)
class Recovery:
    """A recovered network.

    Attributes:
        detector: to save; its notes say what it was trained on.
        training: see `deploycc.distillation.recovery.Recovered`.
        class_names: of the classes in its agreement, as far as they are known.
    """

    detector: Detector
    training: Recovered
    class_names: dict[int, str]

    @property
    def improved(self) -> bool:
        """Whether the network agrees more with its teacher than before; otherwise its weights are those it had."""
        return self.training.after.map50 > self.training.before.map50


def recover(
    pruned: Detector,
    teacher: Detector,
    pictures: str | Path | PictureList,
    settings: TrainingSettings | None = None,
    *,
    threads: int = 1,
    checkpoint: Path | None = None,
    report: Callable[[dict[str, float]], None] = lambda record: None,
    say: Say = quiet,
) -> Recovery:
    """Train a pruned network on the raw outputs of the network that it was pruned from.

    A tenth of the pictures, at most a hundred, is held out: agreement with the teacher on them decides which weights
    are kept.

    Args:
        pruned: with SSD heads that are known.
        teacher: the trained network.
        pictures: a folder or a data set (`deploycc.workflows.pictures`); labels are not looked at.
        settings: how to train.
        threads: of PyTorch.
        checkpoint: written while training; where it exists, the training goes on from it.
        report: called with every record of the history.
        say: progress.

    Raises:
        DeployError: ``train-extra-missing``; ``distillation-nothing-seen``.
        ModelError: the networks do not belong together, or an operator cannot be trained.
        InputError, PictureError: the pictures cannot be used.
        ArtefactError: the checkpoint belongs to another training.
    """
    require_torch()
    import torch

    from deploycc.distillation.loop import TrainingSettings
    from deploycc.distillation.recovery import recover as train
    from deploycc.distillation.samples import Samples
    from deploycc.passes import FOLD, run
    from deploycc.workflows.prune import cpu_options

    torch.set_num_threads(threads)
    settings = settings or TrainingSettings()
    # Folded first: training would fill the zeros at the borders of kernels that a pass can trim, and normalisation
    # that is part of its convolution needs no parameters of its own.
    student = run(pruned, cpu_options(), FOLD).detector
    reference = run(teacher, cpu_options(), FOLD).detector
    say("reading the pictures")
    opened = open_pictures(pictures, pruned.input)
    samples = Samples(opened, pruned.input, settings.seed)
    training = train(student, reference, samples, settings, checkpoint=checkpoint, report=report, say=say)
    detector = training.detector
    if training.after.map50 > training.before.map50:
        reason = (
            f"trained for {training.steps} steps on the outputs of {teacher.name} for {len(samples.trained_on)} "
            f"pictures without labels: {opened.source}, sha256 {opened.sha256[:16]}..."
        )
        detector = replace(detector, notes=(*detector.notes, Note("", "weights-recovered", reason)))
    names = {number: pruned.class_name(number) for number in training.after.by_class}
    return Recovery(detector, training, names)
