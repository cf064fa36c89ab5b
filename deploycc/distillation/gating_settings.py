"""What a training of gates is told: which gates, and how many kernels they may engage."""

from __future__ import annotations

from dataclasses import dataclass

from deploycc.trainable.gated import GateShape
from deploycc.trainable.sparsity import Ramp

_PRESS = Ramp(0.0, 1.0, 0.0, 0.2)


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
