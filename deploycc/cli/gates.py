"""``deploycc gates MODEL --profile P -o DIR``: which gates become branches, by times measured or predicted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploycc.cli.model_options import ModelChoice
from deploycc.cli.options import option, switch, takes_options
from deploycc.cli.pruning_options import read_number
from deploycc.cli.shared_options import AsJson, Device, OrData, ProfileFile, one_source, target_option
from deploycc.terminal import console


@takes_options
def command(
    *,
    profile: ProfileFile,
    output: Annotated[Path, option("DIR", "Folder for the plan, the network and the report.", "-o", "--output")],
    target: Annotated[
        str | None, target_option("Target name or .toml file; default: that of --device, else x86-cpu.")
    ] = None,
    device: Device = None,
    max_worst_case: Annotated[
        float, typer.Option(min=0, help="Longest time with every kernel on, as a multiple of the dense network's.")
    ] = 1.05,
    max_time: Annotated[
        float, typer.Option(min=0, help="Longest time on the pictures, as a multiple of the dense network's.")
    ] = 1.0,
    max_growth: Annotated[
        float, option("FACTOR", "Most weights that branches may add, as a multiple of all weights.", min=0)
    ] = 1.0,
    costs: Annotated[
        Path | None, option("FILE", "Times of convolutions and branches: read, extended, written.")
    ] = None,
    images: Annotated[Path | None, option("DIR", "Pictures for the check; default: those of the profile.")] = None,
    data: OrData = None,
    seconds: Annotated[float, option("S", "Approximate time for each comparison of networks.", min=0.1)] = 20.0,
    budget: Annotated[str | None, option("MIN", "With --device: plan within so many minutes, as in 30m.")] = None,
    threads: Annotated[int, option("N", "CPU threads of the measurements; 0: all cores.", min=0)] = 0,
    staged: Annotated[
        bool,
        switch("--staged", "Plan networks in a row where they are faster: the first decides which one follows."),
    ] = False,
    explain: Annotated[bool, switch("--explain", "Show what was considered for each layer.")] = False,
    as_json: AsJson = False,
    choice: ModelChoice,
) -> None:
    """Plan which kernel gates become branches that skip work.

    The plan is checked by running it, here or on --device, and the lowered network is written. For another target
    without --device it is predicted, with intervals and the worst case.
    """
    from deploycc import target as targets
    from deploycc.documents.utilisation import read_profile
    from deploycc.files import check_writable
    from deploycc.report.gates import gates_json, gates_tables
    from deploycc.workflows.cost_files import gate_costs_of
    from deploycc.workflows.devices import planned_target
    from deploycc.workflows.gates import plan_gates
    from deploycc.workflows.pictures import open_pictures, profile_pictures
    from deploycc.workflows.staging import check_output_folder

    budget_s = None if budget is None else 60 * read_number("--budget", budget, "m", "30m")
    check_writable(costs, inputs=[choice.model, profile])
    check_output_folder(output, [choice.model])
    source = None if images is None and data is None else one_source(images, data)
    chosen = targets.load(planned_target(target, device))
    with console.progress("gates") as say, gate_costs_of(chosen, device, costs, threads, say) as known:
        detector, recorded = choice.load(say), read_profile(profile)
        planning = plan_gates(
            detector,
            recorded,
            target=chosen,
            pictures=open_pictures(source, detector.input) if source else profile_pictures(recorded, detector.input),
            costs=known,
            max_worst_case=max_worst_case,
            max_time=max_time,
            max_growth=max_growth,
            seconds=seconds,
            budget_s=budget_s,
            staged=staged,
            say=say,
            tell=console.note,
        )
        planning.write(output, [profile, Path(choice.model)], console.warn)
    console.notes(planning.notes)
    report = planning.report
    console.show(as_json, gates_json(report, considered=explain), *gates_tables(report, considered=explain))
    for sentence in planning.warnings:
        console.warn(sentence)
    console.wrote(output)
