"""Reports as tables of text and as plain JSON values; printing is the command line's business."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from deploycc.documents.compile import CompileReport
from deploycc.documents.latency import LatencyReport
from deploycc.documents.plan import Identified
from deploycc.report.compare import Comparison, describe_change, describe_row
from deploycc.report.format import bare_ms, change, count, seconds, size
from deploycc.report.row import row_json, row_tables
from deploycc.report.scenario import describe_scenario, stream_of
from deploycc.report.table import Table
from deploycc.report.telemetry import watched
from deploycc.report.variants import describe_order, variant_comparisons
from deploycc.report.verdict import Assessment, assess


def folder_tables(compiled: CompileReport | None, latency: LatencyReport | None) -> list[Table]:
    """What an output folder holds: passes, engines, latency."""
    tables = [*passes_tables(compiled), engines_table(compiled)] if compiled else []
    if latency:
        tables += filter(None, (latency_table(latency), *row_tables(latency), variants_table(latency)))
    return tables


def folder_json(compiled: CompileReport | None, latency: LatencyReport | None) -> dict[str, Any]:
    """What an output folder holds, as plain values."""
    return {
        "compile": compiled and compiled.model_dump(mode="json", by_alias=True),
        "latency": latency and latency_json(latency),
    }


def latency_table(report: LatencyReport) -> Table:
    """One row per run; the variant is a column where there are two."""
    columns = (
        "precision",
        "variant",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "min ms",
        "max ms",
        "pictures/s",
        "samples",
        "verdict",
    )
    rows = tuple(_latency_row(item) for item in assess(report))
    return _one_variant(Table(f"Latency for {report.target}", columns, rows), report.runs)


def variants_table(report: LatencyReport) -> Table | None:
    """One row per precision whose original network was measured beside the compiled one; None where none was."""
    in_a_row = any(run.row is not None for run in report.runs)
    rows = tuple(
        (
            comparison.precision,
            *(_central(item) for item in (comparison.original, comparison.compiled)),
            f"{comparison.change.ratio:.3f}",
            describe_change(comparison.change),
            describe_order(comparison),
        )
        for comparison in variant_comparisons(report)
    )
    what = "typical" if in_a_row else "p50"
    columns = ("precision", f"original {what} ms", f"compiled {what} ms", "ratio", "result", "measured")
    return Table(f"Compiled against original for {report.target}", columns, rows) if rows else None


def _central(item: Assessment | None) -> str:
    """Return the median; of networks in a row what they typically take."""
    return "-" if item is None or item.typical_ms is None else bare_ms(item.typical_ms)


def latency_remarks(report: LatencyReport) -> list[str]:
    """What a reader must know beside the table: scenarios, failed constraints, conditions and what to do next."""
    remarks = []
    for item in assess(report):
        label = item.run.label
        if scenario := describe_scenario(item.run):
            remarks.append(f"{label}: {scenario}")
        if item.verdict.failed:
            remarks.append(f"{label}: {item.verdict.status}: " + "; ".join(item.verdict.failed))
        if item.verdict.status == "NOT MEASURED" and item.run.hint:
            remarks.append(f"{label}: {item.run.hint}")
        remarks += [f"{label}: {advice}" for advice in item.verdict.warnings]
        if seen := watched(item.run):
            remarks.append(f"{label}: while it was measured: {seen}")
    return remarks


def passes_tables(report: CompileReport) -> list[Table]:
    """One table a network: what each pass did to its size."""
    tables = []
    for network in report.networks:
        rows = tuple(
            (
                step.name,
                seconds(step.seconds),
                str(step.after.nodes),
                count(step.after.params),
                count(step.after.macs),
                change(step.before.macs, step.after.macs),
                str(len(step.notes)),
            )
            for step in network.steps
        )
        columns = ("pass", "time", "nodes", "parameters", "MACs", "MACs change", "notes")
        tables.append(Table(f"Passes, {network.label} ({network.file})", columns, rows))
    return tables


def engines_table(report: CompileReport) -> Table:
    """One row an engine."""
    rows = tuple(
        (
            engine.precision,
            engine.variant,
            engine.status,
            ", ".join(engine.files) if engine.status == "built" else "-",
            "-" if engine.total_bytes is None else size(engine.total_bytes),
            "-" if engine.build_seconds is None else seconds(engine.build_seconds),
            engine.reason or "",
        )
        for engine in report.engines
    )
    columns = ("precision", "variant", "status", "file", "size", "built in", "why")
    return _one_variant(Table(f"Engines for {report.target.name}", columns, rows), report.engines)


def comparison_table(comparison: Comparison) -> Table:
    """One row a precision."""
    sides = [side for row in comparison.rows for side in (row.baseline, row.candidate) if side is not None]
    in_a_row = any(side.run.row is not None for side in sides)
    rows = tuple(
        (
            row.precision,
            _central(row.baseline),
            _central(row.candidate),
            "-" if row.change is None else f"{row.change.ratio:.3f}",
            describe_row(row),
        )
        for row in comparison.rows
    )
    title = f"{comparison.candidate_target} against {comparison.baseline_target}"
    what = "typical" if in_a_row else "p50"
    return Table(title, ("precision", f"baseline {what} ms", f"candidate {what} ms", "ratio", "result"), rows)


def measured_table(latency: LatencyReport, comparison: Comparison | None) -> Table:
    """The comparison, or the latencies alone where they are compared with nothing."""
    return latency_table(latency) if comparison is None else comparison_table(comparison)


def measured_json(latency: LatencyReport, comparison: Comparison | None) -> dict[str, Any]:
    """The same with full precision."""
    return latency_json(latency) if comparison is None else comparison_json(comparison)


def latency_json(report: LatencyReport) -> dict[str, Any]:
    """The table's figures with full precision, and every verdict."""
    return {
        "target": report.target,
        "quick": report.quick,
        "runs": [_assessment_json(item) for item in assess(report)],
        "variants": [
            {
                "precision": comparison.precision,
                "change": asdict(comparison.change),
                "in_turns": comparison.in_turns,
            }
            for comparison in variant_comparisons(report)
        ],
    }


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison with full precision."""
    return {
        "baseline_target": comparison.baseline_target,
        "candidate_target": comparison.candidate_target,
        "rows": [
            {
                "precision": row.precision,
                "baseline": row.baseline and _assessment_json(row.baseline),
                "candidate": row.candidate and _assessment_json(row.candidate),
                "change": row.change and asdict(row.change),
                "basis": row.change and row.basis,
                "disturbed": row.disturbed,
            }
            for row in comparison.rows
        ],
        "differences": [asdict(difference) for difference in comparison.differences],
        "warnings": list(comparison.warnings),
    }


def _one_variant(table: Table, records: Sequence[Identified]) -> Table:
    """Drop the column of the variant where all are the compiled network."""
    if any(record.variant != "compiled" for record in records):
        return table
    at = table.columns.index("variant")
    rows = tuple(row[:at] + row[at + 1 :] for row in table.rows)
    return replace(table, columns=table.columns[:at] + table.columns[at + 1 :], rows=rows)


def _assessment_json(item: Assessment) -> dict[str, Any]:
    return {
        "precision": item.run.precision,
        "variant": item.run.variant,
        "device": item.run.device,
        "scenario": item.run.scenario and item.run.scenario.model_dump(),
        "stream": (stream := stream_of(item.run)) and asdict(stream) | {"missed_share": stream.missed_share},
        "status": item.run.status,
        "provenance": "measured" if item.summary else None,
        "verdict": asdict(item.verdict) | {"label": item.verdict.label},
        "statistics": item.summary and asdict(item.summary),
        "stability": item.stability and asdict(item.stability),
        "row": item.run.row and row_json(item.run, item.run.row),
    }


def _latency_row(item: Assessment) -> tuple[str, ...]:
    summary = item.summary
    if summary is None:
        return (item.run.precision, item.run.variant, *["-"] * 7, item.verdict.label)
    times = (summary.p50_ms, summary.p90_ms, summary.p99_ms, summary.min_ms, summary.max_ms)
    return (
        item.run.precision,
        item.run.variant,
        *map(bare_ms, times),
        f"{summary.throughput_fps:.1f}",
        str(summary.samples),
        item.verdict.label,
    )
