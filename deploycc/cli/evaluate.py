"""``deploycc evaluate MODEL --data D``: accuracy on annotated pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from deploycc.cli.model_options import ModelChoice, comma_list, takes_model


@takes_model
def command(
    choice: ModelChoice,
    data: Annotated[str, typer.Option("--data", "-d", help="voc:FOLDER, voc:FOLDER@SPLIT or generated:SEED[:COUNT].")],
    detections: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads the annotation at run time on Python 3.10
        typer.Option("--detections", metavar="FILE", help="Write every detection as JSON."),
    ] = None,
    names: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--names", metavar="LIST", help="The model's class names in order, background included."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Score a detector on annotated pictures.

    Shows VOC average precision (area under the curve and 11-point) and COCO average precision of every class.
    """
    from deploycc.cli import console
    from deploycc.evaluation.accuracy import measure_accuracy
    from deploycc.evaluation.dataset import open_dataset
    from deploycc.files import write_text

    detector = choice.load()
    dataset = open_dataset(data, size=detector.input.height)
    with console.progress("evaluate") as say:
        accuracy = measure_accuracy(detector, dataset, names=comma_list(names), say=say)
    if detections is not None:
        write_text(detections, json.dumps(accuracy.detections(), indent=1) + "\n")
    for note in accuracy.notes:
        console.note(note.reason)
    summary = accuracy.summary()
    if as_json:
        console.print_json({"model": choice.model, **summary})
    else:
        _show(summary)


def _show(summary: dict[str, Any]) -> None:
    from deploycc.cli import console

    rows = [
        [
            row["class"],
            f"{row['objects']}",
            _percent(row["ap50_area"]),
            _percent(row["ap50_11point"]),
            _percent(row["coco_ap"]),
        ]
        for row in summary["classes"]
    ]
    total = sum(row["objects"] for row in summary["classes"])
    rows.append(
        [
            "mean",
            f"{total}",
            _percent(summary["map50_area"]),
            _percent(summary["map50_11point"]),
            _percent(summary["coco_map"]),
        ]
    )
    title = f"{summary['data']}: {summary['pictures']} pictures"
    console.table(["class", "objects", "AP50 area", "AP50 11-point", "COCO AP"], rows, title)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
