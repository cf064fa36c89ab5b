"""Gates learn which kernels a picture needs, while the network learns to say what it said without them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploycc.detector import Detector
from deploycc.detector.pictures import prepare
from deploycc.distillation.agreement import Agreement
from deploycc.distillation.average import Average
from deploycc.distillation.gate_start import layers_with_spare, start_by_worth
from deploycc.distillation.loop import Task, Training, TrainingSettings, key_of, start
from deploycc.distillation.optimiser import Optimiser, hidden_matrices
from deploycc.distillation.pair import Pair
from deploycc.distillation.picture_worth import PictureWorth
from deploycc.distillation.recovery import watchful_judge
from deploycc.distillation.samples import Samples
from deploycc.distillation.teacher import Teacher
from deploycc.errors import DeployError
from deploycc.graph.cost import measure_cost
from deploycc.progress import Say, quiet
from deploycc.trainable.gated import GatedNetwork, GateShape
from deploycc.trainable.sparsity import Ramp, engaged_share, gate_price

_CALIBRATE = 128  # views on which new gates are calibrated
_BATCH = 8
_PRESS = Ramp(0.0, 1.0, 0.0, 0.2)
_RATE = 0.002  # peak learning rate of gates, whose weights begin at the same scale in every network
_ALL_ON = -0.1  # share of the units' order that begins switched off: none, and the first is on by a margin
_CORRECTION = 0.5  # logits for a batch that is as far from its share as can be
_HELD = "pictures engage the share to keep"  # which checkpoints of earlier versions do not say
_RECALIBRATIONS = 2  # the first leaves what the gates before a gate change
_STRONGER = 1.25  # at most, between two checks
_FAINT = 1e-6
_PLAIN = 64  # pictures, at most, whose engaged share is looked at while gates are trained


@dataclass(frozen=True)
class GatingSettings:
    """Which gates to train, and how strongly kernels are pressed to go off.

    Gates whose units begin in order (`deploycc.distillation.gate_start`), at a share to keep, have that share and the
    spread from the beginning; they do not learn, only the network does. Trained as well, on a MobileNet-SSD of 21
    classes, they either hardly differed between pictures after 250 steps (0.9 points, from 2.2), or, pressed to differ
    by 3 points, differed by 3.8, at a loss of 0.24 instead of 0.16.

    Attributes:
        layers: names of convolutions, in graph order.
        shape: of the gates.
        keep: share of the gated MACs to keep engaged; None: as few as the loss allows.
        gain: weight of the sparsity term.
        press: schedule that multiplies it.
        spread, spread_weight: see `deploycc.trainable.sparsity.gate_price`.
        freeze: share of the training after which gates no longer change, and only the network adapts.
        retire: units that less than this share of the pictures engages are then switched off for good.
        threshold: of the gates' probabilities.
        spare: layers get no gate of which less than this share of the kernels would begin switched off: it would cost
            time in every picture and save next to nothing. 0: all get one.
    """

    layers: tuple[str, ...]
    shape: GateShape
    keep: float | None = 0.75
    gain: float = 0.3
    press: Ramp = _PRESS
    spread: float = 0.025
    spread_weight: float = 10.0
    freeze: float = 0.6
    retire: float = 0.0
    threshold: float = 0.5
    spare: float = 0.0


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
        return _engaged_on(student, looked_at, samples, teacher)

    def recalibrate() -> None:
        _recalibrate(student, looked_at, samples, teacher, gating.spread)

    if not state.step:
        say("calibrating gates")
        _calibrate(student, teacher, samples)
        if worth is not None:
            start_by_worth(student, worth, share_off, gating.spread)
            if refit is not None and share_off > 0:
                student.take(refit(student.trained()))
            recalibrate()
    optimiser = Optimiser(student, settings.rate, hidden_matrices(teacher))
    optimiser.add(student.gates.parameters(), _RATE)
    if state.step:
        student.load_state_dict(state.student)
        optimiser.load_state_dict(state.optimiser)
    task = _GateTask(student, gating, plain_shares, recalibrate if stays else None)
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
        _engaged_on(student, samples.held_out, samples, teacher),
        task.retired,
        state.step,
        state.minutes,
        tuple(state.history),
        stopped,
    )


class _GateTask(Task):
    """Presses kernels to go off, then freezes the gates and holds their share; if they never learn, recalibrates them.

    What views engage differs from what whole pictures do, by 4 points on street_ssd: at each check both are compared,
    and views are then held to a share at which pictures engage the one that was asked for.

    Gates that never learn read maps that change, and left alone the network lets them see less of what pictures differ
    in: on a MobileNet-SSD of 21 classes their spread fell from 2.5 to 1.7 points within 250 steps. So at each check
    they are fitted to the average of the weights before it is judged, and then to the weights that are trained on,
    like statistics of batch normalisation. Fitted to the average only, with a share held by views, the engaged share
    swung between 62 and 88 % after 2,500 steps.
    """

    def __init__(
        self,
        network: GatedNetwork,
        settings: GatingSettings,
        plain_shares: Callable[[], Sequence[float]],
        recalibrate: Callable[[], None] | None = None,
    ) -> None:
        self._network, self._settings, self._plain_shares = network, settings, plain_shares
        self._recalibrate = recalibrate  # gates that do not learn
        self._learns = recalibrate is None
        self._settled = False
        self._keep = settings.keep  # of views
        self._shares: list[Tensor] = []
        self.retired = 0
        network.gates.requires_grad_(self._learns)

    def begin_step(self, progress: float) -> None:
        settings = self._settings
        if self._settled or (progress < settings.freeze and (self._learns or settings.retire)):
            return
        self._settled, self._learns = True, False
        self._network.gates.requires_grad_(False)
        if settings.retire:
            self.retired = self._network.retire(settings.retire)

    def price(self, progress: float) -> Tensor | None:
        network, settings = self._network, self._settings
        network.count_use()
        shares = engaged_share(network.by_layer, network.macs)
        self._shares.append(shares)
        if not self._learns:
            if self._keep is not None and self._recalibrate is None:  # the maps that gates read still change
                network.shift_gates(_CORRECTION * (self._keep - float(shares.mean())))
            return None
        return settings.press.at(progress) * gate_price(
            network.by_layer,
            network.macs,
            gain=settings.gain,
            target=self._keep,
            spread=settings.spread,
            spread_weight=settings.spread_weight,
        )

    def adapt(self) -> None:
        if self._recalibrate is not None:
            self._recalibrate()

    def facts(self) -> dict[str, float]:
        plain = np.array(self._plain_shares())
        in_views, self._shares = float(torch.cat(self._shares).mean()), []
        facts = {"engaged": float(plain.mean()), "engaged_std": float(plain.std()), "engaged_in_views": in_views}
        self.aim(facts)
        return facts

    def aim(self, record: Mapping[str, float]) -> None:
        """Hold views to the share at which pictures engage the one that was asked for, by a record of the history."""
        if self._settings.keep is not None:
            self._keep = self._settings.keep + record["engaged_in_views"] - record["engaged"]

    def may_keep(self, progress: float) -> bool:
        return self._settled


def _calibrate(network: GatedNetwork, teacher: Detector, samples: Samples) -> None:
    """Scale new gates to what they read (`KernelGate.calibrate`); only means of maps are kept."""
    deciding = network.deciding
    source = Teacher(teacher, [network.reads[name] for name, _ in deciding], samples, 0, torch.get_num_threads())
    pooled: list[list[Tensor]] = [[] for _ in deciding]
    for first in range(0, _CALIBRATE, _BATCH):
        for parts, maps in zip(pooled, source.answers(range(first, first + _BATCH)), strict=True):
            parts.append(maps.mean((2, 3), keepdim=True))
    for (_, gate), parts in zip(deciding, pooled, strict=True):
        gate.calibrate(torch.cat(parts))


def _recalibrate(
    network: GatedNetwork, numbers: Sequence[int], samples: Samples, teacher: Detector, spread: float
) -> None:
    """Give what gates follow its mean and deviation again, and the engaged share its spread between pictures.

    Again and again, since what a gate reads depends on the gates before it.
    """
    gates = [gate for _, gate in network.deciding]
    for _ in range(_RECALIBRATIONS):
        pooled: list[list[Tensor]] = [[] for _ in gates]
        shares: list[float] = []
        for _ in _batches(network, numbers, samples, teacher):
            shares += engaged_share(network.by_layer, network.macs).tolist()
            for gate, parts in zip(gates, pooled, strict=True):
                assert gate.pooled is not None
                parts.append(gate.pooled)
        for gate, parts in zip(gates, pooled, strict=True):
            gate.recalibrate(torch.cat(parts))
    # Gates may agree less than they did at the beginning; a little at a time, since all of them follow.
    factor = float(np.clip(spread / max(float(np.std(shares)), _FAINT), 1 / _STRONGER, _STRONGER))
    for gate in gates:
        gate.strengthen(factor)


def _engaged_on(
    network: GatedNetwork, numbers: Sequence[int], samples: Samples, teacher: Detector
) -> tuple[float, ...]:
    """The share of the gated MACs that each picture engages."""
    shares: list[float] = []
    for _ in _batches(network, numbers, samples, teacher):
        shares += engaged_share(network.by_layer, network.macs).tolist()
    return tuple(shares)


def _batches(network: GatedNetwork, numbers: Sequence[int], samples: Samples, teacher: Detector) -> Iterator[None]:
    """Run whole pictures; the gates have read and decided for a batch whenever this yields."""
    for first in range(0, len(numbers), _BATCH):
        pictures = [prepare(samples.picture(number), teacher.input) for number in numbers[first : first + _BATCH]]
        with torch.no_grad():
            network(torch.from_numpy(np.concatenate(pictures)))
        yield
