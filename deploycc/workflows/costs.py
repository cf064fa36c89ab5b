"""The one source of costs that a target has: measured here, predicted from its facts, or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deploycc.errors import TargetError

if TYPE_CHECKING:
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.target import Target

TILE = 32
"""Kernels in the narrowest tile of TensorRT's convolutions: what numbers of kernels are rounded to without costs."""


def measured_here(targets: Sequence[Target]) -> bool:
    """Return whether this machine's own times are those of one of the targets."""
    return any(target.runtime == "onnxruntime" for target in targets)


def predicted_costs(targets: Sequence[Target]) -> PredictedCosts | None:
    """Return costs of the first target that can be predicted; None where none can."""
    from deploycc.prediction.costs import PredictedCosts

    for target in targets:
        try:
            return PredictedCosts(target)
        except TargetError:
            continue
    return None
