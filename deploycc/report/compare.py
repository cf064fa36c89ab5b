"""Two latency reports side by side.

What a comparison may claim depends on how the two were measured, best first:

turns         both engines in turns with one another (`deploycc bench A B`): what else the machine did met both.
pairs         both engines in turns with the same original network, maybe on different days: each pair of blocks shares
              what else the machine did, and the quotients by the original are compared.
runs          several runs of one side or both: their spread holds what differs from process to process.
one process   one run on each side: no interval shows what a process adds, so only a larger difference counts
              (`MIN_EFFECT_OF_PROCESSES`), and none where something else disturbed one of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from deploycc.documents.latency import LatencyReport, Run
from deploycc.report.environment import Difference, differences
from deploycc.report.scenario import how_pictures_came
from deploycc.report.stats import (
    CONFIDENCE,
    MIN_EFFECT,
    MIN_EFFECT_OF_PROCESSES,
    Change,
    compare_medians,
    compare_pairs,
    compare_runs,
    compare_through,
    summarise,
)
from deploycc.report.variants import by_block, measured_in_turns, typical_samples
from deploycc.report.verdict import Assessment, assess_run

Basis = Literal["turns", "pairs", "runs", "one process"]


@dataclass(frozen=True)
class Row:
    """One precision.

    Attributes:
        precision: of both engines.
        baseline, candidate: the latest run of each side; None where its report has no run of this precision.
        change: of the median, where both were measured.
        basis: what the change is known by.
        disturbed: why the two cannot be compared, whatever the figures say; empty where they can.
    """

    precision: str
    baseline: Assessment | None
    candidate: Assessment | None
    change: Change | None
    basis: Basis = "one process"
    disturbed: str = ""

    @property
    def same_measurement(self) -> bool:
        """Return whether both sides are one and the same run."""
        return bool(self.baseline and self.candidate and self.baseline.run == self.candidate.run)

    @property
    def incomparable(self) -> str:
        """Return why two measured runs say nothing of one another; empty where they do."""
        if not self.baseline or not self.candidate:
            return ""
        before, after = how_pictures_came(self.baseline.run), how_pictures_came(self.candidate.run)
        return "" if before == after else f"{before} in the baseline, {after} in the candidate"

    @property
    def effect(self) -> float:
        """Relative change below which no difference is claimed."""
        return MIN_EFFECT_OF_PROCESSES if self.basis == "one process" else MIN_EFFECT


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


def compare_reports(
    baseline: LatencyReport,
    candidate: LatencyReport,
    *,
    more_baselines: Sequence[LatencyReport] = (),
    more_candidates: Sequence[LatencyReport] = (),
) -> Comparison:
    """Compare the compiled network in every precision that either report has.

    Args:
        baseline: what is shown of the one side.
        candidate: what is shown of the other.
        more_baselines: other reports of the baseline's engines; runs of other engines in them are left out.
        more_candidates: the same of the candidate's.
    """
    first = {run.precision: run for run in compiled_runs(baseline)}
    second = {run.precision: run for run in compiled_runs(candidate)}
    rows = tuple(
        _row(precision, (baseline, *more_baselines), (candidate, *more_candidates))
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


def comparison_lines(baseline: LatencyReport, candidate: LatencyReport) -> list[str]:
    """Say in a sentence per precision whether the candidate is faster or slower."""
    return [f"{row.precision}: {describe_row(row)}" for row in compare_reports(baseline, candidate).rows]


def describe_row(row: Row) -> str:
    """Return the result of one precision: what changed, or why nobody can tell."""
    if row.change is None:
        return f"nothing to compare: {row.incomparable}" if row.incomparable else "nothing to compare"
    if row.same_measurement:
        return "not significant: both sides are the same measurement"
    said = describe_change(row.change)
    if row.disturbed:
        return f"not significant: {row.disturbed} ({row.change.ratio - 1:+.1%} measured)"
    return said if row.basis == "one process" else f"{said}, from {_BASES[row.basis]}"


_BASES = {
    "turns": "blocks measured in turns",
    "pairs": "pairs with the original network",
    "runs": "the spread of several runs",
}


def describe_change(change: Change) -> str:
    """Return, for example, ``6.1 % slower (5.7 % to 6.6 % at 99 % confidence)``."""
    interval = f"({change.low - 1:+.1%} to {change.high - 1:+.1%} at {CONFIDENCE:.0%} confidence)"
    if change.direction == "not significant":
        return f"not significant {interval}"
    return f"{abs(change.ratio - 1):.1%} {change.direction} {interval}"


def compiled_runs(report: LatencyReport) -> list[Run]:
    """What is deployed: the original network beside it is compared within its own report (`report.variants`)."""
    return [run for run in report.runs if run.variant == "compiled"]


def _row(precision: str, baselines: Sequence[LatencyReport], candidates: Sequence[LatencyReport]) -> Row:
    before, after = (
        assess_run(run, reports[0]) if (run := reports[0].run(precision)) else None
        for reports in (baselines, candidates)
    )
    nothing = Row(precision, before, after, None)
    if before is None or after is None or not (before.run.samples_ms and after.run.samples_ms):
        return nothing
    if nothing.incomparable:
        return nothing
    if before.run.turns is not None and measured_in_turns(before.run, after.run):
        return Row(precision, before, after, compare_pairs(by_block(before.run), by_block(after.run)), "turns")
    pairs = _through_original(precision, baselines[0], candidates[0])
    if pairs is not None:
        return Row(precision, before, after, pairs, "pairs")
    medians = [_medians(precision, reports) for reports in (baselines, candidates)]
    if len(medians[0]) + len(medians[1]) >= _MIN_RUNS:
        return Row(precision, before, after, compare_runs(*medians), "runs")
    change = compare_medians(typical_samples(before.run), typical_samples(after.run), effect=MIN_EFFECT_OF_PROCESSES)
    sides = [
        f"the {name}: {disturbances_of(side)}"
        for name, side in (("baseline", before), ("candidate", after))
        if disturbances_of(side)
    ]
    if sides:
        change = replace(change, direction="not significant")
    return Row(precision, before, after, change, "one process", "; ".join(sides))


_MIN_RUNS = 4  # of both sides together


def disturbances_of(side: Assessment | None) -> str:
    """Return what disturbed a side's run, in words; empty where nothing did."""
    return " and ".join(side.verdict.disturbances) if side else ""


def _through_original(precision: str, baseline: LatencyReport, candidate: LatencyReport) -> Change | None:
    """Compare through the original network where both reports measured the same one in turns; else return None."""
    blocks = []
    originals = []
    for report in (baseline, candidate):
        original, compiled = report.run(precision, "original"), report.run(precision)
        if original is None or compiled is None or not measured_in_turns(original, compiled):
            return None
        originals.append((original.engine and original.engine.sha256, original.device, original.threads))
        blocks += [by_block(run) for run in (original, compiled)]
    return compare_through(*blocks) if originals[0] == originals[1] else None


def _medians(precision: str, reports: Sequence[LatencyReport]) -> list[float]:
    """Return the median of every run of the first report's engine.

    A run that was carried over into a later report is in both; it counts once.
    """
    first = reports[0].run(precision)
    assert first is not None
    wanted = (first.engine and first.engine.digests, first.device, first.threads, first.period_ms)
    runs = {
        typical_samples(run): None
        for report in reports
        for run in compiled_runs(report)
        if run.precision == precision
        and run.samples_ms
        and (run.engine and run.engine.digests, run.device, run.threads, run.period_ms) == wanted
    }
    return [summarise(samples).p50_ms for samples in runs]


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
