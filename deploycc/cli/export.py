"""``deploycc export MODEL --format caffe -o DIR``: a detector written for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from deploycc.cli.model_options import ModelChoice
from deploycc.cli.options import option, takes_options
from deploycc.terminal import console


@takes_options
def command(
    *,
    output: Annotated[Path, option("DIR", "Folder that receives the files.", "--output", "-o")],
    format: Annotated[str, option("FORMAT", "Format of the files; caffe is the only one.")] = "caffe",
    choice: ModelChoice,
) -> None:
    """Write a detector as Caffe with its SSD layers.

    The folder receives NAME.prototxt and NAME.caffemodel, named after the trained file.
    """
    from deploycc.workflows.export import export_detector

    with console.progress("export") as say:
        exported = export_detector(choice.load(say), output, format=format, say=say)
    console.notes(exported.notes)
    console.wrote(*exported.files, answer=True)
