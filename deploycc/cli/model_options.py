"""The options that say which detector to read, for every command that reads one.

A command takes ``choice: ModelChoice`` and is decorated with `takes_model`; typer then sees MODEL, the command's own
options, and the ones below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploycc.cli import complete
from deploycc.cli.shared_options import takes
from deploycc.errors import InputError
from deploycc.terminal import console

if TYPE_CHECKING:
    from deploycc.detector import Detector, InputSpec


@dataclass(frozen=True)
class ModelChoice:
    """Which detector to read and what its file does not say, as given."""

    model: str
    weights: Path | None = None
    random_weights: int | None = None
    describe: Path | None = None
    mean: str | None = None
    scale: str | None = None
    colour: str | None = None

    def load(self, *, design: bool = False) -> Detector:
        """Read the detector.

        Args:
            design: a Caffe definition without weights is enough; it gets random ones.

        Raises:
            ModelError, InputError: as `deploycc.workflows.load.load`; an option has a value that it does not know.
        """
        from deploycc.workflows.load import is_untrained, load

        colour = self.colour.upper() if self.colour else None
        if colour not in (None, "BGR", "RGB", "GRAY"):
            raise InputError("wrong-colour", f"--colour {self.colour} is not one of BGR, RGB, GRAY")
        return load(
            self.model,
            weights=self.weights,
            random_weights=self._seed(design and is_untrained(self.model)),
            describe=self.describe,
            mean=_numbers("--mean", self.mean),
            scale=_factors(self.scale),
            colour=colour,  # type: ignore[arg-type]
        )

    def _seed(self, untrained: bool) -> int | None:
        """The seed of random weights: as given, or 0 for a definition that comes without weights."""
        return 0 if untrained and self.weights is None and self.random_weights is None else self.random_weights


def model_choice(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            autocompletion=complete.model,
            help="Trained detector: .prototxt, .caffemodel, .onnx, compiled folder, or the name of a shipped detector.",
        ),
    ],
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Caffe weights; default: MODEL with the suffix .caffemodel.")
    ] = None,
    random_weights: Annotated[
        int | None, typer.Option(metavar="SEED", help="Seed of random weights for a .prototxt without weights.")
    ] = None,
    describe: Annotated[
        Path | None,
        typer.Option(metavar="TOML", help="Detector description; default: MODEL.detector.toml where it exists."),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help="Mean to subtract from the pixels, per channel in the order of --colour."),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(metavar="S|A,B,C", help="Factor after the mean is subtracted: one, or one per channel."),
    ] = None,
    colour: Annotated[
        str | None, typer.Option(metavar="BGR|RGB|GRAY", help="Channel order that the network expects.")
    ] = None,
) -> ModelChoice:
    """The detector that MODEL and its options name."""
    return ModelChoice(model, weights, random_weights, describe, mean, scale, colour)


takes_model = takes(choice=model_choice)
"""Give a command MODEL and the options above; it receives ``choice``."""


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = (math.nan,)
    if not all(map(math.isfinite, values)):
        raise InputError("wrong-number", f"{option} {text} is not a list of numbers", hint=f"{option} 104,117,123")
    return values


def _factors(text: str | None) -> tuple[float, ...] | None:
    values = _numbers("--scale", text)
    if values is not None and 0 in values:
        raise InputError("scale-zero", f"--scale {text} holds a 0, with which every picture looks the same")
    return values


def comma_list(text: str | None) -> tuple[str, ...]:
    """Split ``a,b`` and drop empty parts."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def warn_if_assumed(spec: InputSpec, what: str) -> None:
    """Say that no file states the preparation, and that ``what`` depends on it."""
    from deploycc.report.format import preparation

    if spec.assumed:
        assumed = preparation(spec.colour, spec.mean, spec.scale)
        console.warn(
            f"no file says how this network expects its pictures; assumed: {assumed}. "
            f"Give --mean, --scale and --colour: with wrong ones {what} means nothing"
        )


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
