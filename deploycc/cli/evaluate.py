"""``deploycc evaluate MODEL --data D``: accuracy on annotated pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from deploycc.cli.model_options import ModelChoice
from deploycc.cli.options import option, switch, takes_options
from deploycc.cli.shared_options import ClassNames, Device, EnginePrecision, comma_list
from deploycc.terminal import console


@takes_options
def command(
    *,
    data: Annotated[
        str,
        option("DATA", "Annotated pictures: voc:FOLDER, voc:FOLDER@SPLIT or generated:SEED[:COUNT].", "--data", "-d"),
    ],
    device: Device = None,
    precision: EnginePrecision = None,
    detections: Annotated[Path | None, option("FILE", "Also write every detection to this JSON file.")] = None,
    names: ClassNames = None,
    as_json: Annotated[bool, switch("--json", "Print JSON instead of a table.")] = False,
    choice: ModelChoice,
) -> None:
    """Score a detector on annotated pictures.

    Shows VOC average precision (area under the curve and 11-point) and COCO average precision of every class.

    With --device, MODEL is an output folder, and its engine detects there what is scored here.
    """
    from deploycc.files import check_writable, write_text
    from deploycc.report.accuracy import accuracy_table
    from deploycc.workflows.evaluate import evaluate_detector

    check_writable(detections, inputs=[choice.model, choice.weights])
    with console.progress("evaluate") as say:
        accuracy = evaluate_detector(
            choice.load(say) if device is None else choice.model,
            data,
            device=device,
            precision=precision,
            names=comma_list(names),
            say=say,
        )
    if detections is not None:
        write_text(detections, json.dumps(accuracy.detections(), indent=1) + "\n")
    console.notes(accuracy.notes)
    summary = accuracy.summary()
    console.show(as_json, {"model": choice.model, "device": device, **summary}, accuracy_table(summary))
    console.wrote(detections)
