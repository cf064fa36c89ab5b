"""Pruning to a share of the multiply-accumulates: the kernels go on which the outputs depend least per MAC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deploycc.errors import BudgetMissed, InputError

if TYPE_CHECKING:
    from deploycc.pruning.goal_search import GoalSearch
    from deploycc.pruning.macs import LayerMacs
    from deploycc.workflows.goal_choice import Chosen, GoalInputs
    from deploycc.workflows.prune_settings import PruneSettings

_MULTIPLE = 8  # of kernels where none is asked for: vectors and tensor cores are whole
_LEAST_SHARE = 0.05  # of the MACs that are to go: a layer that saves less is not cut where the others can save it
_MOST_LOSS = 1.1  # of the least loss: more is not paid for leaving layers uncut
_WHY = "those on which the network's outputs depend least per multiply-accumulate"


def choose_for_macs(inputs: GoalInputs, settings: PruneSettings) -> Chosen:
    """Choose the kernels whose removal takes ``settings.below`` of the MACs of the layers and changes outputs least.

    A layer that would save hardly any of them is not cut where the others can save it at about the same loss.

    Raises:
        InputError: ``prune-option``: the share is not between 0 and 1.
        BudgetMissed: ``macs-goal``: so many MACs cannot be removed.
    """
    from deploycc.graph.channels.groups import layer_names
    from deploycc.graph.cost import node_macs
    from deploycc.pruning.decide import Choice
    from deploycc.pruning.macs import layers_macs
    from deploycc.pruning.worth import OutputChange
    from deploycc.workflows.goal_choice import Chosen, counts_kept, thin

    if not 0 < settings.below < 1:
        raise InputError("prune-option", f"{settings.below:g} of the MACs cannot be removed", hint="below=0.2")
    graph, possible = inputs.dense.graph, inputs.possible
    multiple = settings.multiple or _MULTIPLE
    whole = sum(node_macs(node) for node, name in layer_names(graph.nodes) if name in inputs.layers)

    def solve(search: GoalSearch) -> frozenset[int]:
        goal = search.full_cost - settings.below * whole
        if search.least_cost > goal:
            most = (search.full_cost - search.least_cost) / whole
            raise BudgetMissed(
                "macs-goal",
                f"at most {most:.1%} of the MACs of the {settings.scope} can be removed",
                context={"asked": f"{settings.below:.1%}", "kernels": f"multiples of {multiple}"},
            )
        return search.least_loss(goal)

    parts = layers_macs(graph, inputs.groups, inputs.layers)
    worth, spared = OutputChange(possible.use), frozenset[int]()
    thinning = thin(inputs, worth, parts, multiple, solve)
    most_loss = _MOST_LOSS * thinning.loss
    while idle := _saves_least(inputs, parts, thinning.going, _LEAST_SHARE * settings.below * whole):
        spared |= idle
        try:
            other = thin(inputs, worth, parts, multiple, solve, spared=spared)
        except BudgetMissed:
            break  # the layer is needed
        if other.loss > most_loss:
            break
        thinning = other
    rounded = counts_kept(inputs, thinning.going, multiple)
    return Chosen(Choice(thinning.kernels, possible.use, _WHY), inputs.carriers, rounded)


def _saves_least(inputs: GoalInputs, parts: Sequence[LayerMacs], going: frozenset[int], least: float) -> frozenset[int]:
    """Return the groups of the layers that save least, if that is less than `least` MACs; otherwise none.

    Every layer that is cut is one more to train again, and the first of them decides how much of the network is.
    """
    from deploycc.pruning.decide import bundles
    from deploycc.pruning.macs import macs_left

    left = macs_left(inputs.groups, parts, going)
    saved = [
        (macs_left(inputs.groups, parts, going - bundle.groups) - left, bundle.groups)
        for bundle in bundles(inputs.groups, inputs.layers)
        if going & bundle.groups
    ]
    macs, idle = min(saved, key=lambda pair: pair[0])
    return idle if macs < least else frozenset()
