"""``deploycc build DIR``: build the engines of a compiled folder, on this machine or on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploycc.cli.shared_options import Device

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Output folder of `deploycc compile`.")]


def command(folder: Folder, device: Device = None) -> None:
    """Build the engines of a compiled folder.

    They are built on this machine or on --device, and the folder's report is updated. An engine that this machine
    cannot build is no failure: the report says what to run on the board. With --device it is one.
    """
    from deploycc.agent_host.local import check_built
    from deploycc.agent_host.remote import Step
    from deploycc.cli import console
    from deploycc.documents.build import read_manifest
    from deploycc.workflows.devices import session_on
    from deploycc.workflows.output_folder import build_folder, render_folder, summarise_folder

    with console.progress("build") as say:
        with session_on(device, folder, [Step("build")], say) as session:
            build_folder(folder, say, session)
        say("writing the report")
        render_folder(folder)
    console.say(str(folder), summarise_folder(folder))
    result = read_manifest(folder)
    built = [engine for engine in result.engines if engine.status == "built"]
    console.wrote(*(folder / engine.file for engine in built), answer=True)
    console.wrote(folder / "report.md", folder / "report.html")
    if device is not None:
        check_built(result)
