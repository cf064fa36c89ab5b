"""How to prune, and the passes that precede it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from deploycc.documents.pruning import Coefficient, Criterion, Scope
from deploycc.errors import InputError

if TYPE_CHECKING:
    from deploycc.passes.options import Options

_CHOICES: dict[str, tuple[str, ...]] = {
    "by": get_args(Criterion),
    "scope": get_args(Scope),
    "coefficient": get_args(Coefficient),
}
_PASSES_OF = "x86-cpu"  # what precedes pruning is the same for every target


@dataclass(frozen=True)
class PruneSettings:
    """How to prune.

    Attributes:
        by: what makes a kernel useless: ``utilisation`` (needs a profile), ``l1`` (the smallest filters), ``fisher``
            (the network's own outputs depend on it least; needs pictures), or ``mask`` (listed one by one).
        below: remove kernels used in less than this share of the pictures; by ``l1``, this share of each layer's; by
            ``fisher``, as many as do this share of the scope's MACs, wherever the outputs depend on them least.
        scope: part of the network that may lose kernels.
        layers: names of the layers that may, within the scope; none: all of them.
        coefficient: what replaces a gate: its ``mean`` utilisation, the ``least-squares`` constant, or ``none`` (1).
        multiple: of kernels that each layer keeps; None for what is measured to be fastest.
        keep_gates: leave gates in, except those that hardly ever switch anything off.
        always_from: utilisation from which a kernel counts as always on.
        latency_ms, speedup: a goal instead of ``below``, one of them: the latency on the target, or how many times as
            fast the network becomes. The kernels worth least per millisecond go, until the goal is met.
        budget_s: with a device: choose numbers of kernels by profiles of a few whole networks that are built there in
            this time; None: convolutions are timed one by one, however long it takes.
        rounds: by ``fisher``: how often the kernels are ranked while the network shrinks; 0: so often that at most 7 %
            of the MACs go at a time (`deploycc.workflows.fisher_rounds`), and once where whole blocks may go.
        blocks: for such a goal, whole branches and layers may go too, where that loses less.
    """

    by: Criterion = "utilisation"
    below: float = 0.05
    scope: Scope = "back-end"
    layers: tuple[str, ...] = ()
    coefficient: Coefficient = "mean"
    multiple: int | None = None
    keep_gates: bool = False
    always_from: float = 0.95
    latency_ms: float | None = None
    speedup: float | None = None
    budget_s: float | None = None
    rounds: int = 0
    blocks: bool = False

    def __post_init__(self) -> None:
        """Refuse values that nothing knows.

        Raises:
            InputError: ``prune-option``.
        """
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError("prune-option", f"`{name}={getattr(self, name)}` is none of {', '.join(choices)}")

    @property
    def has_goal(self) -> bool:
        """Return whether a goal of latency decides what goes."""
        return self.latency_ms is not None or self.speedup is not None


def cpu_options() -> Options:
    """What the passes are told where only this machine's CPU runs the network: FP32, raw heads."""
    from deploycc import target as targets
    from deploycc.passes.for_target import options_for

    return options_for(targets.load(_PASSES_OF), detection="raw")
