"""``deploycc evaluate MODEL --data D``: accuracy on annotated pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from deploycc.cli.model_options import ModelChoice, comma_list, takes_model
from deploycc.terminal import console


@takes_model
def command(
    choice: ModelChoice,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            metavar="DATA",
            help="Annotated pictures: voc:FOLDER, voc:FOLDER@SPLIT or generated:SEED[:COUNT].",
        ),
    ],
    detections: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write every detection to this JSON file.")
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Class names of the model in order, including the background; default: those in its file.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Score a detector on annotated pictures.

    Shows VOC average precision (area under the curve and 11-point) and COCO average precision of every class.
    """
    from deploycc.files import check_writable, write_text
    from deploycc.workflows.evaluate import evaluate_detector

    check_writable(detections, inputs=[choice.model, choice.weights])
    with console.progress("evaluate") as say:
        say("reading")
        accuracy = evaluate_detector(choice.load(), data, names=comma_list(names), say=say)
    if detections is not None:
        write_text(detections, json.dumps(accuracy.detections(), indent=1) + "\n")
    console.notes(accuracy.notes)
    summary = accuracy.summary()
    if as_json:
        console.print_json({"model": choice.model, **summary})
    else:
        _show(summary)
    if detections is not None:
        console.wrote(detections)


def _show(summary: dict[str, Any]) -> None:
    scores = [(row["class"], row["objects"], row) for row in summary["classes"]]
    mean = {
        "ap50_area": summary["map50_area"],
        "ap50_11point": summary["map50_11point"],
        "coco_ap": summary["coco_map"],
    }
    scores.append(("mean", sum(objects for _, objects, _ in scores), mean))
    rows = [
        [name, f"{objects}", *(_percent(values[key]) for key in ("ap50_area", "ap50_11point", "coco_ap"))]
        for name, objects, values in scores
    ]
    title = f"{summary['data']}: {summary['pictures']} pictures"
    console.table(["class", "objects", "AP50 area", "AP50 11-point", "COCO AP"], rows, title)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
