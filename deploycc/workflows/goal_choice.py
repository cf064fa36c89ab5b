"""Which kernels go for a goal: the least loss whose kernels can really go, whatever the goal is a number of."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.graph.blocks.search import Block, Key
    from deploycc.graph.channels.groups import ChannelGroups
    from deploycc.pruning.decide import Choice, Kernels
    from deploycc.pruning.goal_search import GoalSearch, Part
    from deploycc.pruning.kept_counts import Rounded
    from deploycc.pruning.macs import LayerMacs
    from deploycc.pruning.worth import Worth


@dataclass(frozen=True, eq=False)
class GoalInputs:
    """What is pruned.

    Attributes:
        original: gates included; what a speed-up is relative to.
        dense: with the gates that go replaced by constants.
        groups: of ``dense``.
        possible: every kernel that may go, and what each is worth.
        layers: names of layers that may lose kernels.
        block_worth: of whole blocks, where it was estimated on pictures.
    """

    original: Detector
    dense: Detector
    groups: ChannelGroups
    possible: Choice
    layers: set[str]
    block_worth: Mapping[Key, float] = field(default_factory=dict)

    @functools.cached_property
    def carriers(self) -> Kernels:
        """Return kernels that stay, of zeros, where others go that need them; nobody counts them as a loss."""
        from deploycc.workflows.constant_carriers import constant_carriers

        return constant_carriers(self.dense.graph, self.groups, self.possible)

    def removable(self) -> set[int]:
        """Return the channel groups that may go: where all of a tensor could, the one that is worth most stays."""
        from deploycc.pruning.decide import group_use, kernels_of

        going = self.groups.of_kernels(self.possible.kernels)
        for labelled in self.groups.tensors.values():
            if going.issuperset(channels := labelled.groups.tolist()):
                going.remove(max(channels, key=lambda group: group_use(self.groups, group, self.possible)))
        return self.can_go(kernels_of(self.groups, self.possible, going))

    def can_go(self, kernels: Mapping[str, tuple[int, ...]]) -> set[int]:
        """Return the channel groups that can go where just these kernels are to go."""
        from deploycc.passes.options import Prune
        from deploycc.passes.prune_channels import choose

        return choose(self.dense.graph, self.groups, Prune(kernels, carriers=self.carriers))[0]

    def work(self) -> list[LayerMacs]:
        """Return what the network computes: layers that keep their kernels read fewer channels."""
        from deploycc.pruning.macs import layers_macs

        return layers_macs(self.dense.graph, self.groups, self.groups.layers)


@dataclass(frozen=True, eq=False)
class Chosen:
    """What goes for a goal.

    Attributes:
        choice: the kernels, numbered as they are without the blocks.
        carriers: kernels that stay, of zeros, where others go that need them.
        rounded: how many kernels each bundle of layers keeps.
        blocks: that go whole, before the kernels.
    """

    choice: Choice
    carriers: Kernels
    rounded: tuple[Rounded, ...]
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, eq=False)
class Thinning:
    """Kernels that go.

    Attributes:
        search: that chose them.
        going: their channel groups.
        kernels: by layer.
    """

    search: GoalSearch
    going: frozenset[int]
    kernels: Kernels

    @property
    def loss(self) -> float:
        """Return what is lost with the kernels."""
        return max(0.0, self.search.loss_of(self.going))


def thin(
    inputs: GoalInputs,
    worth: Worth,
    parts: Sequence[Part],
    multiple: int,
    solve: Callable[[GoalSearch], frozenset[int]],
    *,
    spared: frozenset[int] = frozenset(),
    work: Sequence[Part] = (),
) -> Thinning:
    """Choose the kernels that go, and choose again without those that could only go together with kernels that stay.

    Args:
        inputs: what is pruned.
        worth: what is lost with kernels.
        parts: of the network, which cost milliseconds or multiply-accumulates.
        multiple: of kernels that layers keep.
        solve: chooses channel groups.
        spared: channel groups that stay.
        work: parts that cost what the network computes, where that has a price.
    """
    from deploycc.pruning.decide import kernels_of
    from deploycc.pruning.goal_search import GoalSearch

    able = inputs.removable() - spared
    while True:
        search = GoalSearch(inputs.groups, worth, able, inputs.layers, parts, multiple, work)
        going = solve(search)
        kernels = kernels_of(inputs.groups, inputs.possible, going)
        stuck = going - inputs.can_go(kernels)
        if not stuck:
            return Thinning(search, going, kernels)
        able = able - stuck


def counts_kept(inputs: GoalInputs, going: frozenset[int], multiple: int) -> tuple[Rounded, ...]:
    """Return how many kernels each bundle of layers keeps that loses any."""
    from deploycc.pruning.decide import bundles
    from deploycc.pruning.kept_counts import rounded

    return tuple(
        rounded(inputs.groups, bundle, going & bundle.groups, going & bundle.groups, multiple)
        for bundle in bundles(inputs.groups, inputs.layers)
        if going & bundle.groups
    )
