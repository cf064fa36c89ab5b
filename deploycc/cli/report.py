"""``deploycc report``: show, compare and check the files of earlier steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploycc.cli.shared_options import AsJson
from deploycc.terminal import console

app = typer.Typer(no_args_is_help=True, help="Show, compare and check reports.")


@app.command()
def show(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="Output folder, or its compile.json, latency.json or gates.json.")
    ],
    as_json: AsJson = False,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the report as Markdown; needs compile.json.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the report as HTML; needs compile.json or gates.json."),
    ] = None,
) -> None:
    """Show networks, engines and latency, or what gates save."""
    from deploycc.documents.gates import find_gate_report
    from deploycc.errors import ArtefactError
    from deploycc.files import check_writable, write_text
    from deploycc.report.html import render_html
    from deploycc.report.markdown import render_markdown
    from deploycc.report.terminal import folder_json, folder_tables, latency_remarks
    from deploycc.workflows.report import read_results

    check_writable(markdown, html, inputs=[path])
    if (gates := find_gate_report(path)) is not None:
        _show_gates(gates, as_json, markdown, html)
        return
    compiled, latency = read_results(path)
    if compiled is None and (markdown or html):
        raise ArtefactError("artefact-missing", f"there is no compile.json at {path}, which a full report needs")
    for file, render in ((markdown, render_markdown), (html, render_html)):
        if file is not None and compiled is not None:
            write_text(file, render(compiled, latency))
    if as_json:
        console.print_json(folder_json(compiled, latency))
    else:
        console.tables(*folder_tables(compiled, latency))
        for remark in latency_remarks(latency) if latency else ():
            console.warn(remark)
        if compiled and latency is None and compiled.next_command:
            console.note(f"nothing was measured here; this does: {compiled.next_command}")
    console.wrote(*filter(None, (markdown, html)))


@app.command()
def compare(
    baseline: Annotated[Path, typer.Argument(metavar="A", help="Baseline: latency.json or an output folder.")],
    candidate: Annotated[Path, typer.Argument(metavar="B", help="Candidate: latency.json or an output folder.")],
    as_json: AsJson = False,
) -> None:
    """Say whether B is faster or slower than A.

    A difference that is not significant is called so. Earlier runs of the same engine in a folder's runs/ count too.
    """
    from deploycc.report.compare import compare_reports
    from deploycc.report.terminal import comparison_json, comparison_table
    from deploycc.workflows.report import read_measurements

    (before, *baselines), (after, *candidates) = read_measurements(baseline), read_measurements(candidate)
    comparison = compare_reports(before, after, more_baselines=baselines, more_candidates=candidates)
    if as_json:
        console.print_json(comparison_json(comparison))
    else:
        console.tables(comparison_table(comparison))
    for warning in comparison.warnings:
        console.warn(warning)


@app.command()
def table(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Output folders, or folders that hold several.")
    ],
    published: Annotated[
        bool, typer.Option("--published", help="Also show every figure of the white paper's table 4.")
    ] = False,
    as_json: AsJson = False,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the tables as Markdown.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page with a picture.")] = None,
) -> None:
    """Compare networks, original, pruned and gated, across platforms.

    Only what was measured fills a cell. Predicted figures, and those that the white paper published for the same
    network and platform, have tables or columns of their own.
    """
    from deploycc.files import check_writable, write_text
    from deploycc.report.overview import overview
    from deploycc.report.overview_page import overview_html
    from deploycc.report.overview_tables import (
        demonstration_table,
        latency_tables,
        overview_json,
        overview_markdown,
        remarks,
    )
    from deploycc.workflows.report import read_folders

    check_writable(markdown, html, inputs=folders)
    rows = overview(read_folders(folders))
    for file, render in ((markdown, overview_markdown), (html, overview_html)):
        if file is not None:
            write_text(file, render(rows))
    if as_json:
        console.print_json(overview_json(rows))
    else:
        facts = demonstration_table(rows, wide=False)
        console.tables(*latency_tables(rows, whole_paper=published), *([facts] if facts.rows else []))
        for remark in remarks(rows):
            console.note(remark)
    console.wrote(*filter(None, (markdown, html)))


@app.command()
def check(
    first: Annotated[Path, typer.Argument(metavar="A", help="Report or output folder to check; with B, the baseline.")],
    second: Annotated[Path | None, typer.Argument(metavar="B", help="Candidate, compared with A.")] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            metavar="STORE",
            help="Compare A with the nearest earlier commit in this folder, which `deploycc report baseline` fills.",
        ),
    ] = None,
    commit: Annotated[
        str | None, typer.Option(metavar="COMMIT", help="With --baseline: compare with this commit.")
    ] = None,
    max_regression: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Largest increase of B's median over A's median, such as 5%.")
    ] = None,
    budget_ms: Annotated[
        float | None,
        typer.Option(metavar="MS", min=0, help="Largest 99th percentile of every precision, in milliseconds."),
    ] = None,
    max_missed: Annotated[
        str | None,
        typer.Option(metavar="PERCENT", help="Largest share of missed deadlines in a constant stream, such as 0.1%."),
    ] = None,
    max_macs: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Largest increase of B's MACs over A's MACs.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(metavar="PERCENT", help="Largest increase of B's engine file over A's engine file.")
    ] = None,
    max_accuracy_loss: Annotated[
        float | None, typer.Option(metavar="POINTS", min=0, help="Largest loss of mAP50, in points of 0 to 100.")
    ] = None,
    accept_invalid: Annotated[
        bool, typer.Option("--accept-invalid", help="Also judge measurements that are not valid.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the outcomes as JUnit XML, for CI.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Exit with 3 if a limit is missed: latency, MACs, size, accuracy.

    A regression must be proven; where the measurements cannot tell, the exit status is 4. Folders that hold the output
    of several targets are checked target by target.
    """
    from deploycc.files import write_text
    from deploycc.report.terminal import comparison_json, comparison_table, latency_json, latency_table
    from deploycc.workflows.baselines import find_baseline
    from deploycc.workflows.report_check import Limits, check_reports, junit_xml, worst

    limits = Limits(
        regression=_percent(max_regression, "--max-regression"),
        budget_ms=budget_ms,
        missed=_percent(max_missed, "--max-missed"),
        macs=_percent(max_macs, "--max-macs"),
        engine_size=_percent(max_size, "--max-size"),
        accuracy_loss=max_accuracy_loss,
    )
    if commit is not None and baseline is None:
        raise typer.BadParameter("--commit names a commit of a --baseline")
    if baseline is not None:
        if second is not None:
            raise typer.BadParameter("the --baseline takes the place of A: give the candidate alone")
        first, second = find_baseline(baseline, first, commit), first
        console.note(f"compared with {first}")
    if second is None and limits.compares:
        raise typer.BadParameter("comparing needs both A and B")
    if second is not None and not limits.compares:
        raise typer.BadParameter("comparing needs a limit, such as --max-regression")
    if limits == Limits():
        raise typer.BadParameter("give --budget-ms, --max-missed, or B with --max-regression")
    checked = list(check_reports(first, second, limits, accept_invalid=accept_invalid))
    outcomes = [outcome for target in checked for outcome in target.outcomes]
    if as_json:
        shown = [
            comparison_json(each.comparison) if each.comparison else latency_json(each.latency)
            for each in checked
            if each.latency
        ]
        console.print_json(shown[0] if len(shown) == 1 else shown)
    else:
        tables = [
            comparison_table(each.comparison) if each.comparison else latency_table(each.latency)
            for each in checked
            if each.latency
        ]
        console.tables(*tables)
    for each in checked:
        for warning in each.comparison.warnings if each.comparison else ():
            console.warn(warning)
    if junit is not None:
        write_text(junit, junit_xml(outcomes))
        console.wrote(junit)
    decisive = worst(outcomes)
    for outcome in outcomes:
        if outcome.error is not None and outcome.error is not decisive:
            console.fail(outcome.error)
    if decisive is not None:
        raise decisive


@app.command("baseline")
def keep(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Output folders, or folders that hold several.")
    ],
    store: Annotated[Path, typer.Option(metavar="STORE", help="Folder that CI keeps between runs.")],
    commit: Annotated[
        str | None, typer.Option(metavar="COMMIT", help="Default: the one that is checked out here.")
    ] = None,
) -> None:
    """Keep measurements of a commit for later comparisons.

    `deploycc report check DIR --baseline STORE` compares with the nearest earlier commit in the store. Only the JSON
    documents are kept, not networks and engines.
    """
    from deploycc.workflows.baselines import keep_baseline

    console.wrote(*keep_baseline(store, folders, commit), answer=True)


def _show_gates(path: Path, as_json: bool, markdown: Path | None, html: Path | None) -> None:
    """Show ``gates.json``."""
    from deploycc.files import write_text
    from deploycc.report.gates import gates_json, regions_table, render_gates_html, summary_table
    from deploycc.workflows.report import read_gates

    if markdown is not None:
        raise typer.BadParameter("the gates report has no Markdown form; --html writes a page")
    report = read_gates(path)
    if html is not None:
        write_text(html, render_gates_html(report))
    if as_json:
        console.print_json(gates_json(report))
    else:
        console.tables(summary_table(report), regions_table(report))
    if html is not None:
        console.wrote(html)


def _percent(text: str | None, option: str) -> float | None:
    """Read ``5%`` or ``5`` as 0.05; None where the option is not given."""
    if text is None:
        return None
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise typer.BadParameter(f"{text!r} is not a percentage such as 5%", param_hint=option)
    return value / 100
