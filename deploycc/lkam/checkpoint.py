"""Save and resume training runs."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from deploycc.errors import ArtefactError
from deploycc.files import replacing
from deploycc.lkam.config import TrainConfig
from deploycc.lkam.insert import deciding_gates, insert_gates
from deploycc.lkam.network import Ssd

_FORMAT = "deploycc-training-1"


@dataclass
class Checkpoint:
    """A run after some steps.

    Attributes:
        config: settings of the run; with the step they determine the batches, so no random state is stored.
        step: number of steps done.
        model, optimiser: state dictionaries.
        history: one record every few steps.
    """

    config: TrainConfig
    step: int
    model: dict[str, Any]
    optimiser: dict[str, Any]
    history: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint; an interruption leaves the one before it intact."""
    with replacing(path) as temporary:
        torch.save({**vars(checkpoint), "config": checkpoint.config.to_dict(), "format": _FORMAT}, temporary)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ArtefactError: the file is missing, damaged, or not a checkpoint.
    """
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ArtefactError("checkpoint-missing", "there is no such checkpoint", context={"file": path}) from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise ArtefactError(
            "checkpoint-unreadable", "the checkpoint is damaged", context={"file": path}, note=str(error)[:200]
        ) from None
    if not isinstance(values, dict) or values.pop("format", None) != _FORMAT:
        raise ArtefactError("checkpoint-format", "the file is not a checkpoint of deploycc", context={"file": path})
    return Checkpoint(**{**values, "config": TrainConfig.from_dict(values["config"])})


def build_model(config: TrainConfig) -> Ssd:
    """Build the network of a run with its gates, weights initialised from the seed."""
    torch.manual_seed(config.seed)
    model = Ssd(config.network)
    if config.gates is not None:
        g = config.gates
        insert_gates(
            model, g.patterns, granularity=g.granularity, block=g.block, shared=g.shared, hidden=g.hidden, place=g.place
        )
    return model


def restore_model(checkpoint: Checkpoint) -> Ssd:
    """Build a checkpoint's network with its weights, in evaluation mode, gates as at the end of their schedules."""
    model = build_model(checkpoint.config)
    model.load_state_dict(checkpoint.model)
    set_schedules(model, checkpoint.config, 1.0)
    return model.eval()


def set_schedules(model: Ssd, config: TrainConfig, progress: float) -> None:
    """Set every gate's threshold and slope for a progress of 0..1."""
    if config.gates is not None:
        for gate in deciding_gates(model):
            gate.threshold = config.gates.threshold.at(progress)
            gate.slope = config.gates.slope.at(progress)
