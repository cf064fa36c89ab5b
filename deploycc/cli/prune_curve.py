"""``deploycc prune-curve MODEL --data D -o FOLDER``: what each strength of pruning costs in accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from deploycc.cli.model_options import ModelChoice, comma_list, one_source, takes_model
from deploycc.errors import ArtefactError, InputError

_CRITERIA = ("utilisation", "l1")


@takes_model
def command(
    choice: ModelChoice,
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
    by: Annotated[
        str, typer.Option("--by", metavar="LIST", help="Criteria: utilisation, l1 or both, as in l1,utilisation.")
    ] = "l1",
    below: Annotated[
        str,
        typer.Option("--below", metavar="LIST", help="Thresholds as in `deploycc prune --below`, separated by commas."),
    ] = "0.05,0.1,0.2,0.3,0.4",
    profile: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads the annotation at run time on Python 3.10
        typer.Option("--profile", metavar="FILE", help="Utilisation profile of this model (`deploycc profile`)."),
    ] = None,
    calibrate: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--calibrate", metavar="DATA", help="Also refit weights, on these pictures without labels."),
    ] = None,
    images: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--images", metavar="DIR", help="Or: a folder of pictures to refit on."),
    ] = None,
    names: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--names", metavar="LIST", help="The model's class names in order, background included."),
    ] = None,
) -> None:
    """Measure what each strength of pruning costs in accuracy.

    The detector is pruned at several strengths, with and without refitting, and every network is scored.
    """
    from deploycc.cli import console
    from deploycc.documents.utilisation import read_profile
    from deploycc.evaluation.dataset import open_dataset
    from deploycc.report.pruning_curve import COLUMNS, accuracy_columns, cells
    from deploycc.workflows.pictures import open_pictures
    from deploycc.workflows.prune import PruneSettings
    from deploycc.workflows.prune_curve import prune_curve, write_curve

    criteria, strengths = _listed(by), _strengths(below)
    if "utilisation" in criteria and profile is None:
        raise InputError(
            "prune-no-profile",
            "pruning by utilisation needs a profile",
            hint="`deploycc profile MODEL --images FOLDER -o FILE` makes it; give it with `profile=FILE`",
        )
    refit_on = one_source(images, calibrate) if calibrate is not None or images is not None else None
    _make_folder(output)
    with console.progress("prune-curve") as say:
        say("reading")
        detector = choice.load()
        datasets = [open_dataset(each, size=detector.input.height) for each in data]
        pictures = None if refit_on is None else open_pictures(refit_on, detector.input)
        coefficient = "mean" if profile else "none"
        settings = [
            PruneSettings(by=criterion, below=strength, coefficient=coefficient, multiple=1)  # type: ignore[arg-type]
            for criterion in criteria
            for strength in strengths
        ]
        recorded = None if profile is None else read_profile(profile)
        for curve in prune_curve(
            detector, settings, datasets, profile=recorded, pictures=pictures, names=comma_list(names), say=say
        ):
            write_curve(curve, output)  # after every network: an interrupted run keeps what it measured
    console.table([*COLUMNS, *accuracy_columns(curve)], list(map(list, cells(curve))), f"{curve.network} pruned")
    console.wrote(output)


def _listed(by: str) -> tuple[Literal["utilisation", "l1"], ...]:
    found = comma_list(by)
    if not found or any(each not in _CRITERIA for each in found):
        raise InputError(
            "prune-option", f"--by {by} is not a list of {', '.join(_CRITERIA)}", hint="--by utilisation,l1"
        )
    return tuple(dict.fromkeys(found))  # type: ignore[arg-type]


def _strengths(below: str) -> tuple[float, ...]:
    try:
        found = tuple(float(each) for each in comma_list(below))
    except ValueError:
        found = ()
    if not found or not all(0 < each <= 1 for each in found):
        raise InputError(
            "prune-option", f"--below {below} is not a list of numbers above 0 and up to 1", hint="--below 0.05,0.1,0.2"
        )
    return found


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtefactError(
            "folder-unwritable", "the output folder cannot be made", context={"folder": path}, note=error.strerror
        ) from None
