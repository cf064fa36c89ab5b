"""``deploycc prune-curve MODEL --data D -o FOLDER``: what each strength of pruning costs in accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploycc.cli import complete
from deploycc.cli.model_options import ModelChoice, comma_list, model_choice, one_source
from deploycc.cli.pruning_options import PruningChoice, pruning_choices
from deploycc.cli.shared_options import takes
from deploycc.errors import ArtefactError, InputError
from deploycc.terminal import console


@takes(choice=model_choice, pruning=pruning_choices)
def command(
    choice: ModelChoice,
    pruning: list[PruningChoice],
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
        typer.Option(
            "--target",
            "-t",
            metavar="TARGET",
            autocompletion=complete.target,
            help="Target of --round-to auto and of the latencies: measured for this machine's CPU, else predicted.",
        ),
    ] = "x86-cpu",
    threads: Annotated[int, typer.Option(metavar="N", min=0, help="CPU threads of what is timed; 0: all cores.")] = 0,
    calibrate: Annotated[
        str | None, typer.Option(metavar="DATA", help="Also refit weights, on these pictures without labels.")
    ] = None,
    images: Annotated[Path | None, typer.Option(metavar="DIR", help="Or: a folder of pictures to refit on.")] = None,
    names: Annotated[
        str | None, typer.Option(metavar="LIST", help="The model's class names in order, background included.")
    ] = None,
) -> None:
    """Measure what each strength of pruning costs in accuracy.

    The detector is pruned at several strengths as `deploycc prune` does it, with and without refitting, and every
    network is scored, timed or predicted for the target, and kept.
    """
    from deploycc import target as targets
    from deploycc.evaluation.dataset import open_dataset
    from deploycc.report.pruning_curve import accuracy_columns, cells, columns
    from deploycc.timing.machine import check_threads, usable_cores
    from deploycc.workflows.costs import cost_sources
    from deploycc.workflows.pictures import open_pictures
    from deploycc.workflows.prune_curve import prune_curve, write_curve

    check_threads(threads)
    chosen = targets.load(target)
    for each in pruning:
        each.settings()  # an option that does not fit is refused before anything is read
    if pruning[0].profile is None and any(each.by == "utilisation" for each in pruning):
        raise InputError(
            "prune-no-profile",
            "pruning by utilisation needs a profile",
            hint="`deploycc profile MODEL --images FOLDER -o FILE` makes it; give it with `profile=FILE`; or `by=l1`",
        )
    ways = [way for each in pruning for way in each.for_targets([chosen], threads or usable_cores())]
    recorded, costs = pruning[0].read_profile(), ways[0].costs
    (source,) = cost_sources([chosen])
    refit_on = one_source(images, calibrate) if calibrate is not None or images is not None else None
    _make_folder(output)
    with console.progress("prune-curve") as say:
        say("reading")
        detector = choice.load()
        datasets = [open_dataset(each, size=detector.input.height) for each in data]
        pictures = None if refit_on is None else open_pictures(refit_on, detector.input)
        for curve in prune_curve(
            detector,
            [way.settings for way in ways],
            datasets,
            profile=recorded,
            pictures=pictures,
            costs=source.predicted or costs,
            target=chosen.name,
            latencies=source.measured or source.predicted is not None,
            keep_in=output,
            names=comma_list(names),
            say=say,
        ):
            write_curve(curve, output)  # after every network: an interrupted run keeps what it measured
    pruning[0].write_costs(costs)
    console.table([*columns(curve), *accuracy_columns(curve)], list(map(list, cells(curve))), f"{curve.network} pruned")
    console.wrote(output)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtefactError(
            "output-unwritable", "the output folder cannot be made", context={"folder": path}, note=error.strerror
        ) from None
