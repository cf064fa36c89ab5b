"""Render the report as Markdown, for a pull request or a wiki."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from deploycc.documents.compile import CompileReport, LayerError, NetworkRecord, OutputError, PrecisionComparison
from deploycc.documents.contract import IntegrationContract
from deploycc.documents.latency import LatencyReport
from deploycc.documents.pruning import PruningRecord
from deploycc.report.against_original import Side, against_original
from deploycc.report.chain import breaks, links
from deploycc.report.contract import contract_tables
from deploycc.report.environment import flatten
from deploycc.report.format import bare_ms, change, count, scientific, seconds, without_controls
from deploycc.report.headline import headline, key_figures
from deploycc.report.notes import gather_notes
from deploycc.report.pruning import gates_table, layers_table, parts_table, remarks, stays_table
from deploycc.report.row import row_tables
from deploycc.report.table import Table
from deploycc.report.telemetry import watched
from deploycc.report.terminal import engines_table, latency_table
from deploycc.report.verdict import Assessment, assess

TOP_LAYERS = 10


def render_markdown(
    report: CompileReport, latency: LatencyReport | None, contract: IntegrationContract | None = None
) -> str:
    """Return the report; names and notes are escaped, so that they cannot change its structure."""
    runs = assess(latency) if latency else ()
    blocks = [f"# {escape(report.detector.name)} on {escape(report.target.title)}", *_verdict(report, runs)]
    sides = against_original(report, latency)
    if sides:
        blocks += ["## Original and compiled", _sides(sides)]
    blocks += ["## Key figures", _key_figures(report, runs)]
    measured = latency is not None and any(item.summary for item in runs)
    if latency and measured:
        blocks += ["## Latency (measured)", _table(latency_table(latency))]
    for table in row_tables(latency) if latency else ():
        blocks += [f"## {escape(table.title)}", _table(table)]
    for item in runs:
        blocks += _layers(item)
    for network in report.networks:
        if network.steps:
            kinds = f"counts {network.counts.kind}, times measured"
            blocks += [f"## Passes, {escape(network.label)} ({kinds})", _passes(network)]
        if network.parts:
            rows = [(part.name, count(part.macs), count(part.params)) for part in network.parts]
            title = f"Back-end and front-end ({network.counts.kind}):"
            blocks += [title, table_of(("part", "MACs", "parameters"), rows)]
    for record in report.prunings:
        blocks += _pruning(record, report.detector.name)
    if report.comparison:
        blocks += _comparison(report.comparison)
    if report.engines:
        blocks += ["## Engines (measured where built)", _table(engines_table(report))]
    notes = gather_notes(report)
    if notes:
        rows = [(note.code, ", ".join(note.nodes), note.reason) for note in notes]
        blocks += ["## Notes", table_of(("code", "where", "reason"), rows)]
    if contract is not None:
        blocks.append("## For the application: contract.json")
        for table in contract_tables(contract):
            blocks += [f"**{escape(table.title)}**", _table(table)]
    if latency and measured:  # without a run the environment is not the target's
        blocks += ["## Environment", table_of(("fact", "value"), _facts(latency))]
    blocks += ["## Provenance", *_provenance(report, latency), *_reproduce(report)]
    return without_controls("\n\n".join(blocks) + "\n")


def _verdict(report: CompileReport, runs: Sequence[Assessment]) -> list[str]:
    head = headline(report, runs)
    blocks = [f"**{head.label}.** " + " ".join(escape(sentence) for sentence in head.sentences)]
    if head.command:
        blocks.append("Build and measure it on the board with:\n\n" + _code(head.command))
    if report.source.random_weights is not None:
        blocks.append(
            f"The weights are random (seed {report.source.random_weights}): latency is meaningful, detections are not."
        )
    warnings = [
        f"- {escape(item.run.label)}: {escape(str(advice))}" for item in runs for advice in item.verdict.warnings
    ]
    if warnings:
        blocks.append("\n".join(warnings))
    seen = [f"- {escape(item.run.label)}: {escape(str(what))}" for item in runs if (what := watched(item.run))]
    if seen:
        blocks.append("The device while it was measured:\n\n" + "\n".join(seen))
    return blocks


def _key_figures(report: CompileReport, runs: Sequence[Assessment]) -> str:
    rows = [(f.label, f.value, f.detail, f.provenance, f.source) for f in key_figures(report, runs)]
    return table_of(("figure", "value", "", "provenance", "source"), rows)


def _layers(item: Assessment) -> list[str]:
    if not item.run.layers:
        return []
    layers = sorted(item.run.layers, key=lambda layer: -layer.median_ms)[:TOP_LAYERS]
    rows = [(layer.title, layer.op, bare_ms(layer.median_ms), f"{layer.share:.1%}") for layer in layers]
    title = f"## Slowest layers, {escape(item.run.label)} (measured)"
    return [title, table_of(("layer", "operator", "median ms", "share"), rows)]


def _passes(network: NetworkRecord) -> str:
    rows = [
        (
            step.name,
            seconds(step.seconds),
            f"{step.before.nodes} → {step.after.nodes}",
            f"{count(step.after.params)} ({change(step.before.params, step.after.params)})",
            f"{count(step.after.macs)} ({change(step.before.macs, step.after.macs)})",
        )
        for step in network.steps
    ]
    return table_of(("pass", "time", "nodes", "parameters", "MACs"), rows)


def _sides(sides: Sequence[Side]) -> str:
    rows = [(side.label, side.original, side.compiled, side.change, side.provenance, side.source) for side in sides]
    return table_of(("", "original", "compiled", "change", "provenance", "source"), rows)


def _pruning(record: PruningRecord, network: str) -> list[str]:
    blocks = [f"## Pruning (counted): kernels {escape(record.useless)} are useless"]
    for table in (parts_table(record), layers_table(record, network), gates_table(record), stays_table(record)):
        if table is not None:
            blocks.append(_table(table))
    return [*blocks, *(escape(text) for text in remarks(record, network, explained=True))]


def _comparison(comparison: PrecisionComparison) -> list[str]:
    evidence = comparison.evidence
    blocks = [
        f"## {comparison.other.upper()} against {comparison.reference.upper()}",
        f"{comparison.pictures} pictures from {escape(comparison.picture_source)}; "
        f"{evidence.kind}: {escape(evidence.source)}.",
    ]
    errors = [(error.tensor, *_errors(error), f"{error.reference_max_abs:.3g}") for error in comparison.outputs]
    blocks.append(table_of(("output", "max abs error", "relative RMS error", "reference max"), errors))
    if comparison.layers:
        worst = comparison.layers[:TOP_LAYERS]
        layers = [(layer.node, layer.op, *_errors(layer), str(layer.overflowed)) for layer in worst]
        columns = ("layer", "operator", "max abs error", "relative RMS error", "overflowed")
        blocks.append(table_of(columns, layers))
    detections = comparison.detections
    if detections:
        score = "-" if detections.max_score_difference is None else f"{detections.max_score_difference:.4f}"
        iou = "-" if detections.min_iou is None else f"{detections.min_iou:.3f}"
        blocks.append(
            f"Detections with a score of at least {detections.score_threshold:g}: {detections.reference} in "
            f"{comparison.reference}, {detections.other} in {comparison.other}, {detections.matched} matched (same "
            f"class, IoU at least {detections.match_iou:g}); largest score difference {score}, smallest IoU {iou}."
        )
    return blocks


def _errors(error: OutputError | LayerError) -> tuple[str, str]:
    return scientific(error.max_abs_error), scientific(error.relative_rms_error)


def _facts(latency: LatencyReport) -> list[tuple[str, str]]:
    return [(key, "not stated" if value is None else str(value)) for key, value in flatten(latency.environment).items()]


def _provenance(report: CompileReport, latency: LatencyReport | None) -> list[str]:
    rows = [(link.what, link.name, link.sha256 or "-") for link in links(report, latency)]
    table = table_of(("artefact", "file", "SHA-256"), rows)
    broken = [f"- {escape(problem)}" for problem in breaks(report, latency)]
    return [table, "The artefacts do not match:\n\n" + "\n".join(broken)] if broken else [table]


def _reproduce(report: CompileReport) -> list[str]:
    commands = [command for command in (report.command, report.next_command) if command]
    return ["## Reproduce", _code("\n".join(commands))] if commands else []


def _table(table: Table) -> str:
    return table_of(table.columns, table.rows)


def table_of(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are escaped, headings are not."""
    lines = [columns, ["---"] * len(columns), *([escape(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _code(text: str) -> str:
    """Return a code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}console\n{text}\n{fence}"


def escape(text: str) -> str:
    """Escape Markdown and HTML markup; line breaks and control characters become spaces."""
    text = "".join(character if character.isprintable() else " " for character in text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", text)
