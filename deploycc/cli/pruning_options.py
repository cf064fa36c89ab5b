"""The options that say what to prune, for every command that prunes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from deploycc.errors import InputError

if TYPE_CHECKING:
    from deploycc.documents.utilisation import UtilisationProfile
    from deploycc.timing.convolutions import Costs
    from deploycc.workflows.prune import PruneSettings

_CHOICES = {
    "--by": ("utilisation", "l1", "mask"),
    "--scope": ("back-end", "front-end", "both"),
    "--coefficient": ("mean", "least-squares", "none"),
    "--round-to": ("auto", "1", "8", "16", "32"),
}


_BELOW = 0.05


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

    @property
    def wanted(self) -> bool:
        """Return whether any option of pruning was given."""
        return self != PruningChoice()

    def settings(self) -> PruneSettings:
        """The settings.

        Raises:
            InputError: ``prune-option``: an option has a value that it does not know.
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
        return PruneSettings(
            by="mask" if self.mask is not None else self.by,  # type: ignore[arg-type]
            below=_BELOW if self.below is None else self.below,
            scope=self.scope,  # type: ignore[arg-type]
            coefficient=self.coefficient,  # type: ignore[arg-type]
            multiple=None if self.round_to == "auto" else int(self.round_to),
            keep_gates=self.keep_gates,
            always_from=self.always_from,
        )

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

    def write_costs(self, costs: Costs) -> None:
        """Keep what was measured, where a cost table is asked for."""
        table = costs.table()
        if self.costs is not None and table.timings:
            table.write(self.costs)


def pruning_choice(
    profile: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads the annotation at run time on Python 3.10
        typer.Option("--profile", metavar="FILE", help="Utilisation profile of this model (`deploycc profile`)."),
    ] = None,
    below: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            "--below",
            metavar="SHARE",
            min=0,
            max=1,
            help="Remove kernels used in less than this share of the pictures "
            f"(with --by l1: this share of each layer's kernels); default: {_BELOW:g}.",
        ),
    ] = None,
    by: Annotated[
        str,
        typer.Option("--by", metavar="utilisation|l1|mask", help="What makes a kernel useless (l1: a small filter)."),
    ] = "utilisation",
    mask: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--mask", metavar="FILE", help='Kernels to remove, as JSON {"layer": [0, 5]}; implies --by mask.'),
    ] = None,
    scope: Annotated[
        str, typer.Option("--scope", metavar="back-end|front-end|both", help="Part that may lose kernels.")
    ] = "back-end",
    coefficient: Annotated[
        str,
        typer.Option(
            "--coefficient",
            metavar="mean|least-squares|none",
            help="Constant that replaces a gate; mean is its utilisation, none is 1.",
        ),
    ] = "mean",
    round_to: Annotated[
        str,
        typer.Option(
            "--round-to",
            metavar="auto|1|8|16|32",
            help="Multiple of kernels that each layer keeps; auto: the fastest counts on this machine.",
        ),
    ] = "auto",
    costs: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--costs", metavar="FILE", help="File of convolution times; missing ones are measured and added."),
    ] = None,
    keep_gates: Annotated[
        bool, typer.Option("--keep-gates", help="Keep the gates; they shrink with their kernels.")
    ] = False,
    always_from: Annotated[
        float,
        typer.Option(
            "--always-from",
            metavar="SHARE",
            min=0,
            max=1,
            help="With --keep-gates: replace a gate whose kernels are all on in at least this share of the pictures.",
        ),
    ] = 0.95,
) -> PruningChoice:
    """What the pruning options say."""
    return PruningChoice(profile, below, by, mask, scope, coefficient, round_to, costs, keep_gates, always_from)
