"""Limits on latency: a regression that is proven, a budget, deadlines, and that a measurement is valid at all."""

from __future__ import annotations

from collections.abc import Sequence

from deploycc.documents.latency import LatencyReport
from deploycc.errors import ArtefactError, BudgetMissed, Undecided
from deploycc.report.compare import Comparison, Row, compiled_runs, describe_change, disturbances_of
from deploycc.report.scenario import stream_of
from deploycc.report.stats import CONFIDENCE, summarise
from deploycc.report.verdict import Assessment, judge


def check_regression(comparison: Comparison, max_regression: float) -> None:
    """Refuse a candidate that is proven to be slower by more than ``max_regression``.

    Args:
        comparison: of two valid reports for one target.
        max_regression: allowed relative growth of the median; 0.05 allows 5 %.

    Raises:
        ArtefactError: different targets, no precision measured on both sides, or a precision that was measured
            before and is not now.
        BudgetMissed: a precision regressed.
        Undecided: ``regression-undecided``: none is proven to, and one may have.
    """
    if comparison.baseline_target != comparison.candidate_target:
        raise ArtefactError(
            "report-targets-differ",
            "a regression gate needs two reports for one target",
            context={"baseline": comparison.baseline_target, "candidate": comparison.candidate_target},
            hint="`deploycc report compare` shows both side by side",
        )
    lost = [row.precision for row in comparison.rows if _has_figures(row.baseline) and not _has_figures(row.candidate)]
    if lost or not any(row.change for row in comparison.rows):
        raise ArtefactError(
            "report-nothing-to-compare",
            f"{' and '.join(lost)}: measured in the baseline only"
            if lost
            else "no precision was measured in both reports in the same way",
            note="; ".join(f"{row.precision}: {row.incomparable}" for row in comparison.rows if row.incomparable)
            or None,
            hint="measure both with the same `precision`, and in the same scenario",
        )
    missed = [
        f"{row.precision}: median {row.change.baseline_ms:.3f} ms -> {row.change.candidate_ms:.3f} ms, "
        + describe_change(row.change)
        for row in comparison.rows
        if row.change and row.change.direction == "slower" and row.change.ratio > 1 + max_regression
    ]
    if missed:
        raise BudgetMissed(
            "latency-regression",
            "; ".join(missed),
            context={"target": comparison.candidate_target, "allowed": f"{max_regression:+.1%}"},
            note="; ".join(str(difference) for difference in comparison.differences) or None,
            hint="`deploycc report compare` shows every figure",
        )

    doubts = [f"{row.precision}: {doubt}" for row in comparison.rows if (doubt := _doubt(row, max_regression))]
    if doubts:
        raise Undecided(
            "regression-undecided",
            "the measurements cannot tell whether the candidate is slower than allowed",
            context={"target": comparison.candidate_target, "allowed": f"{max_regression:+.1%}"},
            note="; ".join(doubts),
            hint="measure both in turns on an idle device: `deploycc bench A B`",
        )


def _doubt(row: Row, max_regression: float) -> str:
    """Return why a larger regression than allowed cannot be excluded; empty if it can."""
    change = row.change
    if change is None or change.direction == "faster" or row.same_measurement:
        return ""
    slower_at_most = f"up to {change.high - 1:.1%} slower at {CONFIDENCE:.0%} confidence"
    # What disturbs the candidate can only have made it slower.
    if row.disturbed and (disturbances_of(row.baseline) or change.high > 1 + max_regression):
        return f"{row.disturbed}; {slower_at_most}"
    if change.high > 1 + max_regression + row.effect:
        return slower_at_most
    return ""


def check_budget(report: LatencyReport, budget_ms: float) -> None:
    """Refuse a report in which the compiled network's 99th percentile exceeds ``budget_ms`` in a precision.

    Raises:
        ArtefactError: nothing was measured.
        BudgetMissed: a precision is over its budget.
    """
    measured = [(run.precision, summarise(run.samples_ms)) for run in compiled_runs(report) if run.samples_ms]
    if not measured:
        raise ArtefactError(
            "report-nothing-measured",
            "the report holds no measured run",
            context={"target": report.target},
            note="; ".join(f"{run.precision}: {run.reason}" for run in compiled_runs(report)) or None,
            hint=next((run.hint for run in compiled_runs(report) if run.hint), None),
        )
    missed = [
        f"{precision}: p99 {summary.p99_ms:.3f} ms, {summary.p99_ms - budget_ms:.3f} ms over the budget"
        for precision, summary in measured
        if summary.p99_ms > budget_ms
    ]
    if missed:
        raise BudgetMissed(
            "latency-budget", "; ".join(missed), context={"target": report.target, "budget": f"p99 {budget_ms:g} ms"}
        )


def check_deadlines(report: LatencyReport, allowed: float) -> None:
    """Refuse a report in which the compiled network is late more often than ``allowed`` in a precision.

    Args:
        report: with a constant stream in every precision that was measured.
        allowed: share of the deadlines, 0..1; MLPerf Automotive allows `deploycc.report.scenario.MAX_MISSED`.

    Raises:
        ArtefactError: ``report-no-stream``: no constant stream was measured.
        BudgetMissed: ``deadlines-missed``.
    """
    streams = [(run.precision, stream) for run in compiled_runs(report) if (stream := stream_of(run)) is not None]
    if not streams:
        raise ArtefactError(
            "report-no-stream",
            "the report holds no constant stream",
            context={"target": report.target},
            hint="measure one with `deploycc bench DIR --period 66.7ms`",
        )
    missed = [
        f"{precision}: {stream.missed} of {stream.pictures} pictures late ({stream.missed_share:.3%})"
        for precision, stream in streams
        if stream.missed_share > allowed
    ]
    if missed:
        raise BudgetMissed(
            "deadlines-missed", "; ".join(missed), context={"target": report.target, "allowed": f"{allowed:.3%}"}
        )


def require_valid(reports: Sequence[LatencyReport]) -> None:
    """Refuse reports whose compiled network has a run that breaks a constraint: a gate on them proves nothing.

    Raises:
        ArtefactError: naming the constraints that failed.
    """
    broken = [
        f"{run.precision}: {reason}"
        for report in reports
        for run in compiled_runs(report)
        for verdict in [judge(run, report)]
        if verdict.status == "INVALID"
        for reason in verdict.failed
    ]
    if broken:
        raise ArtefactError(
            "report-invalid",
            "a gate needs valid measurements",
            note="; ".join(broken),
            hint="measure again without `quick`, or pass `accept_invalid`",
        )


def _has_figures(side: Assessment | None) -> bool:
    return side is not None and side.summary is not None
