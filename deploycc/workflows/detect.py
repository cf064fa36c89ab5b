"""Detecting: one or two networks on pictures without labels; boxes as JSON, drawn, and on a contact sheet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.errors import InputError
from deploycc.progress import Say, quiet

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.detector.picture_list import PictureList
    from deploycc.documents.detections import Agreement, DetectedBox, DetectionReport, PictureRecord
    from deploycc.evaluation.nms import Detections
    from deploycc.report.detections import Drawn

SCORE_THRESHOLD = 0.3
SHOWN = 100
_MOST_PIXELS = 1e6  # what a box of an untrained network is cut to


def detect(
    model: str | Path | Detector,
    images: str | Path | PictureList,
    output: str | Path | None = None,
    *,
    compare: str | Path | Detector | None = None,
    score_threshold: float = SCORE_THRESHOLD,
    shown: int = SHOWN,
    labels: Sequence[str] = (),
    names: tuple[str, ...] = (),
    say: Say = quiet,
) -> DetectionReport:
    """Run a detector on pictures, and maybe a second one beside it.

    Args:
        model: what `deploycc.load` takes, a compiled folder for example, or a loaded detector.
        images: a folder, or a data set (`deploycc.workflows.pictures.open_pictures`); labels are not looked at.
        output: folder for ``detections.json``, ``detections.html`` and the pictures with their boxes; None: no files.
            What this tool wrote into it before is replaced, other files stay.
        compare: a second detector.
        score_threshold: detections with a lower score are left out.
        shown: pictures on the contact sheet; of two detectors those that differ most.
        labels: what the detectors are called, where they were loaded before; default: their networks' names.
        names: class names in order, background included, where the detectors do not know them.
        say: progress.

    Raises:
        InputError: the threshold is not a share.
        PictureError: a picture cannot be read.
        ModelError, MeasureError: a detector cannot run or be read.
        ArtefactError: the output folder cannot be written.
    """
    from deploycc.detector import Detector
    from deploycc.evaluation.accuracy import known_classes
    from deploycc.workflows.load import load
    from deploycc.workflows.pictures import open_pictures
    from deploycc.workflows.staging import check_output_folder

    if not 0 <= score_threshold <= 1:
        raise InputError("wrong-threshold", f"a score threshold of {score_threshold:g} is not from 0 to 1")
    if output is not None:
        check_output_folder(Path(output))
    models = [model] if compare is None else [model, compare]
    detectors = [each if isinstance(each, Detector) else load(each) for each in models]
    labels = labels or [each.name if isinstance(each, Detector) else str(each) for each in models]
    pictures = open_pictures(images, detectors[0].input)
    named = [replace(each, class_names=known_classes(each, names)[0]) for each in detectors]
    report = detect_pictures(named, labels, pictures, score_threshold, say)
    if output is not None:
        write_detections(report, pictures, Path(output), shown, say)
    return report


def detect_pictures(
    detectors: Sequence[Detector], labels: Sequence[str], pictures: PictureList, score_threshold: float, say: Say
) -> DetectionReport:
    """Run one or two detectors on pictures with ONNX Runtime on this machine; see `detect`."""
    from deploycc.documents.detections import DetectingNetwork, DetectionReport, PictureRecord
    from deploycc.documents.document import Evidence, this_tool
    from deploycc.evaluation.detect import THREADS, OnnxRuntimeDetector
    from deploycc.evaluation.difference import matched_pairs
    from deploycc.timing.machine import this_machine

    runners = [OnnxRuntimeDetector(detector) for detector in detectors]
    evidence = Evidence(kind="measured", source=this_machine(THREADS).describe())
    records, ious, differences = [], [], []
    for number, name in enumerate(pictures.names):
        picture = pictures.read(number)
        height, width = picture.shape[:2]
        found = [_likely(runner.detect(picture), score_threshold) for runner in runners]
        pairs = matched_pairs(*found) if len(found) == 2 else []
        ious += [iou for _, _, iou in pairs]
        differences += [abs(float(found[0].scores[a]) - float(found[1].scores[b])) for a, b, _ in pairs]
        partners = ({a: b for a, b, _ in pairs}, {b: a for a, b, _ in pairs})
        boxes = tuple(
            _boxes(detector, side, (width, height), partners[position])
            for position, (detector, side) in enumerate(zip(detectors, found, strict=True))
        )
        records.append(PictureRecord(name=name, width=width, height=height, detections=boxes))
        say("detecting", number + 1, len(pictures.names))
    networks = tuple(
        DetectingNetwork(model=label, name=detector.name, source_sha256=detector.source.sha256, evidence=evidence)
        for label, detector in zip(labels, detectors, strict=True)
    )
    return DetectionReport(
        tool=this_tool(),
        networks=networks,
        picture_source=pictures.source,
        pictures_sha256=pictures.sha256,
        score_threshold=score_threshold,
        pictures=tuple(records),
        agreement=_agreement(records, ious, differences) if len(detectors) == 2 else None,
    )


def write_detections(report: DetectionReport, pictures: PictureList, output: Path, shown: int, say: Say) -> None:
    """Write the report, the pictures that are shown with their boxes, and the contact sheet.

    Raises:
        ArtefactError: the folder cannot be written.
    """
    from deploycc.files import write_text
    from deploycc.report.detections import Drawn, most_different, render_detections_html
    from deploycc.report.drawing import draw_detections, jpeg, thumbnail
    from deploycc.workflows.staging import staged_folder

    numbers = {name: number for number, name in enumerate(pictures.names)}
    chosen = most_different(report)[:shown]
    with staged_folder(output) as folder:
        (folder / "pictures").mkdir()
        drawn: dict[str, tuple[Drawn, ...]] = {}
        for position, record in enumerate(chosen):
            number, sides = numbers[record.name], []
            picture = pictures.read(number)
            for side, found in enumerate(record.detections):
                image = draw_detections(picture, found, marked=report.agreement is not None)
                file = f"pictures/{_file_name(number, record.name)}{'ab'[side] if report.agreement else ''}.jpg"
                (folder / file).write_bytes(jpeg(image))
                sides.append(Drawn(thumbnail(image), file))
            drawn[record.name] = tuple(sides)
            say("drawing", position + 1, len(chosen))
        report.write(folder / report.FILE_NAME)
        write_text(folder / "detections.html", render_detections_html(report, drawn))


def _likely(found: Detections, threshold: float) -> Detections:
    from deploycc.evaluation.nms import Detections

    kept = found.scores >= threshold
    return Detections(found.boxes[kept], found.scores[kept], found.classes[kept])


def _boxes(
    detector: Detector, found: Detections, size: tuple[int, int], partners: dict[int, int]
) -> tuple[DetectedBox, ...]:
    import numpy as np

    from deploycc.documents.detections import DetectedBox

    boxes = np.nan_to_num(found.boxes.astype(np.float64) * (*size, *size)).clip(-_MOST_PIXELS, _MOST_PIXELS)
    rows = zip(found.classes.tolist(), found.scores.tolist(), boxes.tolist(), strict=True)
    return tuple(
        DetectedBox(
            label=label, name=detector.class_name(label), score=score, box=tuple(box), partner=partners.get(row)
        )
        for row, (label, score, box) in enumerate(rows)
    )


def _agreement(pictures: Sequence[PictureRecord], ious: list[float], differences: list[float]) -> Agreement:
    from deploycc.documents.detections import Agreement
    from deploycc.evaluation.difference import MATCH_IOU

    alone = [sum(box.partner is None for each in pictures for box in each.detections[side]) for side in (0, 1)]
    return Agreement(
        match_iou=MATCH_IOU,
        matched=len(ious),
        only_first=alone[0],
        only_second=alone[1],
        max_score_difference=max(differences, default=None),
        min_iou=min(ious, default=None),
        pictures_that_differ=sum(picture.unmatched > 0 for picture in pictures),
    )


def _file_name(number: int, name: str) -> str:
    """A file name that any system takes: the number makes it unique."""
    return f"{number:04d}-{re.sub(r'[^A-Za-z0-9._-]+', '-', Path(name).stem)[:60]}"
