"""``deploycc bench DIR``: time the engines of a built folder on this machine or on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from deploycc.cli.build import Folder
from deploycc.cli.shared_options import Device


def command(
    folder: Folder,
    only: Annotated[
        Optional[str],  # noqa: UP045 - typer reads the annotation at run time on Python 3.10
        typer.Option("--only", metavar="PRECISION", help="Time the engines of this precision only."),
    ] = None,
    input_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--input", metavar="NPY", help="NumPy file with the input tensor; default: seeded random values."),
    ] = None,
    device: Device = None,
) -> None:
    """Time the engines of a built folder.

    They run on this machine or on --device for as long as the folder's plan says, and the folder's report is updated.
    Figures measured before go to runs/, unless there are no new ones. The exit status is 0 only where every engine was
    measured.
    """
    from deploycc.agent_host.local import check_measured
    from deploycc.agent_host.remote import Step
    from deploycc.cli import console
    from deploycc.documents.latency import LatencyReport
    from deploycc.workflows.devices import session_on
    from deploycc.workflows.output_folder import summarise_folder
    from deploycc.workflows.rebuild import bench_folder

    said: list[str] = []
    step = Step("bench", only, None if input_file is None else input_file.resolve())
    with console.progress("bench") as say, session_on(device, folder, [step], say) as session:
        measured = bench_folder(folder, say, only, input_file, session, said.append)
    for sentence in said:
        console.note(sentence)
    console.say(str(folder), summarise_folder(folder))
    console.wrote(folder / LatencyReport.FILE_NAME, answer=True)
    console.wrote(folder / "report.md", folder / "report.html")
    check_measured(measured, every=True)
