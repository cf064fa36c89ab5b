"""Kernels ranked again and again while the network shrinks: worths hold for a few kernels, not for a whole cut.

Fisher information says what the outputs lose without one kernel. The sum over many kernels of a layer says too little:
those that are left can replace one of them, and not all. So a cut is made in parts: a few kernels go, the weights that
are left are refitted, and what is left is ranked anew. Only the ranking comes from these rounds; the cut itself is then
made once, from the trained weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deploycc.errors import BudgetMissed, InputError
from deploycc.passes import DROP_DEAD, FOLD, run
from deploycc.progress import Say, prefixed, quiet
from deploycc.workflows.costs import host_costs
from deploycc.workflows.cut import make_cut
from deploycc.workflows.fisher import PICTURES, FisherImportance, fisher_importance
from deploycc.workflows.latency_clock import latency_clock
from deploycc.workflows.pictures_with_objects import pictures_with_objects
from deploycc.workflows.prune_decision import decide_pruning
from deploycc.workflows.prune_goal import check_goal
from deploycc.workflows.prune_settings import cpu_options

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.detector.picture_list import PictureList
    from deploycc.documents.utilisation import UtilisationProfile
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.timing.convolutions import Costs
    from deploycc.workflows.prune_decision import PruneDecision
    from deploycc.workflows.prune_settings import PruneSettings

Worths = Mapping[str, NDArray[np.float64]]
Numbers = Mapping[str, NDArray[np.int64]]

_SHARE = 0.07
"""Of the MACs that are left: most that go in one round, unless the number of rounds is given."""
_SHARE_IN_BUDGET = 0.2  # a latency in milliseconds says nothing of MACs before times are known
_GONE = 0.01  # of what a kernel was worth when it went: it goes again before those that are left
_LOOK, _REFIT = 200, 160  # pictures of a round before the last: a few kernels go, and errors are seen by the next


def importance_for(
    detector: Detector,
    pictures: str | Path | PictureList,
    settings: PruneSettings,
    *,
    profile: UtilisationProfile | None = None,
    costs: Costs | PredictedCosts | None = None,
    threads: int = 0,
    seed: int = 1,
    say: Say = quiet,
) -> FisherImportance:
    """Rank the kernels of a network for a cut, in rounds.

    Between two of them, kernels go as for the goal itself, by its costs.

    Args:
        detector: with SSD heads that are known; it stays as it is.
        pictures: see `deploycc.workflows.fisher.fisher_importance`.
        settings: of the cut.
        profile: of the network, where gates become constants.
        costs: see `deploycc.workflows.prune.prune`.
        threads: see `deploycc.workflows.train.use_threads`.
        seed: of the choice of pictures and of the random directions; every round has others.
        say: progress.

    Returns:
        What the outputs lose without each kernel where those before it are gone; kernels that went in a round are worth
        a hundredth of what they were worth then, and less with every later round.

    Raises:
        InputError: ``prune-option``: rounds do not fit the other settings.
        DeployError, ModelError, PictureError: as `deploycc.workflows.fisher.fisher_importance`.
        MeasureError: ONNX Runtime refuses a network that is timed.
    """
    from deploycc.pruning.reconstruct import HELD_OUT

    costs = costs or host_costs()
    goal = _goal_of_rounds(detector, settings, costs, say)
    rounds = number_of_rounds(goal)
    fit_on = pictures_with_objects(pictures, detector, say)

    def rank(network: Detector, number: int) -> FisherImportance:
        """Rank the kernels that are left in a round; the last one counts most."""
        return fisher_importance(
            network,
            fit_on,
            count=PICTURES if number == rounds else _LOOK,
            threads=threads,
            seed=seed + number - 1,
            blocks=settings.blocks,
            say=_told(say, number, rounds),
        )

    def decide(network: Detector, cut: PruneSettings, number: int) -> PruneDecision | None:
        """Return None where the goal cannot be met: the cut itself then says so."""
        known: dict[str, Any] = {"profile": profile, "mask": None, "importance": importance, "costs": costs}
        try:
            return decide_pruning(network, cut, **known, say=_told(say, number, rounds))
        except BudgetMissed:
            return None

    importance = rank(detector, 1)
    values: Worths = importance.values
    current, left = detector, dict[str, NDArray[np.int64]]()
    if rounds > 1 and decide(detector, goal, 1) is None:
        return importance
    for number in range(1, rounds):
        decision = decide(current, _part(goal, rounds), number)
        if decision is None:
            return replace(importance, values=values, rankings=number)
        say_here, refit_on = _told(say, number, rounds), fit_on.some(_REFIT, seed + number)
        cut = make_cut(decision, refit_on if len(refit_on.names) >= HELD_OUT else None, say_here)
        left = _left(values, left, cut.report.removed)
        current, profile = cut.detector, None  # its gates are constants, or need none
        importance = rank(current, number + 1)
        values = _ranked_again(values, importance.values, left)
    return replace(importance, values=values, rankings=rounds)


def number_of_rounds(settings: PruneSettings) -> int:
    """Return how often the kernels are ranked for a cut.

    Raises:
        InputError: ``prune-option``: the goal cannot be meant; or more than once, and whole blocks may go, whose worth
            is known at the start only.
    """
    if settings.has_goal:
        check_goal(settings)
    if settings.blocks:
        if settings.rounds > 1:
            message = "where whole blocks may go, kernels are ranked once: worths of both must be of the same network"
            raise InputError("prune-option", message, hint="leave out `blocks` or `rounds`")
        return 1
    share = settings.below if settings.speedup is None else 1 - 1 / settings.speedup
    if settings.rounds or not 0 < share < 1:  # a share that nothing can meet is refused with the cut
        return settings.rounds or 1
    return math.ceil(math.log(1 - share) / math.log(1 - _SHARE))


def _goal_of_rounds(
    detector: Detector, settings: PruneSettings, costs: Costs | PredictedCosts, say: Say
) -> PruneSettings:
    """Return what the rounds go towards: a share of the MACs, or a speed-up."""
    if not settings.has_goal or settings.blocks:
        return settings
    check_goal(settings)
    if settings.budget_s is not None:  # builds networks on a device, which each round would need anew
        share = _SHARE_IN_BUDGET if settings.speedup is None else 1 - 1 / settings.speedup
        return replace(settings, below=share, speedup=None, latency_ms=None, budget_s=None)
    if settings.latency_ms is None:
        return settings
    original = run(detector, cpu_options(), FOLD + DROP_DEAD).detector
    speedup = latency_clock(original, costs, say).before_ms / settings.latency_ms
    if speedup <= 1:
        return replace(settings, rounds=1)
    return replace(settings, latency_ms=None, speedup=speedup)


def _part(goal: PruneSettings, rounds: int) -> PruneSettings:
    """Return the settings of one of several cuts that meet the goal together and keep equal shares."""
    if goal.speedup is not None:
        return replace(goal, speedup=goal.speedup ** (1 / rounds))
    return replace(goal, below=1 - (1 - goal.below) ** (1 / rounds), multiple=1)


def _told(say: Say, number: int, rounds: int) -> Say:
    return say if rounds == 1 else prefixed(say, f"round {number} of {rounds}")


def _left(values: Worths, left: Numbers, removed: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.int64]]:
    """Return the kernels that are left of each layer, numbered as before all rounds."""
    before = {name: left.get(name, np.arange(len(worths))) for name, worths in values.items()}
    return {name: np.delete(numbers, list(removed.get(name, ()))) for name, numbers in before.items()}


def _ranked_again(values: Worths, found: Worths, left: Numbers) -> Worths:
    """Return what kernels are worth, numbered as before all rounds: as found anew, less where they went just now."""
    ranked = {}
    for name, worths in values.items():
        ranked[name] = worths
        if name in found:
            ranked[name] = _GONE * worths
            ranked[name][left[name]] = found[name]
    return ranked
