"""The options that say which detector to read, shared by every command that reads one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from deploycc.errors import InputError

if TYPE_CHECKING:
    from deploycc.detector import Detector

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Trained detector: .prototxt, .caffemodel, .onnx, or the name of a shipped one."
    ),
]
Weights = Annotated[
    Optional[Path],  # noqa: UP045 - typer reads the annotation at run time on Python 3.10
    typer.Option("--weights", metavar="FILE", help="Caffe weights; default: same name with .caffemodel."),
]
RandomWeights = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--random-weights", metavar="SEED", help="Fill a prototxt without weights from this seed."),
]
Describe = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--describe", metavar="TOML", help="Detector description; default: MODEL.detector.toml if present."),
]
Mean = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--mean", metavar="A,B,C", help="Pixel mean per channel, in the order of --colour."),
]
Scale = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--scale", metavar="S|A,B,C", help="Factor after the mean is subtracted."),
]
Colour = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--colour", metavar="BGR|RGB|GRAY", help="Channel order that the network expects."),
]


@dataclass(frozen=True)
class ModelChoice:
    """The options above, as given."""

    model: str
    weights: Path | None = None
    random_weights: int | None = None
    describe: Path | None = None
    mean: str | None = None
    scale: str | None = None
    colour: str | None = None

    def load(self) -> Detector:
        """Read the detector.

        Raises:
            ModelError, InputError: as the importers say.
        """
        from deploycc import importers, models

        colour = self.colour.upper() if self.colour else None
        if colour not in (None, "BGR", "RGB", "GRAY"):
            raise InputError("wrong-colour", f"--colour {self.colour} is none of BGR, RGB, GRAY")
        return importers.load(
            models.resolve(self.model),
            weights=self.weights,
            random_weights=self.random_weights,
            describe=self.describe,
            mean=_numbers("--mean", self.mean),
            scale=_numbers("--scale", self.scale),
            colour=colour,  # type: ignore[arg-type]
        )


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            "wrong-number", f"{option} {text} is not a list of numbers", hint=f"{option} 104,117,123"
        ) from None


def comma_list(text: str | None) -> tuple[str, ...]:
    """Split ``a,b`` and drop empty parts."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
