"""``deploycc export MODEL --format caffe -o DIR``: a detector written for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploycc.cli.model_options import ModelChoice, takes_model
from deploycc.errors import ArtefactError, InputError

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.passes import Compiled

FORMATS = ("caffe",)
_CONTRACT_OF = "drive-px2-igpu"  # the target whose networks are Caffe files


@takes_model
def command(
    choice: ModelChoice,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder that receives the files.")],
    format_: Annotated[str, typer.Option("--format", metavar="FORMAT", help=f"{', '.join(FORMATS)}.")] = "caffe",
) -> None:
    """Write a detector as Caffe with its SSD layers.

    The folder receives NAME.prototxt and NAME.caffemodel, named after the trained file.
    """
    from deploycc.cli import console

    if format_ not in FORMATS:
        raise InputError("unknown-format", f"--format {format_} is none of {', '.join(FORMATS)}")
    with console.progress("export") as say:
        say("reading")
        detector = choice.load()
        files = _files(detector, output)
        compiled = for_caffe(detector)
        say("writing")
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as reason:
            raise ArtefactError(
                "output-unwritable",
                "the output folder cannot be made",
                context={"path": output},
                note=reason.strerror or str(reason),
            ) from None
        from deploycc.exporters import caffe

        notes = caffe.save_with_detection(compiled.detector, *files)
    for note in (*compiled.notes, *notes):
        console.note(f"{note.node}: {note.reason}" if note.node else note.reason)
    for file in files:
        console.out(str(file))


def for_caffe(detector: Detector) -> Compiled:
    """Run the passes that fold and tidy a network for Caffe, in FP32 and with raw heads."""
    from deploycc import target
    from deploycc.passes import FIT, FOLD, LOWER, PRUNE, run
    from deploycc.passes.for_target import options_for

    options = options_for(target.load(_CONTRACT_OF), precision="fp32", detection="raw")
    # Without DROP_DEAD and CHECK: PriorBox lays out dead anchors too, and the file is not for this target's parser.
    return run(detector, options, FOLD + PRUNE + LOWER + FIT)


def _files(detector: Detector, folder: Path) -> tuple[Path, Path]:
    """Where the two files go: named like the trained file, and never over it.

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
                hint="choose another folder with -o",
            )
    return files
