"""``deploycc build DIR``: build the engines of a compiled folder, on this machine or on a device."""

from __future__ import annotations

from deploycc.cli.shared_options import Device, OutputFolder
from deploycc.terminal import console


def command(folder: OutputFolder, device: Device = None) -> None:
    """Build the engines of a compiled folder.

    They are built on this machine or on --device, and the folder's report is updated. An engine that this machine
    cannot build is not a failure: the report says what to run on the board, and one that a board built stays. With
    --device it is one. Results that are replaced go to runs/.
    """
    from deploycc.agent_host.local import check_built
    from deploycc.agent_host.remote import Step
    from deploycc.workflows.devices import session_on
    from deploycc.workflows.output_folder import summarise_folder
    from deploycc.workflows.rebuild import build_folder
    from deploycc.workflows.report import read_report

    with console.progress("build") as say, session_on(device, folder, [Step("build")], say) as session:
        result = build_folder(folder, say, session, console.note)
    console.say(str(folder), summarise_folder(folder))
    built = [engine for engine in read_report(folder).compiled.engines if engine.status == "built"]
    console.wrote(*(folder / engine.file for engine in built), answer=True)
    console.wrote(folder / "report.md", folder / "report.html")
    if device is not None:
        check_built(result)
