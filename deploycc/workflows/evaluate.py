"""Accuracy of a detector on annotated pictures: of its network on this machine, or of its engine on a device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.progress import Say, quiet

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.evaluation.accuracy import Accuracy


def evaluate_detector(
    detector: str | Path | Detector,
    data: str,
    *,
    device: str | None = None,
    precision: str | None = None,
    names: tuple[str, ...] = (),
    say: Say = quiet,
) -> Accuracy:
    """Run a detector over annotated pictures and score it.

    Args:
        detector: with raw heads or with in-graph detections: loaded, or what `deploycc.load` takes.
        data: ``voc:FOLDER``, ``voc:FOLDER@SPLIT`` or ``generated:SEED[:COUNT]``.
        device: where the engine of the output folder ``detector`` runs, instead of its network here
            (`deploycc.workflows.devices.choose_device`). Pictures go there as large as the input.
        precision: of that engine; None: the first that runs.
        names: the detector's class names with the background, where it does not know them.
        say: told how many pictures are done.

    Raises:
        InputError: the data cannot be read or show no object, the classes cannot be matched, or
            ``wrong-precision`` or ``device-needs-a-folder``.
        DeviceError: the device cannot be used.
        ModelError, MeasureError: the detector cannot run or be read.
        ArtefactError: the folder's files do not belong together.
    """
    from deploycc.detector import Detector
    from deploycc.documents.document import Evidence
    from deploycc.evaluation.accuracy import match_classes, measure_accuracy, score_detections
    from deploycc.evaluation.dataset import open_dataset
    from deploycc.workflows.engine_detections import check_precision, folder_of, run_on_device
    from deploycc.workflows.load import load

    engine_precision = check_precision(precision)
    folder = folder_of(detector) if device is not None else None
    loaded = detector if isinstance(detector, Detector) else load(detector)
    dataset = open_dataset(data, size=loaded.input.height)
    if folder is None or device is None:
        return measure_accuracy(loaded, dataset, names=names, say=say)
    match_classes(loaded, dataset.class_names, names)  # refused before anything is sent
    side = run_on_device(
        folder, device, engine_precision, dataset.names, lambda number: dataset.sample(number)[0], loaded.input, say
    )
    evidence = Evidence(kind="measured", source=side.machine)
    return score_detections(
        loaded, dataset, side.found, evidence, engine_sha256=side.engine_sha256, names=names, say=say
    )
