"""A training run of a few steps."""

from __future__ import annotations

from pathlib import Path

from deploycc.evaluation.dataset import open_dataset
from deploycc.lkam.checkpoint import Checkpoint
from deploycc.lkam.config import GateConfig, TrainConfig
from deploycc.lkam.network import SsdConfig
from deploycc.lkam.samples import Samples
from deploycc.lkam.training import train
from deploycc.scenes import CLASS_NAMES

SIZE = 96


def small_config(**changes: object) -> TrainConfig:
    """Four steps of four pictures."""
    values: dict[str, object] = {
        "network": SsdConfig(len(CLASS_NAMES) + 1, SIZE, "mobilenet", 0.25),
        "class_names": CLASS_NAMES,
        "data": "generated:1:8",
        "validation": "generated:2:4",
        "steps": 4,
        "batch": 4,
        "warmup": 2,
    }
    return TrainConfig(**{**values, **changes})  # type: ignore[arg-type]


def small_gates(**changes: object) -> GateConfig:
    """Gates around two convolutions."""
    values: dict[str, object] = {"patterns": ("backend.1.*.conv",), "block": 16, "hidden": 4}
    return GateConfig(**{**values, **changes})  # type: ignore[arg-type]


def run(config: TrainConfig, folder: Path, stop_after: int | None = None) -> Checkpoint:
    """Train; what a checkpoint in the folder holds is continued."""
    samples = Samples(open_dataset(config.data, size=SIZE), SIZE, config.seed)
    return train(config, samples, open_dataset(config.validation, size=SIZE), folder, stop_after=stop_after)
