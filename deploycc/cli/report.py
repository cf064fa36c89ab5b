"""``deploycc report``: show, compare and gate the files of earlier steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from deploycc.documents.compile import CompileReport
    from deploycc.documents.latency import LatencyReport
    from deploycc.report.table import Table

app = typer.Typer(no_args_is_help=True, help="Show, compare and check reports.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def show(
    path: Annotated[Path, typer.Argument(help="latency.json, compile.json, gates.json or an output folder.")],
    as_json: AsJson = False,
    markdown: Annotated[Path | None, typer.Option(help="Write the Markdown report here; needs compile.json.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the HTML report here; needs compile.json or gates.json.")
    ] = None,
) -> None:
    """Show what was compiled and how fast it runs, or what gates save."""
    from deploycc.cli import console
    from deploycc.documents.gates import find_gate_report
    from deploycc.report.terminal import (
        engines_table,
        latency_json,
        latency_remarks,
        latency_table,
        passes_tables,
        variants_table,
    )

    if (gates := find_gate_report(path)) is not None:
        _show_gates(gates, as_json, markdown, html)
        return
    compiled, latency = _read(path)
    if markdown or html:
        _render(path, compiled, latency, markdown, html)
    if as_json:
        console.print_json(
            {
                "compile": compiled and compiled.model_dump(mode="json", by_alias=True),
                "latency": latency and latency_json(latency),
            }
        )
        return
    tables = [*passes_tables(compiled), engines_table(compiled)] if compiled else []
    if latency:
        tables += filter(None, (latency_table(latency), variants_table(latency)))
    for number, table in enumerate(tables):
        if number:
            console.out()
        _print(table)
    for remark in latency_remarks(latency) if latency else ():
        console.warn(remark)
    if compiled and latency is None and compiled.next_command:
        console.note(f"nothing was measured here; this does: {compiled.next_command}")


@app.command()
def compare(
    baseline: Annotated[Path, typer.Argument(metavar="A", help="latency.json or an output folder.")],
    candidate: Annotated[Path, typer.Argument(metavar="B", help="latency.json or an output folder.")],
    as_json: AsJson = False,
) -> None:
    """Say whether B is faster or slower than A, or that the difference is not significant."""
    from deploycc.cli import console
    from deploycc.documents.latency import read_latency_report
    from deploycc.report.compare import compare_reports
    from deploycc.report.terminal import comparison_json, comparison_table

    comparison = compare_reports(read_latency_report(baseline), read_latency_report(candidate))
    if as_json:
        console.print_json(comparison_json(comparison))
    else:
        _print(comparison_table(comparison))
    for warning in comparison.warnings:
        console.warn(warning)


@app.command()
def check(
    first: Annotated[Path, typer.Argument(metavar="A", help="The report; with B, the baseline.")],
    second: Annotated[Path | None, typer.Argument(metavar="[B]", help="The candidate.")] = None,
    max_regression: Annotated[
        str | None, typer.Option(metavar="PCT", help="B's median may be this much slower than A's, such as 5%.")
    ] = None,
    budget_ms: Annotated[
        float | None, typer.Option(metavar="P99", min=0, help="Largest 99th percentile of every precision, in ms.")
    ] = None,
    accept_invalid: Annotated[bool, typer.Option(help="Also judge measurements that are not valid.")] = False,
    as_json: AsJson = False,
) -> None:
    """Exit with 3 if the latency misses its budget or regressed."""
    from deploycc.cli import console
    from deploycc.documents.latency import read_latency_report
    from deploycc.report.compare import check_budget, check_regression, compare_reports, require_valid
    from deploycc.report.terminal import comparison_json, comparison_table, latency_json, latency_table

    if (second is None) != (max_regression is None):
        raise typer.BadParameter("comparing needs both B and --max-regression")
    if max_regression is None and budget_ms is None:
        raise typer.BadParameter("give --budget-ms, or B with --max-regression")
    allowed = None if max_regression is None else _percent(max_regression)

    reports = [read_latency_report(path) for path in (first, second) if path is not None]
    if not accept_invalid:
        require_valid(reports)
    comparison = compare_reports(reports[0], reports[1]) if len(reports) == 2 else None
    if as_json:
        console.print_json(comparison_json(comparison) if comparison else latency_json(reports[-1]))
    else:
        _print(comparison_table(comparison) if comparison else latency_table(reports[-1]))
    for warning in comparison.warnings if comparison else ():
        console.warn(warning)
    if budget_ms is not None:
        check_budget(reports[-1], budget_ms)
    if comparison is not None and allowed is not None:
        check_regression(comparison, allowed)


def _read(path: Path) -> tuple[CompileReport | None, LatencyReport | None]:
    from deploycc.documents.compile import CompileReport, read_compile_report
    from deploycc.documents.latency import LatencyReport, read_latency_report
    from deploycc.errors import ArtefactError

    if not path.is_dir():
        if path.name == CompileReport.FILE_NAME:
            return read_compile_report(path), None
        return None, read_latency_report(path)
    has_compile, has_latency = ((path / kind.FILE_NAME).exists() for kind in (CompileReport, LatencyReport))
    if not has_compile and not has_latency:
        raise ArtefactError(
            "artefact-missing",
            f"there is neither {CompileReport.FILE_NAME} nor {LatencyReport.FILE_NAME} in {path}",
            hint="`deploycc compile MODEL --target T -o DIR` writes both",
        )
    return read_compile_report(path) if has_compile else None, read_latency_report(path) if has_latency else None


def _render(
    path: Path, compiled: CompileReport | None, latency: LatencyReport | None, markdown: Path | None, html: Path | None
) -> None:
    from deploycc.errors import ArtefactError
    from deploycc.files import write_text
    from deploycc.report.html import render_html
    from deploycc.report.markdown import render_markdown

    if compiled is None:
        raise ArtefactError("artefact-missing", f"there is no compile.json at {path}, which a full report needs")
    for file, render in ((markdown, render_markdown), (html, render_html)):
        if file is None:
            continue
        write_text(file, render(compiled, latency))


def _show_gates(path: Path, as_json: bool, markdown: Path | None, html: Path | None) -> None:
    """The gates report of ``gates.json``."""
    from deploycc.cli import console
    from deploycc.documents.gates import read_gate_report
    from deploycc.files import write_text
    from deploycc.report.gates import gates_json, regions_table, render_gates_html, summary_table

    if markdown is not None:
        raise typer.BadParameter("the gates report has no Markdown form; --html writes a page")
    report = read_gate_report(path)
    if html is not None:
        write_text(html, render_gates_html(report))
    if as_json:
        console.print_json(gates_json(report))
        return
    _print(summary_table(report))
    console.out()
    _print(regions_table(report))


def _percent(text: str) -> float:
    """``5%`` or ``5`` as 0.05."""
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise typer.BadParameter(f"{text!r} is not a percentage such as 5%", param_hint="--max-regression")
    return value / 100


def _print(table: Table) -> None:
    from deploycc.cli import console

    console.table(table.columns, table.rows, title=table.title)
