"""The options that say what to prune, for every command that prunes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploycc.cli.model_options import comma_list
from deploycc.errors import InputError
from deploycc.terminal import console

if TYPE_CHECKING:
    from deploycc.documents.utilisation import UtilisationProfile
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.target import Target
    from deploycc.timing.convolutions import Costs
    from deploycc.workflows.prune import PruneSettings

_CHOICES = {
    "--by": ("utilisation", "l1", "mask"),
    "--scope": ("back-end", "front-end", "both"),
    "--coefficient": ("mean", "least-squares", "none"),
    "--round-to": ("auto", "1", "8", "16", "32"),
}
_LISTED_CRITERIA = ("utilisation", "l1")  # a mask is one network, not a strength
_BELOW = 0.05


@dataclass(frozen=True, eq=False)
class TargetPruning:
    """How the network of some targets is pruned.

    Attributes:
        targets: those.
        settings: what goes.
        costs: that decide how many kernels stay, or how many go.
    """

    targets: tuple[Target, ...]
    settings: PruneSettings
    costs: Costs | PredictedCosts


@dataclass(frozen=True)
class PruningChoice:
    """What to prune, as given on the command line."""

    profile: Path | None = None
    below: float | None = None
    by: str = "utilisation"
    mask: Path | None = None
    scope: str = "back-end"
    coefficient: str = "mean"
    round_to: str = "auto"
    costs: Path | None = None
    keep_gates: bool = False
    always_from: float = 0.95
    latency: str | None = None
    speedup: str | None = None

    @property
    def wanted(self) -> bool:
        """Return whether any option of pruning was given."""
        return self != PruningChoice()

    def settings(self) -> PruneSettings:
        """The settings.

        Raises:
            InputError: ``prune-option``: an option has a value that it does not know, or two do not go together.
        """
        from deploycc.workflows.prune import PruneSettings

        values = {
            "--by": self.by,
            "--scope": self.scope,
            "--coefficient": self.coefficient,
            "--round-to": self.round_to,
        }
        for option, value in values.items():
            if value not in _CHOICES[option]:
                raise InputError("prune-option", f"{option} {value} is none of {', '.join(_CHOICES[option])}")
        goal = {"--latency": self.latency, "--speedup": self.speedup, "--below": self.below}
        both = [option for option, value in goal.items() if value is not None]
        if len(both) > 1:
            raise InputError("prune-option", f"give one of {' and '.join(both)}: each says how much goes")
        return PruneSettings(
            by="mask" if self.mask is not None else self.by,  # type: ignore[arg-type]
            below=_BELOW if self.below is None else self.below,
            scope=self.scope,  # type: ignore[arg-type]
            coefficient=self.coefficient,  # type: ignore[arg-type]
            multiple=None if self.round_to == "auto" else int(self.round_to),
            keep_gates=self.keep_gates,
            always_from=self.always_from,
            latency_ms=None if self.latency is None else _number("--latency", self.latency, "ms", "25ms"),
            speedup=None if self.speedup is None else _number("--speedup", self.speedup, "x", "1.3x"),
        )

    def for_targets(self, targets: Sequence[Target], threads: int) -> list[TargetPruning]:
        """How each target's network is pruned; targets whose costs are the same are pruned alike.

        Where a target is neither measured here nor predicted, numbers of kernels are rounded to the tile of TensorRT's
        convolutions.

        Raises:
            InputError: ``prune-option``: options do not fit one another or the targets.
            ArtefactError: the cost table is another machine's.
            TargetError: ``prediction-none``, ``prediction-facts``: a goal of latency for a target without costs.
        """
        from deploycc.prediction.costs import PredictedCosts
        from deploycc.workflows.costs import TILE, cost_sources
        from deploycc.workflows.prune_goal import check_goal

        settings = self.settings()
        if settings.has_goal:
            check_goal(settings)
        elif settings.multiple is not None:  # no time decides anything
            return [TargetPruning(tuple(targets), settings, self.read_costs(threads))]
        sources = cost_sources(targets)
        if self.costs is not None and not any(source.measured for source in sources):
            raise InputError("prune-option", "--costs holds times of this machine, which is not the target")
        prunings = []
        for source in sources:
            if source.measured:
                prunings.append(TargetPruning(source.targets, settings, self.read_costs(threads)))
            elif source.predicted is not None and not settings.has_goal:
                prunings.append(TargetPruning(source.targets, settings, source.predicted))
            elif settings.has_goal:  # its own passes decide too
                prunings += [TargetPruning((each,), settings, PredictedCosts(each)) for each in source.targets]
            else:
                rounded = replace(settings, multiple=TILE)
                prunings.append(TargetPruning(source.targets, rounded, self.read_costs(threads)))
                console.warn(source.describe())
                continue
            if len(sources) > 1:
                console.note(source.describe())
        return prunings

    def read_profile(self) -> UtilisationProfile | None:
        """The profile; raises ArtefactError where it cannot be read."""
        from deploycc.documents.utilisation import read_profile

        return None if self.profile is None else read_profile(self.profile)

    def read_mask(self) -> dict[str, tuple[int, ...]] | None:
        """The mask; raises InputError where it cannot be read."""
        from deploycc.documents.mask import read_mask

        return None if self.mask is None else read_mask(self.mask)

    def read_costs(self, threads: int) -> Costs:
        """Costs of this machine, with what the cost table knows already; raises ArtefactError for another machine's."""
        from deploycc.documents.costs import CostTable
        from deploycc.documents.document import read_document
        from deploycc.timing.convolutions import Costs
        from deploycc.timing.machine import this_machine

        table = None
        if self.costs is not None and self.costs.exists():
            table = read_document(self.costs, CostTable)
        return Costs(this_machine(threads), table)

    def write_costs(self, costs: Costs | PredictedCosts) -> None:
        """Keep what was measured, where a cost table is asked for."""
        if self.costs is None or costs.evidence == "predicted":
            return
        table = costs.table()
        if table.timings:
            table.write(self.costs)


_Profile = Annotated[
    Path | None,
    typer.Option("--profile", metavar="FILE", help="Utilisation profile of this model (`deploycc profile`)."),
]
_Scope = Annotated[str, typer.Option("--scope", metavar="back-end|front-end|both", help="Part that may lose kernels.")]
_Coefficient = Annotated[
    str,
    typer.Option(
        "--coefficient",
        metavar="mean|least-squares|none",
        help="Constant that replaces a gate; mean is its utilisation, none is 1.",
    ),
]
_RoundTo = Annotated[
    str,
    typer.Option(
        "--round-to",
        metavar="auto|1|8|16|32",
        help="Multiple of kernels that each layer keeps; auto: the fastest counts on the target.",
    ),
]
_Costs = Annotated[
    Path | None,
    typer.Option("--costs", metavar="FILE", help="File of convolution times; missing ones are measured and added."),
]
_KeepGates = Annotated[bool, typer.Option("--keep-gates", help="Keep the gates; they shrink with their kernels.")]
_AlwaysFrom = Annotated[
    float,
    typer.Option(
        "--always-from",
        metavar="SHARE",
        min=0,
        max=1,
        help="With --keep-gates: replace a gate whose kernels are all on in at least this share of the pictures.",
    ),
]
_Latency = Annotated[
    str | None,
    typer.Option(
        "--latency",
        metavar="MS",
        help="Instead of --below: remove what is worth least per millisecond until the network takes no longer than "
        "this on the target, as in 25ms.",
    ),
]
_Speedup = Annotated[
    str | None,
    typer.Option(
        "--speedup", metavar="FACTOR", help="As --latency, until the network is this many times as fast, as in 1.3x."
    ),
]


def pruning_choice(
    profile: _Profile = None,
    below: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=1,
            help="Remove kernels used in less than this share of the pictures "
            f"(with --by l1: this share of each layer's kernels); default: {_BELOW:g}.",
        ),
    ] = None,
    by: Annotated[
        str, typer.Option(metavar="utilisation|l1|mask", help="What makes a kernel useless (l1: a small filter).")
    ] = PruningChoice.by,
    mask: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Kernels to remove, as JSON {"layer": [0, 5]}; implies --by mask.'),
    ] = None,
    scope: _Scope = PruningChoice.scope,
    coefficient: _Coefficient = PruningChoice.coefficient,
    round_to: _RoundTo = PruningChoice.round_to,
    costs: _Costs = None,
    keep_gates: _KeepGates = PruningChoice.keep_gates,
    always_from: _AlwaysFrom = PruningChoice.always_from,
    latency: _Latency = None,
    speedup: _Speedup = None,
) -> PruningChoice:
    """What the pruning options say."""
    return PruningChoice(
        profile, below, by, mask, scope, coefficient, round_to, costs, keep_gates, always_from, latency, speedup
    )


def pruning_choices(
    profile: _Profile = None,
    below: Annotated[
        str, typer.Option(metavar="LIST", help="Thresholds as in `deploycc prune --below`, separated by commas.")
    ] = "0.05,0.1,0.2,0.3,0.4",
    by: Annotated[
        str, typer.Option(metavar="LIST", help="Criteria: utilisation, l1 or both, as in l1,utilisation.")
    ] = PruningChoice.by,
    scope: _Scope = PruningChoice.scope,
    coefficient: _Coefficient = PruningChoice.coefficient,
    round_to: _RoundTo = PruningChoice.round_to,
    costs: _Costs = None,
    keep_gates: _KeepGates = PruningChoice.keep_gates,
    always_from: _AlwaysFrom = PruningChoice.always_from,
) -> list[PruningChoice]:
    """What `deploycc prune` would be told for each criterion and strength, weakest first.

    Raises:
        InputError: ``prune-option``: a list that is not one.
    """
    common = PruningChoice(
        profile,
        scope=scope,
        coefficient=coefficient,
        round_to=round_to,
        costs=costs,
        keep_gates=keep_gates,
        always_from=always_from,
    )
    return [replace(common, by=each, below=strength) for each in _criteria(by) for strength in _strengths(below)]


def _number(option: str, text: str, unit: str, example: str) -> float:
    """Read a number that may carry its unit."""
    try:
        return float(text.strip().removesuffix(unit))
    except ValueError:
        raise InputError("prune-option", f"{option} {text} is not a number", hint=f"{option} {example}") from None


def _criteria(by: str) -> tuple[str, ...]:
    listed = comma_list(by)
    if not listed or any(each not in _LISTED_CRITERIA for each in listed):
        raise InputError(
            "prune-option", f"--by {by} is not a list of {', '.join(_LISTED_CRITERIA)}", hint="--by utilisation,l1"
        )
    return tuple(dict.fromkeys(listed))


def _strengths(below: str) -> tuple[float, ...]:
    try:
        listed = tuple(float(each) for each in comma_list(below))
    except ValueError:
        listed = ()
    if not listed or not all(0 < each <= 1 for each in listed):
        raise InputError(
            "prune-option", f"--below {below} is not a list of numbers above 0 and up to 1", hint="--below 0.05,0.1,0.2"
        )
    return listed
