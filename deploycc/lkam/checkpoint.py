"""Saving and resuming a training run."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from deploycc.errors import ArtefactError
from deploycc.lkam.config import TrainConfig
from deploycc.lkam.insert import deciding_gates, insert_gates
from deploycc.lkam.network import Ssd

_FORMAT = "deploycc-training-1"


@dataclass
class Checkpoint:
    """A run after some steps.

    Attributes:
        config: what the run depends on; batches follow from it and the step, so no random state is kept.
        step: steps done.
        model, optimiser: state dictionaries.
        history: one record every few steps.
    """

    config: TrainConfig
    step: int
    model: dict[str, Any]
    optimiser: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write beside, then rename: an interrupted run leaves the previous checkpoint whole."""
    beside = path.with_name(path.name + ".part")
    torch.save({**vars(checkpoint), "config": checkpoint.config.to_dict(), "format": _FORMAT}, beside)
    beside.replace(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ArtefactError: missing, damaged, or something else.
    """
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ArtefactError("checkpoint-missing", "there is no such checkpoint", context={"file": path}) from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise ArtefactError(
            "checkpoint-unreadable", "the file is no whole checkpoint", context={"file": path}, note=str(error)[:200]
        ) from None
    if not isinstance(values, dict) or values.pop("format", None) != _FORMAT:
        raise ArtefactError("checkpoint-format", "the file is no checkpoint of this program", context={"file": path})
    return Checkpoint(**{**values, "config": TrainConfig.from_dict(values["config"])})


def build_model(config: TrainConfig) -> Ssd:
    """The network of a run with its gates, weights from the seed."""
    torch.manual_seed(config.seed)
    model = Ssd(config.network)
    if config.gates is not None:
        g = config.gates
        insert_gates(
            model, g.patterns, granularity=g.granularity, block=g.block, shared=g.shared, hidden=g.hidden, place=g.place
        )
    return model


def restore_model(checkpoint: Checkpoint) -> Ssd:
    """The network of a checkpoint with its weights, in evaluation mode; gates decide as at the end of the schedule."""
    model = build_model(checkpoint.config)
    model.load_state_dict(checkpoint.model)
    set_schedules(model, checkpoint.config, 1.0)
    return model.eval()


def set_schedules(model: Ssd, config: TrainConfig, progress: float) -> None:
    """Move every gate's threshold and slope to a share 0..1 of the run."""
    if config.gates is not None:
        for gate in deciding_gates(model):
            gate.threshold = config.gates.threshold.at(progress)
            gate.slope = config.gates.slope.at(progress)
