"""``deploycc detect MODEL --images DIR``: boxes of a detector on pictures without labels, maybe beside a second one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from deploycc.cli.model_options import ModelChoice, warn_if_assumed
from deploycc.cli.options import option, switch, takes_options
from deploycc.cli.shared_options import ClassNames, Device, EnginePrecision, Pictures, comma_list
from deploycc.terminal import console

if TYPE_CHECKING:
    from deploycc.detector import Detector


@takes_options
def command(
    *,
    output: Annotated[
        Path | None, option("DIR", "Folder for JSON, drawn pictures and a contact sheet.", "-o", "--output")
    ] = None,
    pictures: Pictures,
    compare: Annotated[
        str | None,
        option("MODEL", "A second detector or folder to show beside MODEL, or what `agent.pyz detect` wrote (.json)."),
    ] = None,
    device: Device = None,
    precision: EnginePrecision = None,
    score: Annotated[float, option("S", "Leave out detections with a lower score.")] = 0.3,
    shown: Annotated[int, option("N", "Pictures on the contact sheet; the others are in the JSON.", min=0)] = 100,
    names: ClassNames = None,
    as_json: Annotated[bool, switch("--json", "Print JSON instead of a table.")] = False,
    choice: ModelChoice,
) -> None:
    """Draw what a detector finds in pictures, without labels.

    MODEL may be a compiled folder, also one for a board. Pictures are prepared as for `evaluate`.

    With --device, MODEL is an output folder, and what its engine finds there is shown beside its network. With
    --compare or --device, detections of one class are matched from IoU 0.5 on, and what has no partner is marked.
    """
    from deploycc.evaluation.accuracy import known_classes
    from deploycc.report.detections import agreement_lines, detections_table, empty_networks
    from deploycc.workflows.detect import detect
    from deploycc.workflows.engine_detections import check_precision
    from deploycc.workflows.pictures import open_pictures

    source = pictures.source()
    check_precision(precision)
    with console.progress("detect") as say:
        first = choice.load(say)
        second: Detector | str | None = compare
        if compare is not None and not compare.endswith(".json"):
            second = replace(choice, model=compare, weights=None, random_weights=None, describe=None).load(say)
        report = detect(
            first if device is None else choice.model,
            open_pictures(source, first.input),
            output,
            compare=second,
            device=device,
            precision=precision,
            score_threshold=score,
            shown=shown,
            labels=[choice.model, *([compare] if compare is not None else [])],
            names=comma_list(names),
            say=say,
        )
    console.notes(known_classes(first, comma_list(names))[1])
    warn_if_assumed(first.input, "a detection")
    console.show(as_json, json.loads(report.to_json()), detections_table(report))
    if not as_json and (lines := agreement_lines(report)):
        console.say(" and ".join(network.model for network in report.networks), lines)
    for network in empty_networks(report):
        console.warn(f"{network} detects nothing with a score of at least {score:g} in any picture")
    if output is not None:
        console.wrote(output, output / "detections.html")
