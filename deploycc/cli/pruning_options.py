"""The options that say what to prune, for every command that prunes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from deploycc.cli.options import option, switch
from deploycc.cli.shared_options import comma_list
from deploycc.errors import InputError
from deploycc.terminal import console

if TYPE_CHECKING:
    from deploycc.documents.utilisation import UtilisationProfile
    from deploycc.target import Target
    from deploycc.timing.timer import Timer
    from deploycc.workflows.prune import PruneSettings
    from deploycc.workflows.target_pruning import TargetPruning

_MULTIPLES = ("auto", "1", "8", "16", "32")
_LISTED_CRITERIA = ("utilisation", "l1")  # a mask is one network, not a strength
_BELOW = 0.05

_Profile = Annotated[Path | None, option("FILE", "Utilisation profile of this model (`deploycc profile`).")]
_Scope = Annotated[str, option("back-end|front-end|both", "Part that may lose kernels.")]
_Coefficient = Annotated[
    str, option("mean|least-squares|none", "Constant that replaces a gate; mean is its utilisation, none is 1.")
]
_RoundTo = Annotated[
    str, option("auto|1|8|16|32", "Multiple of kernels that each layer keeps; auto: the fastest counts on the target.")
]
_Costs = Annotated[Path | None, option("FILE", "File of convolution times; missing ones are measured and added.")]
_Budget = Annotated[
    str | None,
    option("MIN", "With --device: choose counts by profiles of networks that it builds in so many minutes, as in 30m."),
]
_KeepGates = Annotated[bool, switch("--keep-gates", "Keep the gates; they shrink with their kernels.")]
_AlwaysFrom = Annotated[
    float,
    option(
        "SHARE", "With --keep-gates: replace gates whose kernels are all on in this share of pictures.", min=0, max=1
    ),
]
_Latency = Annotated[
    str | None,
    option("MS", "Instead of --below: remove what is worth least per ms until the target takes this, as 25ms."),
]
_Speedup = Annotated[
    str | None, option("FACTOR", "As --latency, until the network is this many times as fast, as in 1.3x.")
]


@dataclass(frozen=True)
class PruningChoice:
    """What to prune."""

    profile: _Profile = None
    below: Annotated[
        float | None,
        option(
            "SHARE",
            "Remove kernels used in less than this share of the pictures "
            "(with --by l1: this share of each layer's kernels; with --by fisher: as many as do this share of the "
            f"MACs); default: {_BELOW:g}.",
            min=0,
            max=1,
        ),
    ] = None
    by: Annotated[
        str,
        option(
            "utilisation|l1|fisher|mask",
            "What makes a kernel useless: it is hardly used, its filter is small (l1), or the network's outputs hardly "
            "depend on it (fisher: needs pictures without labels, and the extra train).",
        ),
    ] = "utilisation"
    mask: Annotated[Path | None, option("FILE", 'Kernels to remove, as JSON {"layer": [0, 5]}; implies --by mask.')] = (
        None
    )
    scope: _Scope = "back-end"
    coefficient: _Coefficient = "mean"
    round_to: _RoundTo = "auto"
    costs: _Costs = None
    keep_gates: _KeepGates = False
    always_from: _AlwaysFrom = 0.95
    latency: _Latency = None
    speedup: _Speedup = None
    budget: _Budget = None
    rounds: Annotated[
        int, option("N", "Of --by fisher: rank kernels so often while the network shrinks; 0: every 7 %.", min=0)
    ] = 0
    blocks: Annotated[bool, switch("--blocks", "For such a goal, whole branches and layers may go too.")] = False

    def settings(self) -> PruneSettings:
        """The settings.

        Raises:
            InputError: ``prune-option``: an option has a value that it does not know, or two do not go together.
        """
        from deploycc.workflows.prune import PruneSettings

        if self.round_to not in _MULTIPLES:
            raise InputError("prune-option", f"--round-to {self.round_to} is none of {', '.join(_MULTIPLES)}")
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
            latency_ms=None if self.latency is None else read_number("--latency", self.latency, "ms", "25ms"),
            blocks=self.blocks,
            rounds=self.rounds,
            speedup=None if self.speedup is None else read_number("--speedup", self.speedup, "x", "1.3x"),
            budget_s=None if self.budget is None else 60 * read_number("--budget", self.budget, "m", "30m"),
        )

    def check(self, device: str | None) -> None:
        """Refuse options that do not go together, before anything is read; raises InputError."""
        from deploycc.workflows.target_pruning import check_settings

        check_settings(self.settings(), device)

    def for_targets(self, targets: Sequence[Target], timer: Timer) -> list[TargetPruning]:
        """How each target's network is pruned (`deploycc.workflows.target_pruning`), saying whose times decide."""
        from deploycc.workflows.target_pruning import target_prunings

        prunings = target_prunings(targets, self.settings(), timer, self.costs)
        sources = list(dict.fromkeys(pruning.source for pruning in prunings if pruning.source is not None))
        for source in sources:
            if not source.known:
                console.warn(source.describe())
            elif len(sources) > 1:
                console.note(source.describe())
        return prunings

    def read_inputs(self) -> tuple[UtilisationProfile | None, dict[str, tuple[int, ...]] | None]:
        """The profile and the mask; raises ArtefactError and InputError where one cannot be read."""
        from deploycc.documents.mask import read_mask
        from deploycc.documents.utilisation import read_profile

        profile = None if self.profile is None else read_profile(self.profile)
        return profile, None if self.mask is None else read_mask(self.mask)


@dataclass(frozen=True)
class PruningSweep:
    """Several criteria and strengths, for each of which the network is pruned."""

    profile: _Profile = None
    below: Annotated[str, option("LIST", "Thresholds as in `deploycc prune --below`, separated by commas.")] = (
        "0.05,0.1,0.2,0.3,0.4"
    )
    by: Annotated[str, option("LIST", "Criteria: utilisation, l1 or both, as in l1,utilisation.")] = "utilisation"
    scope: _Scope = PruningChoice.scope
    coefficient: _Coefficient = PruningChoice.coefficient
    round_to: _RoundTo = PruningChoice.round_to
    costs: _Costs = None
    keep_gates: _KeepGates = PruningChoice.keep_gates
    always_from: _AlwaysFrom = PruningChoice.always_from

    def choices(self) -> list[PruningChoice]:
        """What `deploycc prune` would be told for each criterion and strength, weakest first.

        Raises:
            InputError: ``prune-option``: a list that is not one.
        """
        return [
            PruningChoice(**(vars(self) | {"by": criterion, "below": strength}))
            for criterion in _criteria(self.by)
            for strength in _strengths(self.below)
        ]


def read_number(option: str, text: str, unit: str, example: str) -> float:
    """Read a number that may carry its unit; raises InputError."""
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
