"""The one source of costs that a target has: measured here, predicted from its facts, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploycc.errors import TargetError

if TYPE_CHECKING:
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.target import Target
    from deploycc.timing.convolutions import Costs

TILE = 32
"""Kernels in the narrowest tile of TensorRT's convolutions: what numbers of kernels are rounded to without costs."""


@dataclass(frozen=True, eq=False)
class CostSource:
    """Where the costs of some targets come from.

    Attributes:
        targets: whose costs are the same.
        measured: this machine's own times are theirs.
        predicted: from their facts; None where they are measured, or where nothing is known of them.
    """

    targets: tuple[Target, ...]
    measured: bool
    predicted: PredictedCosts | None

    @property
    def known(self) -> bool:
        """Return whether times are measured or predicted."""
        return self.measured or self.predicted is not None

    def describe(self) -> str:
        """Say whose costs decide for which targets."""
        names = ", ".join(target.name for target in self.targets)
        if self.measured:
            return f"{names}: numbers of kernels follow times measured on this machine"
        if self.predicted is not None:
            return f"{names}: numbers of kernels follow predicted times: {self.predicted.describe()}"
        return f"{names}: no times are measured or predicted; numbers of kernels become multiples of {TILE}"


def host_costs() -> Costs:
    """Costs that this machine measures, on all cores that the process may use."""
    from deploycc.timing.convolutions import Costs
    from deploycc.timing.machine import this_machine, usable_cores

    return Costs(this_machine(usable_cores()))


def measured_here(target: Target) -> bool:
    """Return whether this machine's own times are those of a target."""
    return target.runtime == "onnxruntime"


def cost_sources(targets: Sequence[Target]) -> list[CostSource]:
    """Return the sources of several targets' costs; each target is in one of them.

    Targets of one GPU, stack and precision share a prediction.
    """
    from deploycc.prediction.costs import PredictedCosts

    predictions: dict[object, list[tuple[Target, PredictedCosts]]] = {}
    measured, unknown = [], []
    for target in targets:
        if measured_here(target):
            measured.append(target)
            continue
        try:
            costs = PredictedCosts(target)
        except TargetError:
            unknown.append(target)
            continue
        key = costs.basis.stack.name, costs.basis.gpu, costs.precision
        predictions.setdefault(key, []).append((target, costs))
    sources = [CostSource(tuple(measured), True, None)] if measured else []
    for alike in predictions.values():
        sources.append(CostSource(tuple(target for target, _ in alike), False, alike[0][1]))
    return [*sources, *([CostSource(tuple(unknown), False, None)] if unknown else [])]
