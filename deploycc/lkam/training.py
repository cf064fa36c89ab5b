"""The training loop of dense and gated detectors."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deploycc.errors import DeployError, InputError
from deploycc.evaluation.dataset import Dataset
from deploycc.files import write_text
from deploycc.lkam.assess import assess
from deploycc.lkam.checkpoint import (
    Checkpoint,
    build_model,
    load_checkpoint,
    restore_model,
    save_checkpoint,
    set_schedules,
)
from deploycc.lkam.config import GateConfig, TrainConfig
from deploycc.lkam.distil import distillation_loss
from deploycc.lkam.insert import (
    calibrate_gates,
    deciding_gates,
    gated_convs,
    gates_by_layer,
    hold_statistics,
    impose_units,
    parameters_before_gates,
    retire_units,
)
from deploycc.lkam.network import Ssd
from deploycc.lkam.priors import VARIANCES, make_priors
from deploycc.lkam.samples import Samples
from deploycc.lkam.sparsity import conv_macs
from deploycc.progress import Say, quiet
from deploycc.trainable.memory import keep_freed_memory
from deploycc.trainable.multibox import multibox_loss
from deploycc.trainable.sparsity import engaged_share, gate_price

CHECKPOINT, METRICS = "checkpoint.pt", "metrics.json"
_RECORD_EVERY = 50
_SAVE_EVERY = 250
_CALIBRATE = 128  # pictures on which new gates are calibrated
_RETIRE = 256  # pictures on which the use of units is counted

Report = Callable[[dict[str, Any]], None]


def train(
    config: TrainConfig,
    samples: Samples,
    validation: Dataset,
    folder: Path,
    *,
    stop_after: int | None = None,
    report: Report = lambda _: None,
    say: Say = quiet,
) -> Checkpoint:
    """Run or resume a training.

    Args:
        config: the run. If `folder` contains a checkpoint of the same run, it is resumed; the result is bit for bit
            that of an uninterrupted run (on the same machine, with the same number of threads).
        samples: training data.
        validation: data on which the detector is scored at the end.
        folder: output folder for checkpoint and metrics.
        stop_after: stop early, after this total number of steps.
        report: called with each record of the history.
        say: called with the number of steps done.

    Raises:
        ArtefactError: a checkpoint cannot be read.
        InputError: the folder has a checkpoint of another run, or initial weights or teacher do not fit.
        DeployError: the loss is no longer finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    state, model = _start(config, folder / CHECKPOINT, samples)
    optimiser = _make_optimiser(model, config)
    if state.step:
        optimiser.load_state_dict(state.optimiser)
    _channels_last(model.train())
    teacher = _teacher(config)
    priors = torch.from_numpy(make_priors(config.network.size))
    blank = torch.zeros(1, 3, config.network.size, config.network.size)
    macs = conv_macs(model, blank)
    held = parameters_before_gates(model, blank) if config.gates is not None and config.gates.shared else []
    end = config.steps if stop_after is None else min(stop_after, config.steps)
    clock = time.monotonic()
    while state.step < end:
        record = _step(config, state, model, teacher, optimiser, samples, priors, macs, held)
        state.step += 1
        say(f"step, loss {record['location'] + record['score']:.2f}", state.step, end)
        if state.step % _RECORD_EVERY == 0 or state.step == end:
            record["seconds"] = round(time.monotonic() - clock, 1)
            state.history.append(record)
            report(record)
        if state.step % _SAVE_EVERY == 0 or state.step == end:
            state.model, state.optimiser = model.state_dict(), optimiser.state_dict()
            save_checkpoint(state, folder / CHECKPOINT)
    if state.step == config.steps:
        set_schedules(model, config, 1.0)
        impose_units(model, 0, None)
        result = assess(model.eval(), validation, config.class_names, say)
        write_metrics(folder / METRICS, {"config": config.to_dict(), "result": result, "history": state.history})
        report(result)
    return state


def write_metrics(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(values, indent=1) + "\n")


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine to zero."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    t = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * t))


def _start(config: TrainConfig, path: Path, samples: Samples) -> tuple[Checkpoint, Ssd]:
    model = build_model(config)
    if path.exists():
        state = load_checkpoint(path)
        if state.config != config:
            raise InputError(
                "checkpoint-other-run",
                "the folder contains the checkpoint of a run with other settings",
                context={"file": path},
                hint="choose another folder, or remove this one",
            )
        model.load_state_dict(state.model)
        return state, model
    has_trained_gates = False
    if config.initial is not None:
        source = restore_model(load_checkpoint(Path(config.initial)))
        _copy_weights(source, model, config.initial)
        has_trained_gates = any(True for _ in gated_convs(source))
    if config.gates is not None and has_trained_gates and config.gates.explore:
        raise InputError(
            "train-explore",
            "the initial weights have trained gates, whose inputs would change while widths are random",
            context={"file": config.initial},
            hint="start from a dense detector, or do not explore",
        )
    if config.gates is not None and has_trained_gates and config.gates.retire:
        retire_units(model, samples.batch(0, _RETIRE).pictures, config.gates.retire)
    if config.gates is not None and not has_trained_gates:
        calibrate_gates(model, samples.batch(0, _CALIBRATE).pictures)
    return Checkpoint(config, 0, {}, {}), model


def _teacher(config: TrainConfig) -> Ssd | None:
    if config.teacher is None:
        return None
    model = restore_model(load_checkpoint(Path(config.teacher)))
    if model.config != config.network:
        raise InputError(
            "teacher-other-network",
            "the teacher's network differs from the trained one",
            context={"file": config.teacher},
            note="input size, classes, architecture and width must match",
        )
    return _channels_last(model)


def _channels_last(model: Ssd) -> Ssd:
    move: Any = model.to  # whose types do not name the layout
    move(memory_format=torch.channels_last)
    return model


def _copy_weights(source: nn.Module, model: nn.Module, name: str) -> None:
    """Copy a dense network's weights into a gated one; gating moves a convolution and its norm one level down.

    If the numbers of classes differ, the last layers of the score heads keep their random initial weights.
    """
    weights = source.state_dict()
    renamed = dict(weights)
    fresh: set[str] = set()
    if isinstance(source, Ssd) and isinstance(model, Ssd) and source.config.classes != model.config.classes:
        fresh = {f"score.{level}.1.{part}" for level in range(len(model.score)) for part in ("weight", "bias")}
        renamed = {key: value for key, value in renamed.items() if key not in fresh}
    for gated, module in gated_convs(model):
        if f"{gated}.conv.weight" in weights:
            continue
        renamed[f"{gated}.conv.weight"] = renamed.pop(f"{gated}.weight")
        if f"{gated}.bias" in renamed:
            renamed[f"{gated}.conv.bias"] = renamed.pop(f"{gated}.bias")
        if module.norm is not None:
            parent = gated.rpartition(".")[0]
            for key in module.norm.state_dict():
                renamed[f"{gated}.norm.{key}"] = renamed.pop(f"{parent}.norm.{key}")
    try:
        missing, unexpected = model.load_state_dict(renamed, strict=False)
    except RuntimeError as error:
        raise InputError(
            "checkpoint-other-network",
            "the initial weights belong to another network",
            context={"file": name},
            note=str(error).splitlines()[1].strip(),
        ) from None
    foreign = [key for key in missing if ".gate." not in key and key not in fresh] + list(unexpected)
    if foreign:
        raise InputError(
            "checkpoint-other-network",
            "the initial weights belong to another network",
            context={"file": name, "parameter": foreign[0]},
        )


def _make_optimiser(model: Ssd, config: TrainConfig) -> torch.optim.AdamW:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr)


def _gate_price(settings: GateConfig, model: Ssd, macs: dict[str, int]) -> torch.Tensor:
    return gate_price(
        gates_by_layer(model),
        macs,
        gain=settings.gain,
        target=settings.target,
        spread=settings.spread,
        spread_weight=settings.spread_weight,
        weigh_macs=settings.weigh_macs,
    )


def _first_after(config: TrainConfig, step: int, fraction: float) -> bool:
    """Return whether this is the first step after a fraction of the steps."""
    return (step - 1) / config.steps < fraction <= step / config.steps


def _step(
    config: TrainConfig,
    state: Checkpoint,
    model: Ssd,
    teacher: Ssd | None,
    optimiser: torch.optim.AdamW,
    samples: Samples,
    priors: torch.Tensor,
    macs: dict[str, int],
    held: list[nn.Parameter],
) -> dict[str, Any]:
    progress = state.step / config.steps
    rate = learning_rate(config, state.step)
    for group in optimiser.param_groups:
        group["lr"] = rate
    set_schedules(model, config, progress)
    batch = samples.batch(state.step, config.batch)
    exploring = config.gates is not None and progress < config.gates.explore
    frozen = config.gates is not None and progress >= config.gates.freeze
    impose_units(model, len(batch.pictures), config.seed * config.steps + state.step if exploring else None)
    if config.gates is not None and config.gates.retire and _first_after(config, state.step, config.gates.freeze):
        retire_units(model, samples.batch(0, _RETIRE).pictures, config.gates.retire)
    if frozen:
        hold_statistics(model, held)
    if config.gates is not None and config.gates.explore and _first_after(config, state.step, config.gates.explore):
        calibrate_gates(model, samples.batch(0, _CALIBRATE).pictures)  # their inputs have changed since the start
    pictures = batch.pictures.contiguous(memory_format=torch.channels_last)
    offsets, logits = model(pictures)
    loss = multibox_loss(offsets, logits, priors, batch.boxes, batch.labels, torch.tensor(VARIANCES))
    total = loss.location + loss.score
    record: dict[str, Any] = {"step": state.step + 1, "lr": rate}
    if teacher is not None:
        with torch.no_grad():
            targets = teacher(pictures)
        distilled = distillation_loss((offsets, logits), targets)
        total = total + config.distil * distilled
        record["distilled"] = float(distilled.detach())
    if config.gates is not None:
        share = engaged_share(gates_by_layer(model), macs)
        if not frozen and not exploring:
            price = _gate_price(config.gates, model, macs)
            total = total + config.gates.press.at(progress) * price
        record |= {"engaged": float(share.mean()), "engaged_std": float(share.std())}
    if not bool(torch.isfinite(total)):
        raise DeployError(
            "training-diverged",
            "the loss is no longer finite",
            context={"step": state.step + 1},
            hint="use a lower learning rate",
        )
    optimiser.zero_grad()
    total.backward()
    if frozen:
        for parameter in [*held, *(p for gate in deciding_gates(model) for p in gate.parameters())]:
            parameter.grad = None
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimiser.step()
    return record | {"location": float(loss.location.detach()), "score": float(loss.score.detach())}
