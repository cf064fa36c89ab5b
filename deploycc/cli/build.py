"""``deploycc build DIR...``: build the engines of compiled folders, on this machine or on devices."""

from __future__ import annotations

from deploycc.cli.shared_options import Device, OutputFolders
from deploycc.terminal import console


def command(folders: OutputFolders, device: Device = None) -> None:
    """Build the engines of compiled folders.

    They are built on this machine or on --device, several folders on as many of its boards as are free, and each
    folder's report is updated. An engine that this machine cannot build is not a failure: the report says what to run
    on the board, and one that a board built stays. With --device it is one. Results that are replaced go to runs/.
    """
    from deploycc.agent_host.local import check_built
    from deploycc.workflows.board_jobs import build_folders, raise_failures
    from deploycc.workflows.output_folder import built_engines, summarise_folder

    with console.progress("build") as say:
        outcomes = build_folders(folders, device, say, console.note)
    for folder in console.succeeded(folders, outcomes):
        console.say(str(folder), summarise_folder(folder))
        console.wrote(*built_engines(folder), answer=True)
        console.wrote(folder / "report.md", folder / "report.html")
    raise_failures(folders, outcomes, check_built if device is not None else lambda result: None)
