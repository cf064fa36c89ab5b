"""``deploycc report``: show, compare and check the files of earlier steps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploycc.cli import report_check
from deploycc.cli.options import argument, option, switch
from deploycc.cli.shared_options import AsJson
from deploycc.terminal import console

app = typer.Typer(no_args_is_help=True, help="Show, compare and check reports.")


@app.command()
def show(
    path: Annotated[Path, argument("PATH", "Output folder, or its compile.json, latency.json or gates.json.")],
    as_json: AsJson = False,
    markdown: Annotated[Path | None, option("FILE", "Also write the report as Markdown; needs compile.json.")] = None,
    html: Annotated[
        Path | None, option("FILE", "Also write the report as HTML; needs compile.json or gates.json.")
    ] = None,
) -> None:
    """Show networks, engines and latency, or what gates save."""
    from deploycc.documents.gates import find_gate_report
    from deploycc.files import check_writable
    from deploycc.report.terminal import folder_json, folder_tables, latency_remarks
    from deploycc.workflows.report import render_results

    check_writable(markdown, html, inputs=[path])
    if (gates := find_gate_report(path)) is not None:
        _show_gates(gates, as_json, markdown, html)
        return
    compiled, latency = render_results(path, markdown=markdown, html=html)
    console.show(as_json, folder_json(compiled, latency), *folder_tables(compiled, latency))
    if not as_json:
        for remark in latency_remarks(latency) if latency else ():
            console.warn(remark)
        if compiled and latency is None and compiled.next_command:
            console.note(f"nothing was measured here; this does: {compiled.next_command}")
    console.wrote(markdown, html)


@app.command()
def compare(
    baseline: Annotated[Path, argument("A", "Baseline: latency.json or an output folder.")],
    candidate: Annotated[Path, argument("B", "Candidate: latency.json or an output folder.")],
    as_json: AsJson = False,
) -> None:
    """Say whether B is faster or slower than A.

    A difference that is not significant is called so. Earlier runs of the same engine in a folder's runs/ count too.
    """
    from deploycc.report.terminal import comparison_json, comparison_table
    from deploycc.workflows.report import compare_measurements

    comparison = compare_measurements(baseline, candidate)
    console.show(as_json, comparison_json(comparison), comparison_table(comparison))
    for warning in comparison.warnings:
        console.warn(warning)


@app.command()
def table(
    folders: Annotated[list[Path], argument("DIR...", "Output folders, or folders that hold several.")],
    published: Annotated[bool, switch("--published", "Also show every figure of the white paper's table 4.")] = False,
    as_json: AsJson = False,
    markdown: Annotated[Path | None, option("FILE", "Also write the tables as Markdown.")] = None,
    html: Annotated[Path | None, option("FILE", "Also write a page with a picture.")] = None,
) -> None:
    """Compare networks, original, pruned and gated, across platforms.

    Only what was measured fills a cell. Predicted figures, and those that the white paper published for the same
    network and platform, have tables or columns of their own.
    """
    from deploycc.files import check_writable, write_text
    from deploycc.report.overview import overview
    from deploycc.report.overview_page import overview_html
    from deploycc.report.overview_tables import overview_json, overview_markdown, remarks, terminal_tables
    from deploycc.workflows.report import read_folders

    check_writable(markdown, html, inputs=folders)
    rows = overview(read_folders(folders))
    for file, render in ((markdown, overview_markdown), (html, overview_html)):
        if file is not None:
            write_text(file, render(rows))
    tables = terminal_tables(rows, whole_paper=published)
    console.show(as_json, overview_json(rows), *tables, remarks=remarks(rows))
    console.wrote(markdown, html)


app.command("check")(report_check.command)


@app.command("baseline")
def keep(
    folders: Annotated[list[Path], argument("DIR...", "Output folders, or folders that hold several.")],
    store: Annotated[Path, option("STORE", "Folder that CI keeps between runs.")],
    commit: Annotated[str | None, option("COMMIT", "Default: the one that is checked out here.")] = None,
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
    from deploycc.report.gates import gates_json, gates_tables, render_gates_html
    from deploycc.workflows.report import read_gates

    if markdown is not None:
        raise typer.BadParameter("the gates report has no Markdown form; --html writes a page")
    report = read_gates(path)
    if html is not None:
        write_text(html, render_gates_html(report))
    console.show(as_json, gates_json(report), *gates_tables(report))
    console.wrote(html)
