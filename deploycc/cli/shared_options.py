"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from deploycc.cli.options import argument, option, switch
from deploycc.errors import InputError
from deploycc.terminal import complete


def target_option(help: str) -> Any:
    """The option --target; its help says what the target is for."""
    return option("TARGET", help, "--target", "-t", autocompletion=complete.target)


AsJson = Annotated[bool, switch("--json", "Print JSON instead of tables.")]
ClassNames = Annotated[
    str | None,
    option("LIST", "Class names of the model in order, including the background; default: those in its file."),
]
Device = Annotated[
    str | None, option("DEVICE", "Where: local (default), ssh://[user@]host[:port], or a name from devices.toml.")
]
EnginePrecision = Annotated[
    str | None, option("P", "Engine for --device: fp32 or fp16; default: the first that runs.", "--precision")
]
Jobs = Annotated[int, option("N", "Processes that share the work; the result is the same.", min=1)]
MaxPerformance = Annotated[
    bool,
    switch(
        "--max-performance",
        "On a Jetson: measure in the fastest power mode with fixed clocks (needs root there); what was before is back "
        "afterwards, however this ends.",
    ),
]
OrData = Annotated[
    str | None,
    option("DATA", "Pictures instead of --images: voc:FOLDER[@SPLIT] or generated:SEED[:COUNT].", "--data", "-d"),
]
OutputFolder = Annotated[Path, argument("DIR", "Output folder of `deploycc compile`.")]
OutputFolders = Annotated[list[Path], argument("DIR...", "Output folders of `deploycc compile`.")]
Precisions = Annotated[str | None, option("LIST", "Precisions, such as fp32,fp16; default: all.", "--precision", "-p")]
ProfileFile = Annotated[Path, option("FILE", "Utilisation profile of this model (`deploycc profile`).", "--profile")]


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


@dataclass(frozen=True)
class Pictures:
    """Pictures, which need no labels: a folder or a data set."""

    images: Annotated[Path | None, option("DIR", "Folder of pictures; they need no labels.")] = None
    data: OrData = None

    def source(self) -> Path | str:
        """The one that is given; raises InputError as `one_source`."""
        return one_source(self.images, self.data)
