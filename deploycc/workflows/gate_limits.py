"""Plans of gates that are too slow are refused: on the pictures, or with every kernel on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from deploycc.errors import BudgetMissed

if TYPE_CHECKING:
    from deploycc.gate_planning.check import Checked
    from deploycc.gate_planning.planner import Planned
    from deploycc.workflows.predicted_gate_costs import AnyGateCosts


def check_limits(
    planned: Planned, checked: Checked | None, costs: AnyGateCosts, *, max_worst_case: float, max_time: float
) -> None:
    """Refuse a plan that is too slow.

    Args:
        planned: the plan.
        checked: what measuring showed of it; None where it is only predicted.
        costs: that it was made with.
        max_worst_case: bound of the time with every kernel on, as a multiple of the dense network's.
        max_time: bound of the time on the pictures, as a multiple of the dense network's.

    Raises:
        BudgetMissed: ``gates-worst-case``, ``gates-slower``.
    """
    evidence = _evidence(planned, checked, costs)
    _check_bound(planned, checked, max_worst_case, evidence)
    _check_saving(planned, checked, max_time, evidence)


def _evidence(planned: Planned, checked: Checked | None, costs: AnyGateCosts) -> dict[str, str]:
    """Say where the times of a plan come from, with intervals where they are predicted for a board."""
    times = costs.intervals(planned.dense_ms, planned.expected_ms, planned.all_on_ms)
    if times is None:
        return {"evidence": "predicted" if checked is None else "measured"}
    named = {
        "without gates": times.dense,
        "planned, mean over the pictures": times.expected,
        "planned, every kernel on": times.all_on,
    }
    return {
        "predicted": costs.describe(),
        **{name: f"{time.ms:.3g} ms ({time.low_ms:.3g} to {time.high_ms:.3g})" for name, time in named.items()},
    }


def _check_bound(planned: Planned, checked: Checked | None, max_worst_case: float, evidence: Mapping[str, str]) -> None:
    ratio = planned.all_on_ms / planned.dense_ms if checked is None else checked.worst_case
    if ratio > max_worst_case:
        raise BudgetMissed(
            "gates-worst-case",
            f"with every kernel on the network takes {ratio:.3f} of the dense one's time, more than {max_worst_case:g}",
            context=evidence,
            note="the gates themselves are computed for every picture, and entering a branch takes time",
            hint=f"`max_worst_case={ratio * 1.02:.2f}` allows it; `deploycc prune` makes constants of gates instead",
        )


def _check_saving(planned: Planned, checked: Checked | None, max_time: float, evidence: Mapping[str, str]) -> None:
    """Refuse a plan that takes longer than the network without gates: it costs time instead of saving it."""
    ratio = planned.expected_ms / planned.dense_ms if checked is None else checked.relative_time
    if ratio > max_time:
        raise BudgetMissed(
            "gates-slower",
            f"with its gates the network takes {ratio:.3f} of the dense one's time, more than {max_time:g}",
            context=evidence,
            note="what branches skip must outweigh computing the gates, entering branches and multiplying",
            hint=f"`deploycc prune` makes constants of gates instead; `max_time={ratio * 1.02:.2f}` allows it",
        )
