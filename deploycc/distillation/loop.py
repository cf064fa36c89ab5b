"""The training loop: a network learns what its teacher says, and labels where the pictures have them."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deploycc.distillation.agreement import Judge
from deploycc.distillation.average import Average
from deploycc.distillation.optimiser import Optimiser
from deploycc.distillation.pair import Pair
from deploycc.distillation.processes import add_gradients, is_first, part_of, said_by_first, total
from deploycc.distillation.samples import Samples
from deploycc.errors import ArtefactError
from deploycc.files import sha256_of
from deploycc.progress import Say
from deploycc.trainable.memory import keep_freed_memory
from deploycc.trainable.network import TrainableNetwork

_FORMAT = 6
_WARMUP_STEPS = 20
_CLIP = 10.0  # norm of all gradients together


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes:
        steps: batches.
        minutes: time limit of training, or None; the learning rate falls to 0 by whichever comes first.
        batch: pictures per step.
        rate: peak learning rate of a weight tensor, relative to its root mean square.
        check_every: steps between two looks at the pictures that are held out.
        seed: of the choice of pictures, their order and their changes.
        bfloat16: compute in 16 bits where the device has units for it; weights keep 32.
        map_weight: of the feature maps in the loss; 0: they are not compared.
        label_weight: of labelled objects in the loss, where the pictures have labels; 0: labels are not looked at.
        memory_mib: for what the teacher said of views that come again.
        balance: of the classes that the teacher sees, by how often their pictures are drawn; 0: all pictures are drawn
            alike (`deploycc.distillation.balance.Balance.power`).
    """

    steps: int = 4000
    minutes: float | None = None
    batch: int = 8
    rate: float = 0.003
    check_every: int = 250
    seed: int = 1
    bfloat16: bool = False
    map_weight: float = 1.0
    label_weight: float = 1.0
    memory_mib: int = 2048
    balance: float = 0.0


@dataclass
class State:
    """Where a training is, as its checkpoint holds it.

    Attributes:
        key: what it was made with (`key_of`).
        step, minutes: that it took so far.
        student, optimiser, average: their states.
        best: state of the student that agreed most with its teacher; empty before there is one.
        best_map50: that agreement.
        best_step: when it was reached; 0: by the weights that the training began with.
        layers: that have gates.
        history: a record per check.
    """

    key: str
    step: int = 0
    minutes: float = 0.0
    student: dict[str, Any] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    average: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    best_map50: float = -1.0
    best_step: int = 0
    layers: tuple[str, ...] = ()
    history: list[dict[str, float]] = field(default_factory=list)


class Task:
    """What a training does besides learning from the teacher; by itself nothing."""

    def begin_step(self, progress: float) -> None:
        """Prepare for a step; `progress` is the share of the training that is done."""

    def price(self, progress: float) -> Tensor | None:
        """Return what the last batch adds to the loss; None: nothing."""
        return None

    def adapt(self) -> None:
        """Fit what does not learn to the weights: to the average before it is judged, then to those to train on."""

    def facts(self) -> dict[str, float]:
        """Return what a record of the history says besides losses and agreement, of the weights that are judged."""
        return {}

    def may_keep(self, progress: float) -> bool:
        """Return whether weights of this moment may be the result."""
        return True


@dataclass(eq=False)
class Training:
    """A training, which `run` takes to its end.

    Attributes:
        pair: student and teacher.
        optimiser: of the student.
        samples: pictures.
        settings: how to train.
        judge: of the pictures that are held out.
        state: where the training is; it is changed.
        checkpoint: written at each check, or None.
        report: called with each record of the history.
        say: told each step.
        average: of the student's weights, which is judged and kept in their place; it begins where weights may be kept.
        task: what else to do.
    """

    pair: Pair
    optimiser: Optimiser
    samples: Samples
    settings: TrainingSettings
    judge: Judge
    state: State
    checkpoint: Path | None
    report: Callable[[dict[str, float]], None]
    say: Say
    average: Average
    task: Task = field(default_factory=Task)

    def run(self) -> str | None:
        """Take the steps that are left; return why it ended early, or None."""
        keep_freed_memory()
        pair, state, settings = self.pair, self.state, self.settings
        begin, before = time.monotonic(), state.minutes
        sums = [0.0] * 5
        while (progress := _progress(state, settings)) < 1:
            self.optimiser.slow_down(_factor(state.step, progress))
            self.task.begin_step(progress)
            loss = pair.loss(part_of(self.samples.views(state.step, settings.batch)), settings.bfloat16)
            price = self.task.price(progress)
            whole = loss.total if price is None else loss.total + price
            if not torch.isfinite(total(whole)):
                return f"the loss was no longer finite at step {state.step}; the best weights before it are kept"
            self.optimiser.zero_grad()
            whole.backward()
            add_gradients(pair.student.parameters())
            norm = torch.nn.utils.clip_grad_norm_(pair.student.parameters(), _CLIP)
            if torch.isfinite(norm):  # a gradient that is not would spoil every weight
                self.optimiser.step()
            state.step += 1
            if self.task.may_keep(progress):
                self.average.add()
            state.minutes = said_by_first(before + (time.monotonic() - begin) / 60)
            terms = [
                *total(torch.stack([loss.scores, loss.locations, loss.maps, loss.labels]).detach()).tolist(),
                1.0,
            ]
            sums = [former + term for former, term in zip(sums, terms, strict=True)]
            self.say(f"training, loss {sum(terms[:4]):.3f}", state.step, settings.steps)
            if state.step % settings.check_every == 0 or _progress(state, settings) >= 1:
                self._check(sums)
                sums = [0.0] * 5
        return None

    def _check(self, sums: list[float]) -> None:
        """Look at the pictures that are held out, keep the best weights, and save."""
        state, student, progress = self.state, self.pair.student, _progress(self.state, self.settings)
        with self.average.instead():
            self.task.adapt()
            map50, weights = self.judge.agreement(student.trained()).map50, copied(student)
            facts = self.task.facts()
        self.task.adapt()
        terms = ("scores", "locations", "maps", *(("labels",) if self.pair.labelled else ()))
        record = {
            "step": state.step,
            "minutes": round(state.minutes, 3),
            **{name: value / max(sums[4], 1) for name, value in zip(terms, sums, strict=False)},
            "agreement": map50,
            **facts,
        }
        state.history.append(record)
        if is_first():
            self.report(record)
        # Few objects are soon all found: of weights that agree equally, those that were trained longer are better.
        equal = map50 == state.best_map50 and state.best_step > 0
        if self.task.may_keep(progress) and (map50 > state.best_map50 or equal):
            state.best, state.best_map50, state.best_step = weights, map50, state.step
        if self.checkpoint is not None and is_first():
            state.student, state.optimiser = student.state_dict(), self.optimiser.state_dict()
            state.average = self.average.state()
            partial = self.checkpoint.with_name(self.checkpoint.name + ".partial")
            torch.save({"format": _FORMAT, **vars(state)}, partial)
            partial.replace(self.checkpoint)


def _progress(state: State, settings: TrainingSettings) -> float:
    """Share of the training that is done, by steps or by time."""
    by_time = 0.0 if settings.minutes is None else state.minutes / settings.minutes
    return max(state.step / settings.steps, by_time)


def _factor(step: int, progress: float) -> float:
    """Of the peak learning rate: a short linear rise, then a cosine to zero."""
    return min(1.0, (step + 1) / _WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def copied(network: TrainableNetwork) -> dict[str, Tensor]:
    """Return the weights as they are now."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def key_of(network: TrainableNetwork, samples: Samples, settings: TrainingSettings, *more: object) -> str:
    """What a checkpoint must have been made with; a longer training of the same may go on from it."""
    same = asdict(replace(settings, steps=1, minutes=None, check_every=1, memory_mib=0))
    label_weight, balance = same.pop("label_weight"), same.pop("balance")
    if samples.labelled:
        more = (*more, {"label_weight": label_weight})
    if balance:
        more = (*more, {"balance": balance})
    weights = {name: float(w.detach().double().sum()) for name, w in zip(network.names, network.weights, strict=True)}
    return repr((same, samples.trained_on, weights, *more))


def start(checkpoint: Path | None, key: str) -> State:
    """Return the state in a checkpoint, or a new one where there is none.

    Raises:
        ArtefactError: ``checkpoint-unreadable``, ``checkpoint-other-run``.
    """
    if checkpoint is None or not checkpoint.exists():
        return State(key)
    try:
        values = torch.load(checkpoint, map_location="cpu", weights_only=True)
        ours = isinstance(values, dict) and values.pop("format", None) == _FORMAT
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise ArtefactError(
            "checkpoint-unreadable", "the checkpoint is damaged", context={"file": checkpoint}, note=str(error)[:200]
        ) from None
    if not ours or values.get("key") != key:
        raise ArtefactError(
            "checkpoint-other-run",
            "the checkpoint belongs to another training",
            context={"file": checkpoint, "sha256": sha256_of(checkpoint)[:16]},
            hint="choose another output, or remove the checkpoint",
        )
    return State(**values)
