"""``deploycc gates MODEL --profile P -o DIR``: which gates become branches, by measured times."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from deploycc.cli import complete
from deploycc.cli.model_options import ModelChoice, takes_model

if TYPE_CHECKING:
    from deploycc.documents.gates import GateReport


@takes_model
def command(
    choice: ModelChoice,
    profile: Annotated[Path, typer.Option("--profile", metavar="FILE", help="Utilisation profile of this model.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for plan, network and report.")],
    target: Annotated[
        str,
        typer.Option(
            "--target", "-t", metavar="TARGET", autocompletion=complete.target, help="Target name or .toml file."
        ),
    ] = "x86-cpu",
    max_worst_case: Annotated[
        float,
        typer.Option("--max-worst-case", min=0, help="Time with every kernel on, at most, as a multiple of dense."),
    ] = 1.05,
    max_growth: Annotated[
        float,
        typer.Option("--max-growth", min=0, help="Weights that branches add, at most, as a multiple of all weights."),
    ] = 1.0,
    costs: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads the annotation at run time on Python 3.10
        typer.Option("--costs", metavar="FILE", help="Measured costs: read, completed, kept."),
    ] = None,
    images: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--images", metavar="DIR", help="Pictures to check the plan on; default: those of the profile."),
    ] = None,
    data: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--data", "-d", metavar="DATA", help="Or: voc:FOLDER[@SPLIT], generated:SEED[:COUNT]."),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.1, help="For each comparison of networks, about.")
    ] = 20.0,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of the measurements; 0: every core.")] = 0,
    explain: Annotated[bool, typer.Option("--explain", help="Show what was considered for each layer.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Plan which kernel gates become branches that skip work.

    The plan is checked by running it, and the lowered network is written.
    """
    from deploycc.cli import console
    from deploycc.report.gates import gates_json
    from deploycc.timing.machine import usable_cores
    from deploycc.workflows.gate_costs import Settings
    from deploycc.workflows.gates import plan_detector
    from deploycc.workflows.staging import require_folder

    require_folder(costs)
    settings = Settings(
        profile=profile,
        target=target,
        max_worst_case=max_worst_case,
        max_growth=max_growth,
        costs=costs,
        images=images,
        data=data,
        seconds=seconds,
        threads=threads or usable_cores(),
    )
    with console.progress("gates") as say:
        say("reading")
        report, notes = plan_detector(choice.load(), settings, output, say)
    console.notes(notes)
    if as_json:
        console.print_json(gates_json(report, considered=explain))
    else:
        _show(report, explain)
        console.note(f"written: {output}")


def _show(report: GateReport, explain: bool) -> None:
    from deploycc.cli import console
    from deploycc.report.gates import considered_table, regions_table, summary_table

    tables = [*([considered_table(report)] if explain else []), regions_table(report), summary_table(report)]
    for number, table in enumerate(tables):
        if number:
            console.out()
        console.table(table.columns, table.rows, title=table.title)
    if report.timings is None:
        console.warn("nothing was run: the pictures of the profile are not there, so every figure above is predicted")
