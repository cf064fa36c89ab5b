"""Plans of gates that are too slow are refused: on the pictures, or with every kernel on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from deploycc.errors import BudgetMissed

if TYPE_CHECKING:
    from deploycc.documents.staged_times import StagedRecord
    from deploycc.errors import Note
    from deploycc.gate_planning.check import Checked
    from deploycc.gate_planning.planner import Planned
    from deploycc.target import Target
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


def check_in_a_row(record: StagedRecord | None, notes: Sequence[Note], target: Target, costs: AnyGateCosts) -> None:
    """Refuse to plan for a target where only networks in a row skip work, and they are not chosen.

    Args:
        record: their times; None where the network is not split.
        notes: why it is not.
        target: that has no branches.
        costs: that they come from.

    Raises:
        BudgetMissed: ``gates-in-a-row``.
    """
    if record is not None and record.chosen:
        return
    reasons = [note.reason for note in notes if note.code == "gate-not-staged"]
    why = record.why if record is not None else (reasons or ["no decision switches several layers"])[0]
    times = {} if record is None else {
        "without gates": f"{record.dense_ms:.3g} ms",
        "in a row, mean over the pictures": f"{record.expected_ms:.3g} ms, composed",
        "in a row, slowest": f"{record.worst_ms:.3g} ms, composed",
    }  # fmt: skip
    allowed = "" if record is None else (
        f"`max_time={record.relative_time * 1.02:.2f}` and `max_worst_case={record.worst_case * 1.02:.2f}` allow them; "
    )  # fmt: skip
    raise BudgetMissed(
        "gates-in-a-row",
        f"networks in a row are not planned for {target.name}: {why}",
        context={"costs": costs.describe(), **times},
        note="a branch skips nothing on this target, so nothing else saves time",
        hint=f"{allowed}`deploycc prune` makes constants of gates instead",
    )


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
