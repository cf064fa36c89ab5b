"""``deploycc build DIR``: build the engines of a compiled folder on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Output folder of `deploycc compile`.")]


def command(folder: Folder) -> None:
    """Build the engines of a compiled folder.

    They are built on this machine, and the folder's report is updated. An engine that only the board can build is no
    failure: the report says what to run there.
    """
    from deploycc.cli import console
    from deploycc.documents.compile import read_compile_report
    from deploycc.workflows.output_folder import build_folder, render_folder, summarise_folder

    with console.progress("build") as say:
        build_folder(folder, say)
        say("writing the report")
        render_folder(folder)
    console.say(str(folder), summarise_folder(folder))
    built = [engine for engine in read_compile_report(folder).engines if engine.status == "built"]
    console.wrote(*(folder / engine.file for engine in built), answer=True)
    console.wrote(folder / "report.md", folder / "report.html")
