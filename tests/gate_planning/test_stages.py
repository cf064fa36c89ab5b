"""Numbers of kernels for second networks: no test inside a network makes more of them cost time."""

from __future__ import annotations

import numpy as np
import pytest
from planned_layers import layer, model, prefixes

from deploycc.gate_planning.planner import MOST_PIECES
from deploycc.gate_planning.shared_decisions import SharedDecision, TimedDecision, variant_choices
from deploycc.gate_planning.stages import stage_choices

WIDTHS = (16, 32, 48, 64)


@pytest.mark.parametrize("branch", [0.0, 0.3, 50.0])
def test_tests_of_branches_do_not_count(branch: float) -> None:
    active = prefixes(200, 64, list(WIDTHS), 0)
    units = tuple(kernel // 16 for kernel in range(64))
    layers = [layer(f"layer {number}", active, unit_of=units, nested=True) for number in range(2)]
    orders, sizes = (tuple(range(64)),) * 2, tuple((width,) * 2 for width in WIDTHS)
    need = np.searchsorted(np.array(WIDTHS), active.sum(1))
    decision = SharedDecision(("layer 0", "layer 1"), orders, sizes, need, (True,) * 4, (), WIDTHS)
    timed = TimedDecision(decision, np.array([1.0, 3.0, 6.0, 9.0]))
    costs = model(layers, branch=branch)
    best = stage_choices(timed, layers, costs)
    free = variant_choices(timed, layers, model(layers, branch=0.0), MOST_PIECES)
    assert best[0].sizes == (WIDTHS, WIDTHS)  # each further one saves more than the least that it must
    assert {choice.sizes: choice.expected_ms for choice in best} == {
        choice.sizes: choice.expected_ms for choice in free
    }
