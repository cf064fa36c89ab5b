"""Two networks in a row where one decision switches many layers: which numbers of kernels get a second network.

Unlike variants in branches, none of them is tested for inside the network, so that more of them may pay. How long they
take on the pictures is timed afterwards; this only says which are worth it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from deploycc.gate_planning.costs import CostModel
from deploycc.gate_planning.operations import Line
from deploycc.gate_planning.planner import MOST_PIECES, NEAR_TIE
from deploycc.gate_planning.regions import Choice, PlannedLayer
from deploycc.gate_planning.shared_decisions import TimedDecision, variant_choices

MOST_STAGES = 1 + MOST_PIECES
"""Networks that a decision may become: the one that decides, and those that may follow."""


def stage_choices(timed: TimedDecision, layers: Sequence[PlannedLayer], model: CostModel) -> list[Choice]:
    """Return the best numbers of kernels for two, three ... second networks, the best of these first.

    Args:
        timed: a decision, with the times of its candidates.
        layers: of the whole network.
        model: costs of convolutions and multiplications.

    Returns:
        Choices whose sizes are the kernels of each layer in each second network. Each second network more must save
        `deploycc.gate_planning.planner.NEAR_TIE` of the time.
    """
    spanned = [number for number, layer in enumerate(layers) if layer.name in timed.decision.layers]
    region = layers[spanned[0] : spanned[-1] + 1]
    untested = replace(model, lines={**model.lines, "branch": Line(0.0, 0.0)})
    choices = variant_choices(timed, region, untested, MOST_PIECES)
    return sorted(choices, key=lambda choice: choice.expected_ms * (1 + NEAR_TIE * choice.branches))
