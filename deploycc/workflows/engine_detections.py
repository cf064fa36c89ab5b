"""What engines detect in pictures where they run: fetched from a device, or read from what the agent wrote there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.errors import InputError, MeasureError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deploycc.detector import Detector, InputSpec
    from deploycc.documents.detections import EngineDetections
    from deploycc.documents.plan import Precision
    from deploycc.evaluation.nms import Detections
    from deploycc.progress import Say


@dataclass(frozen=True, eq=False)
class EngineSide:
    """What an engine detected, by name of the picture.

    Attributes:
        found: detections per picture.
        machine: the engine, and what it ran on.
        engine_sha256: of the engine.
    """

    found: Mapping[str, Detections]
    machine: str
    engine_sha256: str | None


def check_precision(precision: str | None) -> Precision | None:
    """Return the precision of an engine as it was given.

    Raises:
        InputError: ``wrong-precision``: there is no such precision.
    """
    if precision not in (None, "fp32", "fp16"):
        raise InputError("wrong-precision", f"`precision={precision}` is neither fp32 nor fp16")
    return precision  # type: ignore[return-value]


def folder_of(model: str | Path | Detector) -> Path:
    """Return the output folder that a device runs an engine of.

    Raises:
        InputError: ``device-needs-a-folder``.
    """
    from deploycc.detector import Detector
    from deploycc.documents.plan import BuildPlan

    if isinstance(model, Detector) or not (Path(model) / BuildPlan.FILE_NAME).is_file():
        raise InputError(
            "device-needs-a-folder",
            "an engine on a device is that of an output folder",
            context={"model": model.name if isinstance(model, Detector) else model},
            hint="`deploycc compile MODEL --device DEVICE -o DIR`, then give DIR",
        )
    return Path(model)


def run_on_device(
    folder: Path,
    device: str,
    precision: Precision | None,
    names: Sequence[str],
    read: Callable[[int], NDArray[np.uint8]],
    spec: InputSpec,
    say: Say,
) -> EngineSide:
    """Run an engine of a folder on a device; pictures go there as large as its input.

    Args:
        folder: output folder, whose engines are built.
        device: as `deploycc.workflows.devices.choose_device` takes it.
        precision: of the engine; None: the first that runs.
        names: of the pictures, each once.
        read: picture [H, W, 3] uint8, red first, by its number.
        spec: input of the network.
        say: progress.

    Raises:
        ArtefactError: the folder's files do not belong together.
        DeviceError: the device cannot be used.
        MeasureError: ``engine-not-run``, or the agent ended without an answer.
        PictureError: a picture cannot be read.
    """
    import numpy as np

    from deploycc.agent_host.local import detect as run_engines
    from deploycc.agent_host.remote import Step
    from deploycc.agent_host.temporary import temporary_folder
    from deploycc.detector.pictures import resize
    from deploycc.workflows.chain import check_chain
    from deploycc.workflows.devices import session_on

    check_chain(folder)
    with temporary_folder() as place:
        file = place / "pictures.npy"
        shape = (len(names), spec.height, spec.width, 3)
        stack = np.lib.format.open_memmap(file, "w+", np.uint8, shape)  # data sets are larger than memories
        for number in range(len(names)):
            stack[number] = resize(read(number), spec.height, spec.width)
            say("preparing pictures", number + 1, len(names))
        stack.flush()
        del stack
        with session_on(device, folder, [Step("detect", precision, file)], say) as session:
            document = run_engines(folder, file, say, precision, session=session)
    return _side_of(document, f"device {device}", names)


def engine_run(path: Path) -> EngineSide:
    """Read what the agent wrote: the first engine that detected.

    Raises:
        ArtefactError: the file cannot be used.
        MeasureError: ``engine-not-run``: no engine detected.
    """
    from deploycc.documents.detections import EngineDetections
    from deploycc.documents.document import read_document

    return _side_of(read_document(path, EngineDetections), str(path))


def _side_of(document: EngineDetections, origin: str, names: Sequence[str] | None = None) -> EngineSide:
    """Return the first engine that detected; ``names`` replace those of the pictures, in order."""
    import numpy as np

    from deploycc.evaluation.nms import Detections

    run = next((run for run in document.runs if run.status == "detected"), None)
    if run is None:
        first = document.runs[0] if document.runs else None
        raise MeasureError(
            "engine-not-run",
            "no engine detected anything, because none ran",
            context={"from": origin},
            note=None if first is None else first.reason,
            hint=None if first is None else first.hint,
        )
    found = {}
    for name, picture in zip(names or [each.name for each in run.pictures], run.pictures, strict=True):
        rows = np.array(picture.detections, np.float64).reshape(-1, 6)
        boxes, scores = rows[:, 2:].astype(np.float32), rows[:, 1].astype(np.float32)
        found[name] = Detections(boxes, scores, rows[:, 0].astype(np.int64))
    machine = document.environment.get("board_model") or document.environment.get("cpu_model") or document.target
    return EngineSide(found, f"{run.label} engine on {machine}", run.engine_sha256)
