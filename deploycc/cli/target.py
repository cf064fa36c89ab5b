"""``deploycc target``: which boards there are, what is known of each, and whether that is consistent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploycc.cli.options import argument
from deploycc.cli.shared_options import AsJson
from deploycc.terminal import complete, console

app = typer.Typer(help="List, show and check targets.", no_args_is_help=True)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the targets: one board with one software stack each."""
    from deploycc.report.target import targets_json, targets_table
    from deploycc.target import load, names

    targets = [load(name) for name in names()]
    console.show(as_json, targets_json(targets), targets_table(targets))


@app.command("show")
def show(
    name: Annotated[str, argument("TARGET", "Target name or .toml file.", autocompletion=complete.target)],
    as_json: AsJson = False,
) -> None:
    """Show the facts of a target and what follows from them.

    Facts that no source confirms are marked.
    """
    from deploycc.report.target import target_json, target_tables
    from deploycc.target import capabilities, load

    target = load(name)
    able = capabilities(target)
    console.show(as_json, target_json(target, able), *target_tables(target, able))


@app.command("check")
def check(
    files: Annotated[list[Path] | None, argument("TOML", "Target files; default: all shipped ones.")] = None,
) -> None:
    """Check target files, and exit with 1 if a fact is wrong.

    Fields are checked against the schema, and facts against one another.
    """
    from deploycc.target.check import check_files

    checked = check_files(files or ())
    for file in checked:
        if file.error is not None:
            console.fail(file.error)
        for problem in file.problems:
            console.out(f"{file.path}: {problem}")
        if file.remark is not None:
            console.note(file.remark)
    wrong = sum(file.wrong for file in checked)
    if wrong:
        console.note(f"{wrong} of {len(checked)} targets are wrong")
        raise typer.Exit(1)
    console.note(f"{len(checked)} {'target is' if len(checked) == 1 else 'targets are'} consistent")
