"""``deploycc prune-curve MODEL --data D -o FOLDER``: what each strength of pruning costs in accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer

from deploycc.cli.model_options import ModelChoice, comma_list, takes_model
from deploycc.errors import ArtefactError, InputError

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.documents.pruning_curve import CurvePoint, PruningCurve
    from deploycc.evaluation.dataset import Dataset
    from deploycc.progress import Say
    from deploycc.utilisation.measure import PictureList
    from deploycc.workflows.prune import Settings

_CRITERIA = ("utilisation", "l1")


@takes_model
def command(
    choice: ModelChoice,
    data: Annotated[
        list[str],
        typer.Option("--data", "-d", help="Annotated: voc:FOLDER[@SPLIT], generated:SEED[:COUNT]; repeatable."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for JSON, Markdown and HTML.")],
    by: Annotated[str, typer.Option("--by", metavar="LIST", help="utilisation, l1 or both.")] = "l1",
    below: Annotated[
        str, typer.Option("--below", metavar="LIST", help="Strengths, as `deploycc prune --below`.")
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
    """Prune at several strengths, with and without refitting, and score every network on annotated pictures."""
    from deploycc.cli import console
    from deploycc.evaluation.dataset import open_dataset
    from deploycc.report.pruning_curve import COLUMNS, accuracy_columns, cells
    from deploycc.workflows.calibration import calibration_pictures, check_one

    criteria, strengths = _listed(by), _strengths(below)
    if "utilisation" in criteria and profile is None:
        raise InputError(
            "prune-no-profile",
            "pruning by utilisation needs a profile",
            hint="`deploycc profile MODEL --images FOLDER -o FILE` makes it; give it with --profile FILE",
        )
    if calibrate is not None or images is not None:
        check_one(images, calibrate)
    _make_folder(output)
    with console.progress("prune-curve") as say:
        say("reading")
        detector = choice.load()
        datasets = [open_dataset(each, size=detector.input.height) for each in data]
        refit = calibrate is not None or images is not None
        pictures = calibration_pictures(images, calibrate, detector.input) if refit else None
        settings = [_settings(criterion, strength, profile) for criterion in criteria for strength in strengths]
        for curve in _measure(detector, datasets, settings, pictures, comma_list(names), say):
            _write(curve, output)  # after every network: an interrupted run keeps what it measured
    console.table([*COLUMNS, *accuracy_columns(curve)], list(map(list, cells(curve))), f"{curve.network} pruned")
    console.note(f"written: {output}")


def _listed(by: str) -> tuple[Literal["utilisation", "l1"], ...]:
    found = comma_list(by)
    if not found or any(each not in _CRITERIA for each in found):
        raise InputError("prune-option", f"--by {by} is no list of {', '.join(_CRITERIA)}", hint="--by utilisation,l1")
    return tuple(dict.fromkeys(found))  # type: ignore[arg-type]


def _strengths(below: str) -> tuple[float, ...]:
    try:
        found = tuple(float(each) for each in comma_list(below))
    except ValueError:
        found = ()
    if not found or not all(0 < each <= 1 for each in found):
        raise InputError(
            "prune-option", f"--below {below} is no list of numbers above 0 and up to 1", hint="--below 0.05,0.1,0.2"
        )
    return found


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtefactError(
            "folder-unwritable", "the output folder cannot be made", context={"folder": path}, note=error.strerror
        ) from None


def _settings(by: Literal["utilisation", "l1"], below: float, profile: Path | None) -> Settings:
    from deploycc.workflows.prune import Settings

    return Settings(
        by=by,
        below=below,
        scope="backend",
        coefficient="mean" if profile else "none",
        multiple=1,
        keep_gates=False,
        profile=profile,
        mask=None,
        costs=None,
        threads=1,
    )


def _measure(
    detector: Detector,
    datasets: list[Dataset],
    settings: list[Settings],
    pictures: PictureList | None,
    names: tuple[str, ...],
    say: Say,
) -> Iterator[PruningCurve]:
    """Measure one network after another; each curve has one point more than the one before."""
    from deploycc import __version__
    from deploycc.documents.document import Evidence
    from deploycc.documents.pruning_curve import Calibration, PruningCurve
    from deploycc.progress import prefixed
    from deploycc.workflows.prune import prune_detector

    used = None
    if pictures is not None:
        used = Calibration(source=pictures.source, count=len(pictures.names), sha256=pictures.sha256)
    points: list[CurvePoint] = []
    for number, setting in enumerate(settings, start=1):
        told = prefixed(say, f"{number} of {len(settings)}, {setting.by} below {setting.below:g}")
        for calibration in (None, pictures) if pictures else (None,):
            pruned = prune_detector(detector, setting, told, calibration)
            before, after = (
                {part: {what: n[side] for what, n in both.items()} for part, both in pruned.sizes.items()}
                for side in (0, 1)
            )
            if not points:
                points.append(_point(detector, before, None, False, datasets, names, told))
            refitted = calibration is not None
            points.append(_point(pruned.detector, after, setting, refitted, datasets, names, told))
            yield PruningCurve(
                tool_version=__version__,
                evidence=Evidence(kind="measured", source="ONNX Runtime CPU, FP32"),
                network=detector.name,
                source_sha256=detector.source.sha256,
                data=tuple(dataset.spelling for dataset in datasets),
                pictures=tuple(len(dataset) for dataset in datasets),
                calibration=used,
                points=tuple(points),
            )


def _point(
    detector: Detector,
    sizes: dict[str, dict[str, int]],
    setting: Settings | None,
    refitted: bool,
    datasets: list[Dataset],
    names: tuple[str, ...],
    say: Say,
) -> CurvePoint:
    from deploycc.documents.pruning_curve import CurvePoint
    from deploycc.evaluation.accuracy import measure_accuracy
    from deploycc.evaluation.voc import mean_ap

    area, eleven = [], []
    for dataset in datasets:
        found = measure_accuracy(detector, dataset, names=names, say=say)
        area.append(mean_ap(found.voc))
        eleven.append(mean_ap(found.voc, eleven_point=True))
    return CurvePoint(
        criterion="none" if setting is None else setting.by,  # type: ignore[arg-type]
        below=0.0 if setting is None else setting.below,
        refitted=refitted,
        macs=sizes["total"]["macs"],
        backend_macs=sizes.get("back-end", sizes["total"])["macs"],
        params=sizes["total"]["params"],
        map50=tuple(area),
        map50_11point=tuple(eleven),
    )


def _write(curve: PruningCurve, folder: Path) -> None:
    from deploycc.files import write_text
    from deploycc.report.pruning_curve import render_curve_html, render_curve_markdown

    curve.write(folder / curve.FILE_NAME)
    write_text(folder / "pruning-curve.md", render_curve_markdown(curve))
    write_text(folder / "pruning-curve.html", render_curve_html(curve))
