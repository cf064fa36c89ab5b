"""A detector written for other tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.errors import ArtefactError, InputError
from deploycc.progress import Say, quiet
from deploycc.workflows.staging import make_folder

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.errors import Note
    from deploycc.passes import Compiled

FORMATS = ("caffe",)
_CONTRACT_OF = "drive-px2-igpu"  # the target whose networks are Caffe files


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        files: the definition first.
        notes: what the importer, the passes and the exporter said.
    """

    files: tuple[Path, ...]
    notes: tuple[Note, ...]


def export_detector(detector: Detector, folder: Path, *, format: str = "caffe", say: Say = quiet) -> Exported:
    """Write a detector as Caffe with its SSD layers, ``NAME.prototxt`` and ``NAME.caffemodel``, named as trained.

    Args:
        detector: with SSD heads.
        folder: receives the files; made where it does not exist.
        format: one of `FORMATS`.
        say: told what is being done.

    Raises:
        InputError: ``export-format``.
        ModelError: ``caffe-cannot-express``.
        ArtefactError: the folder is a file, cannot be made, or holds the trained file under the same name.
    """
    if format not in FORMATS:
        raise InputError("export-format", f"`format={format}` is not one of {', '.join(FORMATS)}")
    files = _files(detector, folder)
    make_folder(folder)
    return export_files(detector, *files, say=say)


def caffe_files(path: Path) -> tuple[Path, Path] | None:
    """Return the definition and the weight file that the name of either asks for; None for another format."""
    if path.suffix not in (".prototxt", ".caffemodel"):
        return None
    return path.with_suffix(".prototxt"), path.with_suffix(".caffemodel")


def export_files(detector: Detector, prototxt: Path, caffemodel: Path, *, say: Say = quiet) -> Exported:
    """Write a detector as Caffe with its SSD layers.

    Args:
        detector: with SSD heads.
        prototxt: definition to write.
        caffemodel: weights to write; both files are complete or neither is touched.
        say: told what is being done.

    Raises:
        ModelError: ``caffe-cannot-express``, ``written-unreadable``.
        ArtefactError: ``file-unwritable``.
    """
    from deploycc.exporters import caffe
    from deploycc.workflows.written import checked

    say("folding and fitting the network")
    compiled = for_caffe(detector)
    say("writing")
    notes = checked((prototxt, caffemodel), lambda *files: caffe.save_with_detection(compiled.detector, *files))
    return Exported((prototxt, caffemodel), (*compiled.notes, *notes))


def for_caffe(detector: Detector) -> Compiled:
    """Run the passes that fold and tidy a network for Caffe, in FP32 and with raw heads."""
    from deploycc import target
    from deploycc.passes import FIT, FOLD, LOWER, PRUNE, run
    from deploycc.passes.for_target import options_for

    options = options_for(target.load(_CONTRACT_OF), precision="fp32", detection="raw")
    # Without DROP_DEAD and CHECK: PriorBox lays out dead anchors too, and the file is not for this target's parser.
    return run(detector, options, FOLD + PRUNE + LOWER + FIT)


def _files(detector: Detector, folder: Path) -> tuple[Path, Path]:
    """Return where the two files go: named like the trained file, and never over it.

    Raises:
        ArtefactError: the folder is a file, or it holds the trained file under the same name.
    """
    if folder.exists() and not folder.is_dir():
        raise ArtefactError("output-is-a-file", "the output folder is a file", context={"path": folder})
    stem = Path(detector.source.files[0]).stem
    files = (folder / f"{stem}.prototxt", folder / f"{stem}.caffemodel")
    trained = {Path(name).resolve() for name in detector.source.files}
    for file in files:
        if file.resolve() in trained:
            raise ArtefactError(
                "output-is-the-input",
                f"{file.name} would replace the trained file",
                context={"path": file},
                hint="choose another folder with `output`",
            )
    return files
