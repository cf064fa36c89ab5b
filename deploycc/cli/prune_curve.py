"""``deploycc prune-curve MODEL --data D -o FOLDER``: what each strength of pruning costs in accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from deploycc.cli.model_options import ModelChoice
from deploycc.cli.options import option, takes_options
from deploycc.cli.pruning_options import PruningSweep
from deploycc.cli.shared_options import ClassNames, Device, comma_list, one_source, target_option
from deploycc.terminal import console


@takes_options
def command(
    *,
    data: Annotated[
        list[str],
        option("DATA", "Annotated pictures, voc:FOLDER[@SPLIT] or generated:SEED[:COUNT]; repeatable.", "--data", "-d"),
    ],
    output: Annotated[Path, option("DIR", "Folder for JSON, Markdown and HTML.", "-o", "--output")],
    target: Annotated[
        str | None,
        target_option(
            "Target of --round-to auto and of the latencies: measured on --device and for this machine's CPU, else "
            "predicted; default: that of --device, else x86-cpu."
        ),
    ] = None,
    device: Device = None,
    threads: Annotated[int, option("N", "CPU threads of what is timed; 0: all cores.", min=0)] = 0,
    calibrate: Annotated[str | None, option("DATA", "Also refit weights, on these pictures without labels.")] = None,
    images: Annotated[Path | None, option("DIR", "Or: a folder of pictures to refit on.")] = None,
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
    from deploycc.workflows.cost_files import write_costs
    from deploycc.workflows.device_timer import timer_on
    from deploycc.workflows.devices import planned_target
    from deploycc.workflows.pictures import open_pictures
    from deploycc.workflows.prune_curve import prune_curve, write_curve
    from deploycc.workflows.prune_decision import check_profile_given
    from deploycc.workflows.staging import make_folder
    from deploycc.workflows.target_pruning import latency_costs

    chosen = targets.load(planned_target(target, device))
    choices = pruning.choices()
    for one in choices:
        one.check(device)  # before anything is read
        check_profile_given(one.settings(), one.profile is not None)
    recorded, _ = choices[0].read_inputs()
    refit_on = one_source(images, calibrate) if calibrate is not None or images is not None else None
    with console.progress("prune-curve") as say, timer_on(device, chosen, threads, say) as timer:
        ways = [way for one in choices for way in one.for_targets([chosen], timer)]
        costs, known = latency_costs(ways[0])
        make_folder(output)
        detector = choice.load(say)
        for curve in prune_curve(
            detector,
            [way.settings for way in ways],
            [open_dataset(each, size=detector.input.height) for each in data],
            profile=recorded,
            pictures=None if refit_on is None else open_pictures(refit_on, detector.input),
            costs=costs,
            target=chosen.name,
            latencies=known,
            keep_in=output,
            names=comma_list(names),
            say=say,
        ):
            write_curve(curve, output)  # after every network: an interrupted run keeps what it measured
    write_costs(pruning.costs, costs)
    console.tables(curve_table(curve))
    console.wrote(output)
