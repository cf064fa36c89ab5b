"""The compiled network against the original one: two runs of one report."""

from __future__ import annotations

from dataclasses import dataclass

from deploycc.documents.latency import LatencyReport, Run
from deploycc.report.row import typical_ms
from deploycc.report.stats import Change, compare_medians, compare_pairs
from deploycc.report.verdict import Assessment, assess_run

_TOGETHER = 20  # samples of networks in a row: a share of 5 % is one of them


@dataclass(frozen=True)
class VariantComparison:
    """Both variants of one precision.

    Attributes:
        precision: of both engines.
        original, compiled: their runs with statistics and verdicts.
        change: the compiled network's median against the original's; a ratio below 1 is faster.
        in_turns: they were measured in turns, so that what else the machine did met both. Otherwise they were measured
            one after the other, and what changed in between is part of the change.
    """

    precision: str
    original: Assessment
    compiled: Assessment
    change: Change
    in_turns: bool


def compare_variants(report: LatencyReport, precision: str) -> VariantComparison | None:
    """Compare the compiled network with the original one.

    Args:
        report: of one device.
        precision: which engines.

    Returns:
        None where not both were measured.
    """
    original, compiled = report.run(precision, "original"), report.run(precision, "compiled")
    if original is None or compiled is None or not original.samples_ms or not compiled.samples_ms:
        return None
    in_turns = measured_in_turns(original, compiled)
    if in_turns:
        change = compare_pairs(by_block(original), by_block(compiled))
    else:
        change = compare_medians(typical_samples(original), typical_samples(compiled))
    return VariantComparison(precision, assess_run(original, report), assess_run(compiled, report), change, in_turns)


def variant_comparisons(report: LatencyReport) -> tuple[VariantComparison, ...]:
    """Compare the variants of every precision that has both, in the report's order."""
    precisions = dict.fromkeys(run.precision for run in report.runs)
    compared = [compare_variants(report, precision) for precision in precisions]
    return tuple(comparison for comparison in compared if comparison is not None)


def describe_order(comparison: VariantComparison) -> str:
    """Return how the two were measured: ``in turns, 32 pairs``, or ``one after the other``."""
    return f"in turns, {len(comparison.compiled.run.blocks)} pairs" if comparison.in_turns else "one after the other"


def measured_in_turns(first: Run, second: Run) -> bool:
    """Return whether block i of one run was taken beside block i of the other, as far as one file or two can tell.

    Two runs of one file that an earlier version wrote do not say it; they were, if they have several blocks.
    """
    return first.turns == second.turns and 1 < len(first.blocks) == len(second.blocks)


def typical_samples(run: Run) -> tuple[float, ...]:
    """Return the samples; of networks in a row what successive ones typically take (`deploycc.report.row`)."""
    if run.row is None:
        return run.samples_ms
    starts = range(0, len(run.samples_ms), _TOGETHER)
    return tuple(typical_ms(run, slice(start, start + _TOGETHER)) for start in starts)


def by_block(run: Run) -> list[tuple[float, ...]]:
    """Return the samples of each block; of networks in a row what it typically takes (`deploycc.report.row`)."""
    if run.row is None:
        return [run.samples_ms[block] for block in run.block_slices()]
    return [(typical_ms(run, block),) for block in run.block_slices()]
