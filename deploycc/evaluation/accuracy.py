"""Run a detector over a data set and score its detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.detector.pictures import prepare
from deploycc.documents.document import Evidence
from deploycc.errors import InputError, MeasureError, Note
from deploycc.evaluation.coco import CocoScore, coco_scores
from deploycc.evaluation.dataset import Dataset
from deploycc.evaluation.detect import THREADS, OnnxRuntimeDetector
from deploycc.evaluation.nms import Detections
from deploycc.evaluation.truth import Predictions, Truth
from deploycc.evaluation.voc import VocScore, mean_ap, voc_scores
from deploycc.evaluation.voc_folder import VOC_CLASSES
from deploycc.progress import Say, quiet
from deploycc.timing.machine import this_machine

_FARTHEST = 1e6  # pictures; an untrained network may decode to any size, and areas must not overflow


@dataclass(frozen=True, eq=False)
class Accuracy:
    """The detections of a detector on a data set, and their scores.

    Attributes:
        dataset: the data set.
        truths, predictions: one per picture.
        voc, coco: one per class of the data set.
        notes: assumptions about the classes.
        evidence: what detected.
        engine_sha256: of the engine that detected; None where the network did, in ONNX Runtime.
    """

    dataset: Dataset
    truths: tuple[Truth, ...]
    predictions: tuple[Predictions, ...]
    voc: tuple[VocScore, ...]
    coco: tuple[CocoScore, ...]
    notes: tuple[Note, ...]
    evidence: Evidence
    engine_sha256: str | None = None

    def summary(self) -> dict[str, Any]:
        """Return means over the classes that occur and one row per class, as JSON values."""
        occurring = [score for score in self.coco if score.objects]
        return {
            "data": self.dataset.spelling,
            "pictures": len(self.dataset),
            "evidence": self.evidence.model_dump(),
            "engine_sha256": self.engine_sha256,
            "map50_area": mean_ap(self.voc),
            "map50_11point": mean_ap(self.voc, eleven_point=True),
            "coco_map": float(np.mean([score.ap for score in occurring])),
            "coco_map75": float(np.mean([score.ap75 for score in occurring])),
            "classes": [
                {
                    "class": name,
                    "objects": voc.objects,
                    "ap50_area": voc.area if voc.objects else None,
                    "ap50_11point": voc.eleven_point if voc.objects else None,
                    "coco_ap": coco.ap if voc.objects else None,
                }
                for name, voc, coco in zip(self.dataset.class_names, self.voc, self.coco, strict=True)
            ],
        }

    def detections(self) -> list[dict[str, Any]]:
        """Return every detection as JSON values: picture, class, score, box in pixels (xmin ymin xmax ymax)."""
        rows = []
        for name, predicted in zip(self.dataset.names, self.predictions, strict=True):
            columns = (predicted.boxes.tolist(), predicted.classes.tolist(), predicted.scores.tolist())
            for box, label, score in zip(*columns, strict=True):
                rows.append({"picture": name, "class": self.dataset.class_names[label], "score": score, "box": box})
        return rows


def measure_accuracy(
    detector: Detector,
    dataset: Dataset,
    *,
    names: tuple[str, ...] = (),
    say: Say = quiet,
) -> Accuracy:
    """Run a detector over a data set with ONNX Runtime and score it; see `measure_accuracies`."""
    [accuracy] = measure_accuracies([detector], dataset, names=names, say=say)
    return accuracy


def measure_accuracies(
    detectors: Sequence[Detector],
    dataset: Dataset,
    *,
    names: tuple[str, ...] = (),
    say: Say = quiet,
) -> list[Accuracy]:
    """Run detectors over a data set with ONNX Runtime and score them; each picture is read or drawn once.

    Args:
        detectors: with raw heads or with in-graph detections.
        dataset: annotated pictures.
        names: the detectors' class names with the background, if they have none.
        say: called with the number of pictures done.

    Returns:
        An element per detector.

    Raises:
        InputError: no picture shows an object to score, or the classes cannot be matched.
        ModelError, MeasureError: a detector cannot run, or its outputs are not finite or cannot be decoded.
    """
    matches = [match_classes(detector, dataset.class_names, names) for detector in detectors]
    runners = [OnnxRuntimeDetector(detector) for detector in detectors]
    truths: list[Truth] = []
    predictions: list[list[Predictions]] = [[] for _ in detectors]
    for number in range(len(dataset)):
        picture, truth = dataset.sample(number)
        truths.append(truth)
        for runner, (label_of, _), into in zip(runners, matches, predictions, strict=True):
            outputs = runner.run(prepare(picture, runner.detector.input))
            _refuse_not_finite(outputs, runner.detector, dataset.names[number])
            found = runner.read(outputs)
            into.append(_in_pixels(found, picture.shape[1], picture.shape[0], label_of))
        say("evaluating pictures", number + 1, len(dataset))
    evidence = Evidence(kind="measured", source=this_machine(THREADS).describe())
    return [
        _scored(dataset, truths, predicted, notes, evidence)
        for predicted, (_, notes) in zip(predictions, matches, strict=True)
    ]


def score_detections(
    detector: Detector,
    dataset: Dataset,
    found: Mapping[str, Detections],
    evidence: Evidence,
    *,
    engine_sha256: str | None = None,
    names: tuple[str, ...] = (),
    say: Say = quiet,
) -> Accuracy:
    """Score what was detected elsewhere.

    Args:
        detector: says what the classes mean.
        dataset: annotated pictures.
        found: detections by name of the picture.
        evidence: what detected.
        engine_sha256: of the engine that did.
        names: the detector's class names with the background, if it has none.
        say: called with the number of pictures done.

    Raises:
        InputError: as `measure_accuracies`.
    """
    label_of, notes = match_classes(detector, dataset.class_names, names)
    truths: list[Truth] = []
    predictions: list[Predictions] = []
    for number, name in enumerate(dataset.names):
        picture, truth = dataset.sample(number)
        truths.append(truth)
        predictions.append(_in_pixels(found[name], picture.shape[1], picture.shape[0], label_of))
        say("scoring pictures", number + 1, len(dataset))
    return _scored(dataset, truths, predictions, notes, evidence, engine_sha256)


def _scored(
    dataset: Dataset,
    truths: Sequence[Truth],
    predictions: Sequence[Predictions],
    notes: tuple[Note, ...],
    evidence: Evidence,
    engine_sha256: str | None = None,
) -> Accuracy:
    if not any(np.count_nonzero(~truth.difficult) for truth in truths):
        raise InputError("data-no-objects", "no picture shows an object", context={"data": dataset.spelling})
    classes = len(dataset.class_names)
    return Accuracy(
        dataset,
        tuple(truths),
        tuple(predictions),
        tuple(voc_scores(truths, predictions, classes)),
        tuple(coco_scores(truths, predictions, classes)),
        notes,
        evidence,
        engine_sha256,
    )


def known_classes(detector: Detector, names: tuple[str, ...] = ()) -> tuple[tuple[str, ...], tuple[Note, ...]]:
    """Return a detector's class names, background included, and a note where they are assumed; none if unknown.

    Args:
        detector: with SSD heads or in-graph detections.
        names: its class names as the user gave them, which come first.
    """
    known = names or detector.class_names
    if known or detector.heads is None or detector.heads.classes != len(VOC_CLASSES) + 1:
        return known, ()
    reason = "the model has 21 classes without names; they are assumed to be Pascal VOC's"
    return ("background", *VOC_CLASSES), (Note("", "classes-assumed", reason),)


def _refuse_not_finite(outputs: Mapping[str, NDArray[np.generic]], detector: Detector, picture: str) -> None:
    """Refuse outputs with NaN or infinity: they give no detection, and an accuracy of 0.0 would say nothing of them."""
    for name, values in outputs.items():
        if values.dtype.kind == "f" and (wrong := int(values.size - np.isfinite(values).sum())):
            raise MeasureError(
                "outputs-not-finite",
                f"the network gives NaN or infinity in {name}",
                context={
                    "network": detector.name,
                    "picture": picture,
                    "output": f"{name}: {wrong} of {values.size} values",
                },
                note="no accuracy can be stated",
                hint="check the weights, and how pixels enter; `deploycc compile` names the first such layer",
            )


def match_classes(
    detector: Detector, wanted: tuple[str, ...], names: tuple[str, ...] = ()
) -> tuple[dict[int, int], tuple[Note, ...]]:
    """Match the detector's classes with the data set's by name.

    Args:
        detector: with SSD heads or in-graph detections.
        wanted: class names of the data set.
        names: the detector's class names with the background, if the detector has none.

    Returns:
        The data set's class index of each detector class that the data set has, and notes on assumptions.

    Raises:
        InputError: the detector's class names are unknown, or the data set has none of them.
    """
    known, assumed = known_classes(detector, names)
    notes = list(assumed)
    if not known:
        raise InputError(
            "classes-unknown",
            "the model has no class names",
            context={"model": detector.name},
            hint="give them in order with `names=background,car,...`",
        )
    if detector.heads is not None and len(known) != detector.heads.classes:
        raise InputError(
            "classes-count",
            f"{len(known)} class names for {detector.heads.classes} classes",
            context={"model": detector.name},
            note="the background needs a name, too, if the model has a background class",
        )
    position = {name.lower(): index for index, name in enumerate(wanted)}
    label_of = {k: position[name.lower()] for k, name in enumerate(known) if name.lower() in position}
    if not label_of:
        raise InputError(
            "classes-foreign",
            "the model has none of the data set's classes",
            context={"model": ", ".join(known), "data": ", ".join(wanted)},
        )
    missing = [name for index, name in enumerate(wanted) if index not in label_of.values()]
    if missing:
        notes.append(
            Note("", "classes-missing", f"the model has no class {', '.join(missing)}: scored as never detected")
        )
    return label_of, tuple(notes)


def _in_pixels(detections: Detections, width: int, height: int, label_of: dict[int, int]) -> Predictions:
    labels = np.array([label_of.get(int(k), -1) for k in detections.classes], np.int64)
    kept = labels >= 0
    boxes = np.clip(np.nan_to_num(detections.boxes[kept]), -_FARTHEST, _FARTHEST)
    boxes *= np.array([width, height, width, height], np.float32)
    return Predictions(boxes, labels[kept], detections.scores[kept])
