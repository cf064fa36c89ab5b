"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from deploycc.cli import complete
from deploycc.errors import InputError


def target_option(help: str) -> Any:
    """The option --target; its help says what the target is for."""
    return typer.Option("--target", "-t", metavar="TARGET", autocompletion=complete.target, help=help)


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
ClassNames = Annotated[
    str | None,
    typer.Option(
        metavar="LIST", help="Class names of the model in order, including the background; default: those in its file."
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="DEVICE", help="Where: local (default), ssh://[user@]host[:port], or a name from devices.toml."
    ),
]
EnginePrecision = Annotated[
    str | None,
    typer.Option("--precision", metavar="P", help="Engine for --device: fp32 or fp16; default: the first that runs."),
]
FolderOfPictures = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of pictures.")]
OrData = Annotated[
    str | None,
    typer.Option(
        "--data",
        "-d",
        metavar="DATA",
        help="Pictures instead of --images: voc:FOLDER[@SPLIT] or generated:SEED[:COUNT].",
    ),
]
OutputFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Output folder of `deploycc compile`.")]
Precisions = Annotated[
    str | None, typer.Option("--precision", "-p", metavar="LIST", help="Precisions, such as fp32,fp16; default: all.")
]
ProfileFile = Annotated[
    Path, typer.Option("--profile", metavar="FILE", help="Utilisation profile of this model (`deploycc profile`).")
]


def comma_list(text: str | None) -> tuple[str, ...]:
    """Split ``a,b`` and drop empty parts."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def one_source(images: Path | None, data: str | None) -> Path | str:
    """The pictures that either of two options names.

    Raises:
        InputError: ``calibration-pictures``: neither is given, or both are.
    """
    if images is not None and data is None:
        return images
    if data is not None and images is None:
        return data
    raise InputError("calibration-pictures", "give either --images or --data", hint="--images FOLDER")
