"""Gates learn which kernels a picture needs, while the network learns to say what it said without them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.distillation.agreement import Agreement
from deploycc.distillation.average import Average
from deploycc.distillation.gate_calibration import calibrate, engaged_on, recalibrate
from deploycc.distillation.gate_start import layers_with_spare, start_by_worth
from deploycc.distillation.gate_task import GateTask
from deploycc.distillation.gating_settings import GatingSettings
from deploycc.distillation.loop import Training, TrainingSettings, key_of, start
from deploycc.distillation.optimiser import Optimiser, hidden_matrices
from deploycc.distillation.pair import Pair
from deploycc.distillation.picture_worth import PictureWorth
from deploycc.distillation.recovery import watchful_judge
from deploycc.distillation.samples import Samples
from deploycc.errors import DeployError
from deploycc.graph.cost import measure_cost
from deploycc.progress import Say, quiet
from deploycc.trainable.gated import GatedNetwork

_RATE = 0.002  # peak learning rate of gates, whose weights begin at the same scale in every network
_ALL_ON = -0.1  # share of the units' order that begins switched off: none, and the first is on by a margin
_HELD = "pictures engage the share to keep"  # which checkpoints of earlier versions do not say
_PLAIN = 64  # pictures, at most, whose engaged share is looked at while gates are trained


@dataclass(frozen=True, eq=False)
class Gated:
    """The end of a training of gates.

    Attributes:
        detector: with the gates as nodes of its graph.
        layers: that have gates.
        gated_share: of the network's MACs, which these layers have.
        agreement: with the teacher, on the pictures that were held out.
        engaged: share of the gated MACs that each of these pictures engages, [N].
        retired: units that were switched off for good.
        steps, minutes, history, stopped: see `deploycc.distillation.recovery.Recovered`.
    """

    detector: Detector
    layers: tuple[str, ...]
    gated_share: float
    agreement: Agreement
    engaged: tuple[float, ...]
    retired: int
    steps: int
    minutes: float
    history: tuple[dict[str, float], ...]
    stopped: str | None


def train_gates(
    teacher: Detector,
    samples: Samples,
    settings: TrainingSettings,
    gating: GatingSettings,
    *,
    rank: Callable[[], PictureWorth] | None = None,
    refit: Callable[[Detector], Mapping[str, NDArray[np.float32]]] | None = None,
    checkpoint: Path | None = None,
    report: Callable[[dict[str, float]], None] = lambda record: None,
    say: Say = quiet,
) -> Gated:
    """Train gates and weights of a network on its own outputs without gates.

    Args:
        teacher: the trained network, with SSD heads; it stays as it is.
        samples: pictures.
        settings: how to train.
        gating: which gates, and how many kernels they may engage.
        rank: returns what the kernels of the layers are worth in pictures: those worth least per MAC begin switched
            off, as many as may be, and pictures change that a little (`deploycc.distillation.gate_start`); called where
            training begins. None, and gates that are nested or shared: all begin switched on.
        refit: returns the weights by constant that the network should begin with, for the network with its gates;
            called after ``rank``. None: weights begin as they were trained.
        checkpoint: written at each check, and read at the start where it exists; None: none.
        report: called with each record of the history.
        say: told each step.

    Raises:
        InputError: a layer cannot be gated so.
        ModelError: PyTorch does not run an operator of the network.
        ArtefactError: the checkpoint cannot be used.
        DeployError: ``distillation-nothing-seen``; ``training-no-result``: it ended before the gates were trained.
    """
    whole = GatedNetwork(teacher, (), (), gating.layers, gating.shape)  # refuses before anything long
    judge = watchful_judge(teacher, samples)
    # Nested units have an order already, and what a shared one is worth lies in many layers.
    rank = None if gating.shape.granularity == "nested" or gating.shape.shared else rank
    state = start(checkpoint, key_of(whole, samples, settings, asdict(gating), rank is None, _HELD))
    share_off = _ALL_ON if gating.keep is None else 1 - gating.keep
    stays = rank is not None and gating.keep is not None  # gates as they begin
    made: list[GatedNetwork] = []

    def make(detector: Detector, outputs: Sequence[str], inputs: Sequence[str]) -> GatedNetwork:
        made.append(GatedNetwork(detector, outputs, inputs, state.layers, gating.shape))
        return made[-1]

    worth = rank() if rank is not None and not state.step else None
    worths = worth.mean_worths() if worth is not None else {}
    if not state.step:
        state.layers = layers_with_spare(whole.macs, worths, share_off, gating.spare)
    torch.manual_seed(settings.seed)
    pair = Pair(teacher, teacher, samples, settings.memory_mib, settings.map_weight, make, settings.label_weight)
    [student] = made
    for _, gate in student.deciding:
        gate.threshold = gating.threshold
    looked_at = samples.trained_on[:: math.ceil(len(samples.trained_on) / _PLAIN)]

    def plain_shares() -> tuple[float, ...]:
        return engaged_on(student, looked_at, samples, teacher)

    def fit_gates() -> None:
        recalibrate(student, looked_at, samples, teacher, gating.spread)

    if not state.step:
        say("calibrating gates")
        calibrate(student, teacher, samples)
        if worth is not None:
            start_by_worth(student, worth, share_off, gating.spread)
            if refit is not None and share_off > 0:
                student.take(refit(student.trained()))
            fit_gates()
    optimiser = Optimiser(student, settings.rate, hidden_matrices(teacher))
    optimiser.add(student.gates.parameters(), _RATE)
    if state.step:
        student.load_state_dict(state.student)
        optimiser.load_state_dict(state.optimiser)
    fitted = fit_gates if stays and gating.shape.hidden else None  # see `KernelGate.recalibrate`
    task = GateTask(student, gating, plain_shares, learns=not stays, recalibrate=fitted)
    if state.history:
        task.aim(state.history[-1])
    average = Average(dict(zip(student.names, student.weights, strict=True)), state.average)
    training = Training(pair, optimiser, samples, settings, judge, state, checkpoint, report, say, average, task)
    stopped = training.run()
    if not state.best:
        raise DeployError(
            "training-no-result",
            "training ended before the gates were trained",
            context={"step": state.step},
            note=stopped or "gates are trained until their share of the training is over",
            hint="use a lower learning rate, or more steps",
        )
    student.load_state_dict(state.best)
    detector = student.trained()
    return Gated(
        detector,
        student.layers,
        sum(student.macs.values()) / measure_cost(teacher.graph).macs,
        judge.agreement(detector),
        engaged_on(student, samples.held_out, samples, teacher),
        task.retired,
        state.step,
        state.minutes,
        tuple(state.history),
        stopped,
    )
