"""Recovery: a pruned network learns again what the network that it was pruned from says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploycc.detector import Detector
from deploycc.distillation.agreement import Agreement, Judge
from deploycc.distillation.average import Average
from deploycc.distillation.loop import Training, TrainingSettings, copied, key_of, start
from deploycc.distillation.optimiser import Optimiser, hidden_matrices
from deploycc.distillation.pair import Pair
from deploycc.distillation.samples import Samples
from deploycc.errors import DeployError
from deploycc.progress import Say, quiet


@dataclass(frozen=True, eq=False)
class Recovered:
    """The end of a training.

    Attributes:
        detector: the student with the best weights; those it came with where none were better.
        before, after: agreement with the teacher on the pictures that were held out.
        steps: that were taken.
        minutes: that training took.
        history: a record per check: step, minutes, the terms of the loss, agreement.
        stopped: why training ended early, or None.
    """

    detector: Detector
    before: Agreement
    after: Agreement
    steps: int
    minutes: float
    history: tuple[dict[str, float], ...]
    stopped: str | None


def recover(
    student: Detector,
    teacher: Detector,
    samples: Samples,
    settings: TrainingSettings,
    *,
    checkpoint: Path | None = None,
    report: Callable[[dict[str, float]], None] = lambda record: None,
    say: Say = quiet,
) -> Recovered:
    """Train a student on what its teacher says of pictures, and on their labels where they have them.

    Args:
        student: with raw SSD heads; its graph stays as it is.
        teacher: with the same heads; it may have more priors.
        samples: pictures.
        settings: how to train.
        checkpoint: written at each check, and read at the start where it exists; None: none.
        report: called with each record of the history.
        say: told each step.

    Raises:
        ModelError: the networks do not belong together, or PyTorch does not run an operator of them.
        ArtefactError: the checkpoint cannot be used.
        DeployError: ``distillation-nothing-seen``: the teacher detects nothing on the pictures that were held out.
    """
    judge = watchful_judge(teacher, samples)
    pair = Pair(student, teacher, samples, settings.memory_mib, settings.map_weight, label_weight=settings.label_weight)
    optimiser = Optimiser(pair.student, settings.rate, hidden_matrices(student))
    before = judge.agreement(student)
    state = start(checkpoint, key_of(pair.student, samples, settings))
    if state.step:
        pair.student.load_state_dict(state.student)
        optimiser.load_state_dict(state.optimiser)
    else:
        state.best, state.best_map50 = copied(pair.student), before.map50
    average = Average(dict(pair.student.named_parameters()), state.average)
    training = Training(pair, optimiser, samples, settings, judge, state, checkpoint, report, say, average)
    stopped = training.run()
    pair.student.load_state_dict(state.best)
    detector = pair.student.trained()
    after = judge.agreement(detector)
    return Recovered(detector, before, after, state.step, state.minutes, tuple(state.history), stopped)


def watchful_judge(teacher: Detector, samples: Samples) -> Judge:
    """Return a judge on the pictures that are held out.

    Raises:
        DeployError: ``distillation-nothing-seen``: the teacher detects nothing on them.
    """
    judge = Judge(teacher, samples.held_out, samples.picture)
    if not judge.objects:
        raise DeployError(
            "distillation-nothing-seen",
            "the teacher detects nothing on the pictures that were held out",
            context={"pictures": len(samples.held_out)},
            note="a network can only be taught what its teacher sees",
            hint="give pictures of what the detector is for",
        )
    return judge
