"""Options that the training commands share."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from deploycc.cli.options import option, switch
from deploycc.cli.shared_options import comma_list
from deploycc.errors import InputError

if TYPE_CHECKING:
    from deploycc.distillation.gating_settings import GatingSettings
    from deploycc.distillation.loop import TrainingSettings
    from deploycc.lkam.config import GateConfig

OutputFile = Annotated[Path, option("FILE", "ONNX file to write.", "--output", "-o")]
_Gates = Annotated[
    str | None,
    option("kernel|block|nested", "Gates that switch single kernels, blocks of kernels, or blocks in a fixed order."),
]


@dataclass(frozen=True)
class TeachingOptions:
    """How a network learns from its teacher; each field is one of `deploycc.distillation.loop.TrainingSettings`."""

    steps: Annotated[int, option("N", "Number of training steps.", min=1)] = 4000
    minutes: Annotated[float | None, option("M", "End after this time, if the steps take longer.", min=0.01)] = None
    batch: Annotated[int, option("N", "Pictures per step.", min=1)] = 8
    rate: Annotated[float, option("RATE", "Peak learning rate, relative to each layer's weights.", "--lr", min=0)] = (
        0.003
    )
    check_every: Annotated[int, option("N", "Steps between two checks and checkpoints.", min=1)] = 250
    seed: Annotated[int, option("SEED", "Seed of order and augmentation.", min=0)] = 1
    balance: Annotated[
        float,
        option("POWER", "Draw classes that are seen r times as seldom r^POWER as often; 0: all alike.", min=0, max=1),
    ] = 0.0
    bfloat16: Annotated[
        bool,
        switch("--bfloat16/--float32", "Compute in 16 bits where the processor has units for it; weights keep 32."),
    ] = False
    memory_mib: Annotated[
        int, option("MIB", "Memory for the teacher's answers, which come again.", "--memory", min=0)
    ] = 2048
    label_weight: Annotated[
        float, option("W", "Weight of the labels of --data beside the teacher; 0: learn without labels.", min=0)
    ] = 1.0

    def settings(self) -> TrainingSettings:
        """The settings of the library."""
        from deploycc.distillation.loop import TrainingSettings

        return TrainingSettings(**vars(self))


@dataclass(frozen=True)
class GateOptions:
    """Which gates a network gets, and how strongly they are pressed to switch kernels off."""

    gates: _Gates = "kernel"
    gate_layers: Annotated[
        str | None,
        option(
            "LIST", "Convolutions to gate (wildcards: * [..]); default: of the back-end, those with kernels to spare."
        ),
    ] = None
    block: Annotated[int, option("N", "Kernels per block, with --gates block or nested.", min=1)] = 32
    shared: Annotated[
        str | None,
        option(
            "BLOCKS",
            "Use one gate for all layers, with this number of equal blocks, or with blocks that end at these "
            "percentages of the kernels, such as 40,60,80,100.",
        ),
    ] = None
    keep: Annotated[float | None, option("SHARE", "Share of the gated MACs to keep engaged.", min=0, max=1)] = 0.75
    gain: Annotated[float, option("GAIN", "Weight of the sparsity loss.", min=0)] = 0.3
    spread: Annotated[
        float, option("SHARE", "Target standard deviation, over pictures, of the engaged share of MACs.", min=0)
    ] = 0.025
    freeze: Annotated[
        float, option("SHARE", "Share of the training after which gates that learn are frozen.", min=0, max=0.99)
    ] = 0.6
    retire: Annotated[
        float,
        option("SHARE", "Then switch off for good what less than this share of the pictures engages.", min=0, max=1),
    ] = 0.0

    def settings(self) -> GatingSettings:
        """The settings of the library, without the layers.

        Raises:
            InputError: ``train-gates``, ``train-shared``.
        """
        from deploycc.distillation.gating_settings import GatingSettings
        from deploycc.trainable.gated import GateShape
        from deploycc.workflows.train import GRANULARITIES

        if self.gates not in GRANULARITIES:
            raise InputError(
                "train-gates", f"{self.gates} is not a kind of gate", hint="--gates kernel, block or nested"
            )
        shape = GateShape(self.gates, self.block, _blocks(self.shared))  # type: ignore[arg-type]
        return GatingSettings(
            (), shape, self.keep, self.gain, spread=self.spread, freeze=self.freeze, retire=self.retire
        )


@dataclass(frozen=True)
class GateOptionsFromScratch(GateOptions):
    """The same for a detector that is trained with its gates; none by default."""

    gates: _Gates = None
    gate_layers: Annotated[
        str | None, option("LIST", "Convolutions to gate; * and [..] are wildcards; default: those with most MACs.")
    ] = None
    keep: Annotated[
        float | None, option("SHARE", "Share of the gated MACs to keep engaged; default: no limit.", min=0, max=1)
    ] = None
    spread: Annotated[
        float, option("SHARE", "Target standard deviation, over pictures, of the engaged share of MACs.", min=0)
    ] = 0.05
    freeze: Annotated[float, option("SHARE", "Share of the training after which gates are frozen.", min=0, max=1)] = (
        0.75
    )
    place: Annotated[
        str, option("norm|conv", "Let gates multiply after BatchNorm, or directly after conv.", "--gate-place")
    ] = "norm"
    threshold: Annotated[
        float,
        option("T", "Gate threshold; a higher one switches more kernels off.", "--gate-threshold", min=0.01, max=0.99),
    ] = 0.5
    explore: Annotated[
        float,
        option("SHARE", "Share of the steps, at the start, that engage random numbers of nested blocks.", min=0, max=1),
    ] = 0.0

    def config(self, architecture: str) -> GateConfig | None:
        """The gates of a training run; None for a dense detector.

        Raises:
            InputError: ``train-gates``, ``train-shared``.
        """
        from deploycc.lkam.config import GateConfig
        from deploycc.trainable.sparsity import Ramp
        from deploycc.workflows.train import GATED_LAYERS

        if self.gates is None:
            for option in ("shared", "keep", "explore", "retire"):
                if getattr(self, option):
                    raise InputError(
                        "train-gates", f"`{option}` is for gates, and there are none", hint="`gates=nested`"
                    )
            return None
        same = ("place", "block", "gain", "spread", "explore", "freeze", "retire")
        return GateConfig(
            comma_list(self.gate_layers) or GATED_LAYERS.get(architecture, ()),
            self.gates,  # type: ignore[arg-type]
            shared=_blocks(self.shared),
            target=self.keep,
            threshold=Ramp(self.threshold, self.threshold),
            **{name: getattr(self, name) for name in same},
        )


def _blocks(shared: str | None) -> int | tuple[float, ...]:
    """Read ``4`` as a number of blocks, and ``40,60,80,100`` as the shares where they end."""
    if shared is None:
        return 0
    try:
        numbers = [float(part) for part in comma_list(shared)]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and numbers[0].is_integer() and numbers[0] >= 2:
        return int(numbers[0])
    if len(numbers) > 1 and all(low < high for low, high in pairwise((0, *numbers))) and numbers[-1] == 100:
        return tuple(number / 100 for number in numbers)
    raise InputError(
        "train-shared",
        f"--shared {shared} is neither a number of blocks from 2 on nor rising percentages up to 100",
        hint="--shared 4 or --shared 40,60,80,100",
    )
