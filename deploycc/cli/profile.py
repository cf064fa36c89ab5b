"""``deploycc profile MODEL --images DIR -o FILE``: how much each kernel is used on calibration pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from deploycc.cli.model_options import ModelChoice, warn_if_assumed
from deploycc.cli.options import option, switch, takes_options
from deploycc.cli.shared_options import Jobs, Pictures
from deploycc.terminal import console


@takes_options
def command(
    *,
    output: Annotated[Path, option("FILE", "Profile to write (JSON).", "-o", "--output")],
    pictures: Pictures,
    html: Annotated[Path | None, option("FILE", "Also draw the utilisation into an HTML file.")] = None,
    svg: Annotated[Path | None, option("FILE", "Also draw the utilisation as a picture.")] = None,
    jobs: Jobs = 1,
    as_json: Annotated[bool, switch("--json", "Print JSON instead of a table.")] = False,
    choice: ModelChoice,
) -> None:
    """Record how much each kernel is used on pictures.

    With gates: how often each gated kernel is on. Without: how often each kernel's activation is not zero.

    An interrupted run leaves FILE.partial behind and continues from it when called again.
    """
    from deploycc.files import check_writable
    from deploycc.report.utilisation_summary import utilisation_remarks, utilisation_summary, utilisation_tables
    from deploycc.workflows.processes import local_processes
    from deploycc.workflows.profile import draw_profile, record_profile

    source = pictures.source()
    check_writable(output, html, svg, inputs=[choice.model, choice.weights])
    with console.progress("profile") as say, local_processes(jobs) as executor:
        detector = choice.load(say)
        profiled = record_profile(detector, source, output, executor=executor, say=say)
    profile = profiled.profile
    console.notes(profiled.notes)
    warn_if_assumed(detector.input, "the profile")
    draw_profile(profile, html=html, svg=svg)
    tables = utilisation_tables(profile)
    console.show(as_json, utilisation_summary(profile), *tables, remarks=utilisation_remarks(profile))
    console.wrote(output, html, svg)
