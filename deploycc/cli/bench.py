"""``deploycc bench DIR...``: time the engines of built folders on this machine or on a device."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploycc.cli.options import option, switch
from deploycc.cli.shared_options import Device, MaxPerformance, OutputFolders
from deploycc.terminal import console

if TYPE_CHECKING:
    from deploycc.agent_host.session import Scenario

_TIME = re.compile(r"(\d+(?:\.\d*)?) ?(ms|s)")


def command(
    folders: OutputFolders,
    apart: Annotated[
        bool, switch("--apart", "Measure each folder by itself, with --device on as many of its boards as are free.")
    ] = False,
    only: Annotated[str | None, option("PRECISION", "Time the engines of this precision only.")] = None,
    input_file: Annotated[
        Path | None,
        option("NPY", "NumPy file with the input; default: random values, but pictures for a row.", "--input"),
    ] = None,
    single_stream: Annotated[
        bool, switch("--single-stream", "As MLPerf Automotive: p99.9 of 600 s and 6,636 pictures, one after the other.")
    ] = False,
    period: Annotated[
        str | None,
        option("TIME", "As MLPerf Automotive's constant stream: one picture per TIME (as 66.7ms), 100,000 of them."),
    ] = None,
    seconds: Annotated[
        float | None,
        option("S", "End --single-stream or --period early; the result is not valid.", min=0.001, max=86400.0),
    ] = None,
    max_performance: MaxPerformance = False,
    device: Device = None,
) -> None:
    """Time the engines of built folders.

    They run on this machine or on --device for as long as the folder's plan says, and each folder's report is updated.
    Engines of one precision are measured in turns, in blocks of changing order, so that what else the machine does
    meets all of them; the first folder is what the others are compared with. While pairs of blocks do not tell how they
    compare within 2 %, engines of several folders are timed for longer, at most four times as long as planned. Figures
    measured before go to runs/, unless there are no new ones. The exit status is 0 only where every engine was
    measured.
    """
    from deploycc.agent_host.local import check_measured
    from deploycc.agent_host.remote import Step
    from deploycc.documents.latency import LatencyReport
    from deploycc.report.compare import comparison_lines
    from deploycc.workflows.board_jobs import bench_each, raise_failures
    from deploycc.workflows.output_folder import summarise_folder

    scenario = _scenario(single_stream, period, seconds)
    step = Step("bench", only, None if input_file is None else input_file.resolve(), scenario, max_performance)
    with console.progress("bench") as say:
        outcomes = bench_each(folders, device, step, say, console.note, apart=apart)
    for folder in console.succeeded(folders, outcomes):
        console.say(str(folder), summarise_folder(folder))
        console.wrote(folder / LatencyReport.FILE_NAME, answer=True)
        console.wrote(folder / "report.md", folder / "report.html")
    measured = [outcome for outcome in outcomes if isinstance(outcome, LatencyReport)]
    for folder, latency in [] if apart else zip(folders[1:], measured[1:], strict=True):
        console.say(f"{folder} against {folders[0]}", comparison_lines(measured[0], latency))
    raise_failures(folders, outcomes, partial(check_measured, every=True))


def _scenario(single_stream: bool, period: str | None, seconds: float | None) -> Scenario | None:
    from deploycc.agent_host.session import Scenario

    if single_stream and period is not None:
        raise typer.BadParameter("a run is either a --single-stream or has a --period")
    if single_stream or period is not None:
        name = "single-stream" if single_stream else "constant-stream"
        return Scenario(name, None if period is None else _milliseconds(period), seconds)
    if seconds is not None:
        raise typer.BadParameter("--seconds ends --single-stream or --period; a plan alone has its own time")
    return None


def _milliseconds(text: str) -> float:
    """Read ``66.7ms`` or ``0.1s``."""
    written = _TIME.fullmatch(text.strip())
    value = float(written[1]) * (1000 if written[2] == "s" else 1) if written else 0.0
    if not 0 < value <= 60_000:
        raise typer.BadParameter(f"{text!r} is not a time such as 66.7ms, of a minute at most", param_hint="--period")
    return value
