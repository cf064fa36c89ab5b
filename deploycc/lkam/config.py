"""The settings of a training run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from deploycc.documents.document import Granularity
from deploycc.lkam.insert import Place
from deploycc.lkam.network import SsdConfig
from deploycc.trainable.sparsity import Ramp

_THRESHOLD = Ramp(0.5, 0.5)
_SLOPE = Ramp(1.0, 1.0)
_PRESS = Ramp(0.0, 1.0, 0.0, 0.2)


@dataclass(frozen=True)
class GateConfig:
    """Which convolutions are gated, and how strongly sparsity is enforced.

    Attributes:
        patterns: module names, see `insert_gates`.
        granularity, block, shared, hidden, place: see `insert_gates`.
        gain: G of the sparsity term.
        weigh_macs: gains in proportion to the layers' MACs instead of equal.
        target: share of the gated MACs to keep engaged: the gain shrinks towards it and changes sign below it, so that
            kernels compete for a budget. None keeps the full gain.
        spread: standard deviation of the engaged share that the pictures of a batch should have.
        spread_weight: weight of the penalty if it is smaller, see `spread_loss`.
        threshold, slope: schedules of the gates' decision.
        press: schedule that multiplies the gain.
        explore: fraction of the steps, from the first, in which every picture gets a random number of units, so that
            the network works with any number; gates learn afterwards. ``nested`` only (slimmable networks, Yu et al.,
            2018).
        freeze: fraction of the steps after which gates no longer train and only the network adapts. Layers before a
            shared gate freeze too: their changes would shift the one decision that all layers depend on.
        retire: units engaged by less than this share of the pictures are switched off for good: at the start of a run
            with trained gates, and when gates freeze.
    """

    patterns: tuple[str, ...]
    granularity: Granularity = "kernel"
    block: int = 32
    shared: int | tuple[float, ...] = 0
    hidden: int = 16
    place: Place = "norm"
    gain: float = 0.3
    weigh_macs: bool = True
    target: float | None = 0.55
    spread: float = 0.05
    spread_weight: float = 10.0
    threshold: Ramp = _THRESHOLD
    slope: Ramp = _SLOPE
    press: Ramp = _PRESS
    explore: float = 0.0
    freeze: float = 0.75
    retire: float = 0.0


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        network: the detector.
        class_names: without background.
        data, validation: data sets as `open_dataset` spells them.
        steps, batch: number of steps, and pictures per step.
        lr, weight_decay: of AdamW; the learning rate warms up, then decays to zero as a cosine.
        warmup: number of warm-up steps.
        seed: of initial weights, sample order and augmentation.
        mirror_only: mirror without other augmentation, for data that varies enough.
        initial: checkpoint with the initial weights, or None.
        teacher: checkpoint of a detector whose outputs serve as additional targets, or None.
        distil: weight of the distillation loss, see `distillation_loss`.
        gates: None trains a dense detector.
    """

    network: SsdConfig
    class_names: tuple[str, ...]
    data: str
    validation: str
    steps: int = 4000
    batch: int = 32
    lr: float = 2e-3
    weight_decay: float = 1e-4
    warmup: int = 200
    seed: int = 1
    mirror_only: bool = False
    initial: str | None = None
    teacher: str | None = None
    distil: float = 1.0
    gates: GateConfig | None = field(default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON and checkpoints."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Return the configuration that `to_dict` wrote."""
        gates = values["gates"]
        if gates is not None:
            ramps = {key: Ramp(**gates[key]) for key in ("threshold", "slope", "press")}
            gates = GateConfig(**{**gates, **ramps, "patterns": tuple(gates["patterns"])})
        return cls(
            **{
                **values,
                "network": SsdConfig(**values["network"]),
                "class_names": tuple(values["class_names"]),
                "gates": gates,
            }
        )
