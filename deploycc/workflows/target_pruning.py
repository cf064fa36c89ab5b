"""How a network is pruned for several targets: targets whose costs are the same are pruned alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploycc.errors import BudgetMissed, InputError
from deploycc.progress import Say, quiet
from deploycc.workflows.compile_outputs import Refused
from deploycc.workflows.cost_files import read_costs, write_costs
from deploycc.workflows.costs import TILE, CostSource, cost_sources
from deploycc.workflows.devices import is_remote
from deploycc.workflows.fisher_rounds import importance_for
from deploycc.workflows.pictures_with_objects import pictures_with_objects
from deploycc.workflows.prune import Pruned, PruneSettings, prune

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.detector.picture_list import PictureList
    from deploycc.documents.utilisation import UtilisationProfile
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.target import Target
    from deploycc.timing.convolutions import Costs
    from deploycc.timing.timer import Timer


@dataclass(frozen=True, eq=False)
class TargetPruning:
    """How the network of some targets is pruned.

    Attributes:
        targets: those.
        settings: what goes.
        costs: that decide how many kernels stay, or how many go.
        source: where the costs come from; None where no time decides anything, or a device measures them.
    """

    targets: tuple[Target, ...]
    settings: PruneSettings
    costs: Costs | PredictedCosts
    source: CostSource | None = None


def check_settings(settings: PruneSettings, device: str | None) -> None:
    """Refuse a goal that cannot be met, and a device that would have nothing to measure.

    Raises:
        InputError: ``prune-option``.
    """
    from deploycc.workflows.prune_goal import check_goal

    if settings.has_goal:
        check_goal(settings)
    elif settings.blocks:
        message = "blocks go where a goal of latency says how much goes"
        raise InputError("prune-option", message, hint="give `latency` or `speedup` too, or leave out `blocks`")
    check_budget(settings, is_remote(device))
    if is_remote(device) and settings.multiple is not None and not settings.has_goal:
        raise InputError(
            "prune-option",
            f"a device measures times, and with multiples of {settings.multiple} no time decides anything",
            hint="leave out `device`, or `round_to`; a goal of latency needs times too",
        )


def check_budget(settings: PruneSettings, on_device: bool) -> None:
    """Refuse a budget where no network is built for it.

    Raises:
        InputError: ``prune-option``.
    """
    if settings.budget_s is None:
        return
    if not on_device:
        message = "a budget is for networks that a device builds, and no device is given"
        raise InputError("prune-option", message, hint="`device=NAME`, or leave out `budget`")
    if not settings.has_goal and (settings.by == "fisher" or settings.multiple is not None):
        message = "with `by=fisher` or `round_to`, and no goal of latency, no time decides how many kernels stay"
        raise InputError("prune-option", message, hint="leave out `budget`")


def target_prunings(
    targets: Sequence[Target], settings: PruneSettings, timer: Timer, cost_file: Path | None = None
) -> list[TargetPruning]:
    """Return how each target's network is pruned.

    Where a target is neither measured nor predicted, numbers of kernels are rounded to the tile of TensorRT's
    convolutions.

    Args:
        targets: each is in one of the results.
        settings: for all of them.
        timer: of this machine, or of the device that the one target is.
        cost_file: times of convolutions that are known already (`deploycc.workflows.cost_files`).

    Raises:
        InputError: ``prune-option``: the settings do not fit one another or the targets.
        ArtefactError: the cost table is another machine's.
        TargetError: ``prediction-none``, ``prediction-facts``: a goal of latency for a target without costs.
    """
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.workflows.prune_goal import check_goal

    check_budget(settings, timer.machine.device is not None)
    if settings.has_goal:
        check_goal(settings)
    elif settings.multiple is not None or settings.by == "fisher":  # no time decides anything
        return [TargetPruning(tuple(targets), settings, read_costs(cost_file, timer))]
    if timer.machine.device is not None:
        return [TargetPruning(tuple(targets), settings, read_costs(cost_file, timer))]
    sources = cost_sources(targets)
    if cost_file is not None and not any(source.measured for source in sources):
        raise InputError("prune-option", "`costs` holds times of this machine, which is not the target")
    prunings = []
    for source in sources:
        if source.measured:
            costs = read_costs(cost_file, timer)
            prunings.append(TargetPruning(source.targets, settings, costs, source))
        elif source.predicted is not None and not settings.has_goal:
            prunings.append(TargetPruning(source.targets, settings, source.predicted, source))
        elif settings.has_goal:  # its own passes decide too
            prunings += [TargetPruning((each,), settings, PredictedCosts(each), source) for each in source.targets]
        else:
            rounded = replace(settings, multiple=TILE)
            prunings.append(TargetPruning(source.targets, rounded, read_costs(cost_file, timer), source))
    return prunings


def latency_costs(pruning: TargetPruning) -> tuple[Costs | PredictedCosts, bool]:
    """Return what tells how long the networks of a target take, and whether anything does."""
    if pruning.costs.evidence == "measured" and pruning.costs.machine.device is not None:
        return pruning.costs, True
    (source,) = cost_sources(pruning.targets)
    return source.predicted or pruning.costs, source.known


def prune_for_targets(
    detector: Detector,
    prunings: Sequence[TargetPruning],
    *,
    profile: UtilisationProfile | None = None,
    mask: Mapping[str, tuple[int, ...]] | None = None,
    rank_on: str | Path | PictureList | None = None,
    pictures: str | Path | PictureList | None = None,
    cost_file: Path | None = None,
    say: Say = quiet,
) -> dict[str, Pruned | Refused]:
    """Prune a detector for each target.

    A target whose goal cannot be met does not keep the others from being pruned.

    Args:
        detector: as imported.
        prunings: as `target_prunings` returns them.
        profile: as `deploycc.workflows.prune.prune` takes it.
        mask: likewise.
        rank_on: pictures to rank kernels on, by ``fisher``: for each goal anew, since the ranking follows its costs.
        pictures: as `deploycc.workflows.prune.prune` takes them.
        cost_file: keeps what was measured.
        say: progress.

    Returns:
        Name of a target to what it gets, or to why nothing meets its goal; of a goal for all of them, the error is
        raised.

    Raises:
        InputError, ArtefactError, ModelError, PictureError, MeasureError: as `deploycc.workflows.prune.prune`.
        BudgetMissed: likewise, where all targets are pruned alike.
    """
    pruned: dict[str, Pruned | Refused] = {}
    same = rank_on == pictures
    if rank_on is not None:
        rank_on = pictures_with_objects(rank_on, detector, say)
    if pictures is not None:
        pictures = rank_on if same else pictures_with_objects(pictures, detector, say)
    for how in prunings:
        known: dict[str, Any] = {"profile": profile, "costs": how.costs, "say": say}
        try:
            importance = None if rank_on is None else importance_for(detector, rank_on, how.settings, **known)
            made = prune(
                detector,
                how.settings,
                mask=mask,
                importance=importance,
                pictures=pictures,
                **known,
            )
        except BudgetMissed as error:
            if len(prunings) == 1:
                raise
            pruned.update((target.name, Refused(target.name, error)) for target in how.targets)
            continue
        finally:
            write_costs(cost_file, how.costs)
        pruned.update((target.name, made) for target in how.targets)
    return pruned
