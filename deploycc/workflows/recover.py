"""Recovering a pruned network: it learns from the network that it was pruned from, and from labels if there are any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploycc.errors import InputError, Note
from deploycc.progress import Say, quiet
from deploycc.workflows.pictures import open_labelled, open_pictures
from deploycc.workflows.pictures_with_objects import pictures_with_objects
from deploycc.workflows.train import require_torch, use_threads

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.detector.picture_list import PictureList
    from deploycc.distillation.loop import TrainingSettings
    from deploycc.distillation.recovery import Recovered
    from deploycc.distillation.views import Labels
    from deploycc.workflows.prune import Pruned


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

    def facts(self) -> dict[str, Any]:
        """Return agreement, effort and history as plain values."""
        return {
            "before": self.training.before.map50,
            "after": self.training.after.map50,
            "steps": self.training.steps,
            "minutes": self.training.minutes,
            "stopped": self.training.stopped,
            "history": self.training.history,
        }


def recover(
    pruned: Detector,
    teacher: Detector,
    pictures: str | Path | PictureList,
    settings: TrainingSettings | None = None,
    *,
    names: tuple[str, ...] = (),
    threads: int = 0,
    checkpoint: Path | None = None,
    report: Callable[[dict[str, float]], None] = lambda record: None,
    say: Say = quiet,
) -> Recovery:
    """Train a pruned network on the raw outputs of the network that it was pruned from.

    Labels of a data set join the loss, unless the settings give them no weight. A tenth of the pictures, at most a
    hundred, is held out: agreement with the teacher on them decides which weights are kept, with and without labels.

    Args:
        pruned: with SSD heads that are known.
        teacher: the trained network.
        pictures: a folder or a data set (`deploycc.workflows.pictures`).
        settings: how to train.
        names: the network's class names with the background, if it does not know them and there are labels.
        threads: see `deploycc.workflows.train.use_threads`.
        checkpoint: written while training; where it exists, the training goes on from it.
        report: called with every record of the history.
        say: progress.

    Raises:
        DeployError: ``train-extra-missing``; ``distillation-nothing-seen``.
        ModelError: the networks do not belong together, or an operator cannot be trained.
        InputError, PictureError: the pictures cannot be used; ``labels-of-other-classes``.
        ArtefactError: the checkpoint belongs to another training.
    """
    require_torch()

    from deploycc.distillation.balance import balance_by
    from deploycc.distillation.loop import TrainingSettings
    from deploycc.distillation.preparation import prepare_alike
    from deploycc.distillation.processes import join
    from deploycc.distillation.recovery import recover as train
    from deploycc.distillation.samples import Samples
    from deploycc.passes import FOLD, run
    from deploycc.workflows.prune import cpu_options

    use_threads(threads)
    settings = settings or TrainingSettings()
    join(settings.batch)
    pruned, teacher = prepare_alike(pruned, teacher)
    # Folded first: training would fill the zeros at the borders of kernels that a pass can trim, and normalisation
    # that is part of its convolution needs no parameters of its own.
    student = run(pruned, cpu_options(), FOLD).detector
    reference = run(teacher, cpu_options(), FOLD).detector
    say("reading the pictures")
    opened, labels, notes = open_for_training(pictures, pruned, settings, names)
    samples = Samples(opened, pruned.input, settings.seed, labels, balance_by(reference, settings.balance))
    training = train(student, reference, samples, settings, checkpoint=checkpoint, report=report, say=say)
    detector = training.detector
    if training.after.map50 > training.before.map50:
        reason = (
            f"trained for {training.steps} steps on the outputs of {teacher.name} for {len(samples.trained_on)} "
            f"{pictures_sentence(opened, labels is not None)}"
        )
        detector = replace(detector, notes=(*detector.notes, *notes, Note("", "weights-recovered", reason)))
    shown = {number: pruned.class_name(number) for number in training.after.by_class}
    return Recovery(detector, training, shown)


def open_for_training(
    pictures: str | Path | PictureList, detector: Detector, settings: TrainingSettings, names: tuple[str, ...]
) -> tuple[PictureList, Callable[[int], Labels] | None, tuple[Note, ...]]:
    """Open pictures, with labels where they have any and the settings give labels a weight; see `open_labelled`."""
    if settings.label_weight:
        return open_labelled(pictures, detector, names)
    return open_pictures(pictures, detector.input), None, ()


def pictures_sentence(opened: PictureList, labelled: bool) -> str:
    """Say of which pictures a network learned."""
    return f"pictures {'and their' if labelled else 'without'} labels: {opened.source}, sha256 {opened.sha256[:16]}..."


def recover_for_targets(
    detector: Detector,
    pruned: Mapping[str, Pruned],
    pictures: str | Path | PictureList,
    settings: TrainingSettings | None = None,
    *,
    names: tuple[str, ...] = (),
    threads: int = 0,
    say: Say = quiet,
) -> dict[str, Pruned]:
    """Recover what a detector was pruned to for each target; targets that share a network share its training.

    Args:
        detector: the trained network, which teaches.
        pruned: name of a target to what it gets (`deploycc.workflows.target_pruning.prune_for_targets`).
        pictures: see `recover`.
        settings: of each training.
        names: see `recover`.
        threads: see `recover`.
        say: progress.

    Returns:
        The same with trained weights; where training did not help, with the weights that were there.

    Raises:
        DeployError, ModelError, InputError, PictureError: as `recover`.
    """
    require_torch()
    done: dict[int, Pruned] = {}
    for one in pruned.values():
        if id(one) not in done:
            recovery = recover(one.detector, detector, pictures, settings, names=names, threads=threads, say=say)
            done[id(one)] = replace(one, detector=recovery.detector, recovered=recovery.improved)
    return {target: done[id(one)] for target, one in pruned.items()}


def recover_in_stages(
    detector: Detector,
    teacher: Detector,
    pictures: str | Path | PictureList,
    settings: TrainingSettings | None = None,
    *,
    below: float,
    stages: int,
    names: tuple[str, ...] = (),
    threads: int = 0,
    checkpoint: Path | None = None,
    report: Callable[[dict[str, float]], None] = lambda record: None,
    say: Say = quiet,
) -> tuple[Recovery, ...]:
    """Prune a little, recover, and again: many small cuts are easier to mend than one large one.

    Each stage removes the same share of the multiply-accumulates that the back-end has left, those kernels on which the
    outputs depend least (`deploycc.workflows.fisher`), refits the weights that are left, and gets an equal part of the
    steps and minutes.

    Args:
        detector: the trained network, or a pruned one.
        teacher: the trained network.
        pictures: see `recover`.
        settings: of all stages together.
        below: share of the back-end's MACs that all stages remove together.
        stages: number of cuts; 0: it is only recovered.
        names: see `recover`.
        threads: see `recover`.
        checkpoint: its name gets the number of the stage.
        report: called with every record of the history, which then says its stage.
        say: progress.

    Returns:
        A recovery per stage; the last one has the network.

    Raises:
        InputError: ``recover-stages``: the share is not between 0 and 1; and as `recover`.
    """
    require_torch()
    from deploycc.distillation.loop import TrainingSettings
    from deploycc.distillation.preparation import prepare_alike
    from deploycc.workflows.fisher import fisher_importance
    from deploycc.workflows.prune import PruneSettings, prune

    if not 0 < below < 1:
        raise InputError("recover-stages", f"{below} of the MACs cannot be removed", hint="a share such as 0.2")
    settings = settings or TrainingSettings()
    detector, teacher = prepare_alike(detector, teacher)
    if not stages:
        how: dict[str, Any] = {"names": names, "threads": threads, "checkpoint": checkpoint, "report": report}
        return (recover(detector, teacher, pictures, settings, say=say, **how),)
    minutes = None if settings.minutes is None else settings.minutes / stages
    part = replace(settings, steps=-(-settings.steps // stages), minutes=minutes)
    cut = PruneSettings(by="fisher", below=1 - (1 - below) ** (1 / stages))
    done: list[Recovery] = []
    cut_on = pictures_with_objects(pictures, detector, say)
    for stage in range(1, stages + 1):
        before = done[-1].detector if done else detector
        importance = fisher_importance(before, cut_on, threads=threads, seed=settings.seed, say=say)
        smaller = prune(before, cut, importance=importance, pictures=cut_on, say=say).detector
        file = None if checkpoint is None else checkpoint.with_name(f"{checkpoint.stem}.{stage}{checkpoint.suffix}")

        def report_stage(record: dict[str, float], stage: int = stage) -> None:
            report({"stage": stage, **record})

        how = {"names": names, "threads": threads, "checkpoint": file, "report": report_stage}
        done.append(recover(smaller, teacher, pictures, part, say=say, **how))
    return tuple(done)
