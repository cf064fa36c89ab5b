"""``deploycc device``: boards that are reached over SSH, and the work on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploycc.cli.options import argument, switch
from deploycc.cli.shared_options import AsJson, target_option
from deploycc.terminal import console

app = typer.Typer(help="List, probe and check devices, and the work on them.", no_args_is_help=True)

Name = Annotated[str, argument("DEVICE", "Name from devices.toml, or ssh://[user@]host[:port].")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the devices of devices.toml.

    The file is in this folder or in ~/.config/deploycc. Devices of one target form a pool, and so do names with commas
    between them: --device TARGET and --device A,B take one that nobody works on, or several for several folders.
    """
    from deploycc.agent_host.devices import read_devices
    from deploycc.report.device import devices_table

    devices = [device.model_dump(mode="json") for device in read_devices().values()]
    console.show(as_json, devices, devices_table(devices))


@app.command("probe")
def probe(name: Name, as_json: AsJson = False) -> None:
    """Show what a device is, and the jobs on it."""
    from deploycc.report.device import probe_tables
    from deploycc.workflows.attach import probe as probe_device

    probed = probe_device(name)
    console.show(as_json, probed, *probe_tables(probed))


@app.command("check")
def check(
    name: Name,
    target: Annotated[str | None, target_option("What it should be; default: its target in devices.toml.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show where a device differs from a target.

    The exit status is 1 where engines of the target cannot be built or run there.
    """
    from dataclasses import asdict

    from deploycc.report.device import differences_table
    from deploycc.workflows.attach import check_device

    checked = check_device(name, target)
    if as_json:
        console.print_json([asdict(difference) for difference in checked.differences])
    elif checked.differences:
        console.tables(differences_table(checked.differences, f"{name} and {checked.target}"))
    else:
        console.note(f"{name} confirms every fact of {checked.target} that can be read there")
    checked.raise_if_other()


@app.command("attach")
def attach(
    name: Name,
    folder: Annotated[
        Path | None, argument("[DIR]", "Output folder; default: every folder whose work is there.")
    ] = None,
) -> None:
    """Follow your work to its end; fetch its results.

    Ctrl-C detaches: the work goes on.
    """
    from deploycc.workflows.attach import attach as attach_to
    from deploycc.workflows.output_folder import summarise_folder

    with console.progress("attach") as say:
        folders = attach_to(name, folder, say)
    for each in folders:
        console.say(str(each), summarise_folder(each))
        console.wrote(each, answer=True)


@app.command("cancel")
def cancel(name: Name, everybody: Annotated[bool, switch("--all", "Work of others too.")] = False) -> None:
    """End your work on a device.

    What was built or measured by then can still be fetched with `deploycc device attach`.
    """
    from deploycc.report.device import jobs_table
    from deploycc.workflows.attach import cancel as cancel_on

    console.tables(jobs_table(cancel_on(name, everybody=everybody)))


@app.command("clean")
def clean(
    name: Name, everything: Annotated[bool, switch("--all", "Also results that nobody has fetched.")] = False
) -> None:
    """Remove files that no job on a device needs."""
    from deploycc.report.device import jobs_table
    from deploycc.workflows.attach import clean as clean_on

    gone, jobs = clean_on(name, everything=everything)
    console.note(f"{gone['files']} files ({gone['bytes'] / 1e6:.1f} MB) are removed from {name}")
    if jobs:
        console.note("work that stays: attach to it, cancel it, or clean with --all")
        console.tables(jobs_table(jobs))
