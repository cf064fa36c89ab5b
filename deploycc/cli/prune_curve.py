"""``deploycc prune-curve MODEL --data D -o FOLDER``: what each strength of pruning costs in accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploycc.cli.model_options import ModelChoice
from deploycc.cli.option_classes import takes_options
from deploycc.cli.pruning_options import PruningSweep
from deploycc.cli.shared_options import ClassNames, comma_list, one_source, target_option
from deploycc.terminal import console


@takes_options
def command(
    *,
    data: Annotated[
        list[str],
        typer.Option(
            "--data",
            "-d",
            metavar="DATA",
            help="Annotated pictures, voc:FOLDER[@SPLIT] or generated:SEED[:COUNT]; may be repeated.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for JSON, Markdown and HTML.")],
    target: Annotated[
        str,
        target_option(
            "Target of --round-to auto and of the latencies: measured for this machine's CPU, else predicted."
        ),
    ] = "x86-cpu",
    threads: Annotated[int, typer.Option(metavar="N", min=0, help="CPU threads of what is timed; 0: all cores.")] = 0,
    calibrate: Annotated[
        str | None, typer.Option(metavar="DATA", help="Also refit weights, on these pictures without labels.")
    ] = None,
    images: Annotated[Path | None, typer.Option(metavar="DIR", help="Or: a folder of pictures to refit on.")] = None,
    names: ClassNames = None,
    choice: ModelChoice,
    pruning: PruningSweep,
) -> None:
    """Measure what each strength of pruning costs in accuracy.

    The detector is pruned at several strengths as `deploycc prune` does it, with and without refitting, and every
    network is scored, timed or predicted for the target, and kept.
    """
    from deploycc import target as targets
    from deploycc.evaluation.dataset import open_dataset
    from deploycc.report.pruning_curve import curve_table
    from deploycc.timing.machine import check_threads, usable_cores
    from deploycc.workflows.cost_files import write_costs
    from deploycc.workflows.costs import cost_sources
    from deploycc.workflows.pictures import open_pictures
    from deploycc.workflows.prune_curve import prune_curve, write_curve
    from deploycc.workflows.prune_decision import check_profile_given
    from deploycc.workflows.staging import make_folder

    check_threads(threads)
    chosen = targets.load(target)
    choices = pruning.choices()
    for one in choices:
        check_profile_given(one.settings(), one.profile is not None)  # before anything is read
    ways = [way for one in choices for way in one.for_targets([chosen], threads or usable_cores())]
    recorded, costs = choices[0].read_profile(), ways[0].costs
    (source,) = cost_sources([chosen])
    refit_on = one_source(images, calibrate) if calibrate is not None or images is not None else None
    make_folder(output)
    with console.progress("prune-curve") as say:
        say("reading")
        detector = choice.load()
        for curve in prune_curve(
            detector,
            [way.settings for way in ways],
            [open_dataset(each, size=detector.input.height) for each in data],
            profile=recorded,
            pictures=None if refit_on is None else open_pictures(refit_on, detector.input),
            costs=source.predicted or costs,
            target=chosen.name,
            latencies=source.known,
            keep_in=output,
            names=comma_list(names),
            say=say,
        ):
            write_curve(curve, output)  # after every network: an interrupted run keeps what it measured
    write_costs(pruning.costs, costs)
    console.tables(curve_table(curve))
    console.wrote(output)
