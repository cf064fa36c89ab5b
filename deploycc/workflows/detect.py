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
    from deploycc.workflows.engine_detections import EngineSide

SCORE_THRESHOLD = 0.3
SHOWN = 100
_MOST_PIXELS = 1e6  # what a box of an untrained network is cut to


def detect(
    model: str | Path | Detector,
    images: str | Path | PictureList,
    output: str | Path | None = None,
    *,
    compare: str | Path | Detector | None = None,
    device: str | None = None,
    precision: str | None = None,
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
        compare: a second detector, or what ``agent.pyz detect`` wrote where an engine ran: a path that ends in
            ``.json``, for the same pictures.
        device: where the engine of the folder ``model`` runs on the same pictures, instead of a second detector
            (`deploycc.workflows.devices.choose_device`).
        precision: of that engine; None: the first that runs.
        score_threshold: detections with a lower score are left out.
        shown: pictures on the contact sheet; of two detectors those that differ most.
        labels: what the detectors are called, where they were loaded before; default: their networks' names.
        names: class names in order, background included, where the detectors do not know them.
        say: progress.

    Raises:
        InputError: the threshold is not a share, ``wrong-precision``, or ``device-needs-a-folder``.
        DeviceError: the device cannot be used.
        PictureError: a picture cannot be read.
        ModelError, MeasureError: a detector cannot run or be read.
        ArtefactError: the output folder cannot be written.
    """
    from deploycc.detector import Detector
    from deploycc.evaluation.accuracy import known_classes
    from deploycc.workflows.engine_detections import check_precision, engine_run, folder_of, run_on_device
    from deploycc.workflows.load import load
    from deploycc.workflows.pictures import open_pictures
    from deploycc.workflows.staging import check_output_folder

    if not 0 <= score_threshold <= 1:
        raise InputError("wrong-threshold", f"a score threshold of {score_threshold:g} is not from 0 to 1")
    engine_precision = check_precision(precision)
    if device is not None and compare is not None:
        raise InputError("detect-two-seconds", "a device and a second detector cannot both be beside the first")
    if device is not None:
        folder_of(model)
    if output is not None:
        check_output_folder(Path(output))
    models = [model] if compare is None else [model, compare]
    labels = labels or [each.name if isinstance(each, Detector) else str(each) for each in models]
    if device is not None and compare is None:
        labels = [*labels, device]
    engine = engine_run(Path(str(compare))) if str(compare).endswith(".json") else None
    detectors = [each if isinstance(each, Detector) else load(each) for each in models[: 1 if engine else 2]]
    pictures = open_pictures(images, detectors[0].input)
    if device is not None:
        folder, spec = folder_of(model), detectors[0].input
        engine = run_on_device(folder, device, engine_precision, pictures.names, pictures.read, spec, say)
    named = [replace(each, class_names=known_classes(each, names)[0]) for each in detectors]
    report = detect_pictures(named, labels, pictures, score_threshold, say, engine)
    if output is not None:
        write_detections(report, pictures, Path(output), shown, say)
    return report


def detect_pictures(
    detectors: Sequence[Detector],
    labels: Sequence[str],
    pictures: PictureList,
    score_threshold: float,
    say: Say,
    engine: EngineSide | None = None,
) -> DetectionReport:
    """Run one or two detectors on pictures with ONNX Runtime on this machine; see `detect`.

    Args:
        detectors: one, or two without ``engine``.
        labels: one per side.
        pictures: to run.
        score_threshold: detections with a lower score are left out.
        say: progress.
        engine: the second side.

    Raises:
        InputError: ``pictures-differ``: the engine saw other pictures.
        ModelError, MeasureError, PictureError: as `detect`.
    """
    from deploycc.documents.detections import DetectingNetwork, DetectionReport, PictureRecord
    from deploycc.documents.document import Evidence, this_tool
    from deploycc.evaluation.detect import THREADS, OnnxRuntimeDetector
    from deploycc.evaluation.difference import matched_pairs
    from deploycc.timing.machine import this_machine

    if engine is not None and (missing := [name for name in pictures.names if name not in engine.found]):
        raise InputError(
            "pictures-differ",
            f"the engine did not see {missing[0]}",
            context={"pictures": pictures.source, "not seen": len(missing)},
            hint="give the agent and this command the same folder of pictures",
        )
    runners = [OnnxRuntimeDetector(detector) for detector in detectors]
    sides = [*detectors, detectors[0]] if engine is not None else list(detectors)
    records, ious, differences = [], [], []
    for number, name in enumerate(pictures.names):
        picture = pictures.read(number)
        height, width = picture.shape[:2]
        found = [_likely(runner.detect(picture), score_threshold) for runner in runners]
        found += [] if engine is None else [_likely(engine.found[name], score_threshold)]
        pairs = matched_pairs(*found) if len(found) == 2 else []
        ious += [iou for _, _, iou in pairs]
        differences += [abs(float(found[0].scores[a]) - float(found[1].scores[b])) for a, b, _ in pairs]
        partners = ({a: b for a, b, _ in pairs}, {b: a for a, b, _ in pairs})
        boxes = tuple(
            _boxes(detector, side, (width, height), partners[position])
            for position, (detector, side) in enumerate(zip(sides, found, strict=True))
        )
        records.append(PictureRecord(name=name, width=width, height=height, detections=boxes))
        say("detecting", number + 1, len(pictures.names))
    here = this_machine(THREADS).describe()
    machines = [here, engine.machine] if engine is not None else [here] * len(sides)
    networks = tuple(
        DetectingNetwork(
            model=label,
            name=detector.name,
            source_sha256=detector.source.sha256,
            evidence=Evidence(kind="measured", source=machine),
        )
        for label, detector, machine in zip(labels, sides, machines, strict=True)
    )
    return DetectionReport(
        tool=this_tool(),
        networks=networks,
        picture_source=pictures.source,
        pictures_sha256=pictures.sha256,
        score_threshold=score_threshold,
        pictures=tuple(records),
        agreement=_agreement(records, ious, differences) if len(sides) == 2 else None,
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
