"""Two latency reports side by side, and gates on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deploycc.documents.latency import LatencyReport, Run
from deploycc.errors import ArtefactError, BudgetMissed
from deploycc.report.environment import Difference, differences
from deploycc.report.stats import CONFIDENCE, Change, compare_medians, summarise
from deploycc.report.verdict import Assessment, assess_run, judge


@dataclass(frozen=True)
class Row:
    """One precision. A side is None where its report has no run of this precision; `change` needs both measured."""

    precision: str
    baseline: Assessment | None
    candidate: Assessment | None
    change: Change | None


@dataclass(frozen=True)
class Comparison:
    """Two reports, matched by precision.

    Attributes:
        baseline_target, candidate_target: names of the targets.
        rows: baseline's precisions first, in its order.
        differences: environment facts that the two do not share; not only the engine may explain a change then.
        warnings: what the reader must know before believing the rows.
    """

    baseline_target: str
    candidate_target: str
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]


def compare_reports(baseline: LatencyReport, candidate: LatencyReport) -> Comparison:
    """Compare the compiled network in every precision that either report has."""
    first = {run.precision: run for run in _compiled(baseline)}
    second = {run.precision: run for run in _compiled(candidate)}
    rows = tuple(
        _row(precision, first.get(precision), second.get(precision), baseline, candidate)
        for precision in [*first, *(name for name in second if name not in first)]
    )
    found = [*differences(baseline.environment, candidate.environment)]
    found += [
        Difference(f"{run.precision}.{field}", getattr(run, field), getattr(second[run.precision], field))
        for run in first.values()
        if run.precision in second
        for field in ("device", "threads")
        if getattr(run, field) != getattr(second[run.precision], field)
    ]
    return Comparison(
        baseline.target, candidate.target, rows, tuple(found), tuple(_warnings(baseline, candidate, rows, found))
    )


def check_regression(comparison: Comparison, max_regression: float) -> None:
    """Refuse a candidate that is significantly slower by more than ``max_regression``.

    Args:
        comparison: of two valid reports for one target.
        max_regression: allowed relative growth of the median; 0.05 allows 5 %.

    Raises:
        ArtefactError: different targets, no precision measured on both sides, or a precision that was measured
            before and is not now.
        BudgetMissed: a precision regressed.
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
            else "no precision was measured in both reports",
            hint="measure both with the same `precision`",
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


def check_budget(report: LatencyReport, budget_ms: float) -> None:
    """Refuse a report in which the compiled network's 99th percentile exceeds ``budget_ms`` in a precision.

    Raises:
        ArtefactError: nothing was measured.
        BudgetMissed: a precision is over its budget.
    """
    measured = [(run.precision, summarise(run.samples_ms)) for run in _compiled(report) if run.samples_ms]
    if not measured:
        raise ArtefactError(
            "report-nothing-measured",
            "the report holds no measured run",
            context={"target": report.target},
            note="; ".join(f"{run.precision}: {run.reason}" for run in _compiled(report)) or None,
            hint=next((run.hint for run in _compiled(report) if run.hint), None),
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


def require_valid(reports: Sequence[LatencyReport]) -> None:
    """Refuse reports whose compiled network has a run that breaks a constraint: a gate on them proves nothing.

    Raises:
        ArtefactError: naming the constraints that failed.
    """
    broken = [
        f"{run.precision}: {reason}"
        for report in reports
        for run in _compiled(report)
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


def describe_change(change: Change) -> str:
    """Return, for example, ``6.1 % slower (5.7 % to 6.6 % at 99 % confidence)``."""
    interval = f"({change.low - 1:+.1%} to {change.high - 1:+.1%} at {CONFIDENCE:.0%} confidence)"
    if change.direction == "not significant":
        return f"not significant {interval}"
    return f"{abs(change.ratio - 1):.1%} {change.direction} {interval}"


def _compiled(report: LatencyReport) -> list[Run]:
    """What is deployed: the original network beside it is compared within its own report (`report.variants`)."""
    return [run for run in report.runs if run.variant == "compiled"]


def _row(
    precision: str, first: Run | None, second: Run | None, baseline: LatencyReport, candidate: LatencyReport
) -> Row:
    both = first is not None and second is not None and first.samples_ms and second.samples_ms
    return Row(
        precision,
        assess_run(first, baseline) if first else None,
        assess_run(second, candidate) if second else None,
        compare_medians(first.samples_ms, second.samples_ms) if both and first and second else None,
    )


def _has_figures(side: Assessment | None) -> bool:
    return side is not None and side.summary is not None


def _warnings(
    baseline: LatencyReport, candidate: LatencyReport, rows: Sequence[Row], found: Sequence[Difference]
) -> list[str]:
    warnings = []
    if baseline.target != candidate.target:
        warnings.append(f"the reports are for different targets: {baseline.target} and {candidate.target}")
    if found:
        warnings.append(
            "the environments differ, so not only the engine may explain a change: " + "; ".join(map(str, found))
        )
    for row in rows:
        for name, side in (("baseline", row.baseline), ("candidate", row.candidate)):
            if side is None:
                warnings.append(f"{row.precision}: the {name} has no run of this precision")
            elif side.verdict.status != "VALID":
                reasons = "; ".join(side.verdict.failed)
                warnings.append(f"{row.precision}: the {name} is {side.verdict.status}: {reasons}")
            warnings += [f"{row.precision}: the {name}: {advice}" for advice in (side.verdict.warnings if side else ())]
    return warnings
