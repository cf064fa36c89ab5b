"""The options that say which detector to read, for every command that reads one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from deploycc.cli.options import argument, option
from deploycc.errors import InputError
from deploycc.terminal import complete, console

if TYPE_CHECKING:
    from deploycc.detector import Detector, InputSpec
    from deploycc.progress import Say


@dataclass(frozen=True)
class ModelChoice:
    """Which detector to read, and what its file does not say."""

    model: Annotated[
        str,
        argument(
            "MODEL",
            "Trained detector: .prototxt, .caffemodel, .onnx, compiled folder, or the name of a shipped detector.",
            autocompletion=complete.model,
        ),
    ]
    weights: Annotated[Path | None, option("FILE", "Caffe weights; default: MODEL with the suffix .caffemodel.")] = None
    random_weights: Annotated[int | None, option("SEED", "Seed of random weights for a .prototxt without weights.")] = (
        None
    )
    describe: Annotated[
        Path | None, option("TOML", "Detector description; default: MODEL.detector.toml where it exists.")
    ] = None
    mean: Annotated[
        str | None, option("A,B,C", "Mean to subtract from the pixels, per channel in the order of --colour.")
    ] = None
    scale: Annotated[str | None, option("S|A,B,C", "Factor after the mean is subtracted: one, or one per channel.")] = (
        None
    )
    colour: Annotated[str | None, option("BGR|RGB|GRAY", "Channel order that the network expects.")] = None

    def load(self, say: Say, *, design: bool = False) -> Detector:
        """Read the detector.

        Args:
            say: told that it is read.
            design: a Caffe definition without weights is enough; it gets random ones.

        Raises:
            ModelError, InputError: as `deploycc.workflows.load.load`; ``wrong-number``.
        """
        from deploycc.workflows.load import is_untrained, load

        say(f"reading {self.model}")
        seed = self.random_weights
        if design and self.weights is None and seed is None and is_untrained(self.model):
            seed = 0
        return load(
            self.model,
            weights=self.weights,
            random_weights=seed,
            describe=self.describe,
            mean=_numbers("--mean", self.mean),
            scale=_numbers("--scale", self.scale),
            colour=self.colour or None,
        )


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            "wrong-number", f"{option} {text} is not a list of numbers", hint=f"{option} 104,117,123"
        ) from None


def warn_if_assumed(spec: InputSpec, what: str) -> None:
    """Say that no file states the preparation, and that ``what`` depends on it."""
    from deploycc.report.format import assumed_preparation

    if spec.assumed:
        console.warn(assumed_preparation(spec.colour, spec.mean, spec.scale, what))
