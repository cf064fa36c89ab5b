"""Pruning to a share of the multiply-accumulates: the kernels go on which the outputs depend least per MAC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploycc.errors import BudgetMissed, InputError

if TYPE_CHECKING:
    from deploycc.pruning.decide import Choice
    from deploycc.pruning.kept_counts import Rounded
    from deploycc.workflows.prune_goal import GoalInputs
    from deploycc.workflows.prune_settings import PruneSettings

_MULTIPLE = 8  # of kernels where none is asked for: vectors and tensor cores are whole
_WHY = "those on which the network's outputs depend least per multiply-accumulate"


def choose_for_macs(inputs: GoalInputs, settings: PruneSettings) -> tuple[Choice, frozenset[int], tuple[Rounded, ...]]:
    """Choose the kernels whose removal takes ``settings.below`` of the MACs of the layers and changes outputs least.

    Returns:
        The chosen kernels with their groups, and how many each bundle of layers keeps.

    Raises:
        InputError: ``prune-option``: the share is not between 0 and 1.
        BudgetMissed: ``macs-goal``: so many MACs cannot be removed.
    """
    from deploycc.graph.channels.groups import layer_names
    from deploycc.graph.cost import node_macs
    from deploycc.passes.options import Prune
    from deploycc.passes.prune_channels import choose
    from deploycc.pruning.decide import Choice, bundles, kernels_of
    from deploycc.pruning.kept_counts import rounded
    from deploycc.pruning.latency_goal import LatencySearch
    from deploycc.pruning.macs import layers_macs
    from deploycc.pruning.worth import OutputChange

    if not 0 < settings.below < 1:
        raise InputError("prune-option", f"{settings.below:g} of the MACs cannot be removed", hint="below=0.2")
    graph, groups, possible = inputs.dense.graph, inputs.groups, inputs.possible
    multiple = settings.multiple or _MULTIPLE
    parts = layers_macs(graph, groups, inputs.layers)
    whole = sum(node_macs(node) for node, name in layer_names(graph.nodes) if name in inputs.layers)
    able = choose(graph, groups, Prune(possible.kernels))[0]
    while True:
        search = LatencySearch(groups, OutputChange(possible.use), able, inputs.layers, parts, multiple)
        goal = search.full_ms - settings.below * whole
        if search.least_ms > goal:
            most = (search.full_ms - search.least_ms) / whole
            raise BudgetMissed(
                "macs-goal",
                f"at most {most:.1%} of the MACs of the {settings.scope} can be removed",
                context={"asked": f"{settings.below:.1%}", "kernels": f"multiples of {multiple}"},
            )
        going = search.least_loss(goal)
        kernels = kernels_of(groups, possible, going)
        stuck = going - choose(graph, groups, Prune(kernels))[0]
        if not stuck:
            break
        able = able - stuck  # they could only go together with kernels that stay
    decided = tuple(
        rounded(groups, bundle, going & bundle.groups, going & bundle.groups, multiple)
        for bundle in bundles(groups, inputs.layers)
        if going & bundle.groups
    )
    return Choice(kernels, possible.use, _WHY), going, decided
