"""Which blocks go whole, beside the kernels that go one by one: one ranking by what is lost per cost saved."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from deploycc.progress import Say, quiet
from deploycc.workflows.goal_choice import GoalInputs

if TYPE_CHECKING:
    from deploycc.graph.blocks.search import Block, Key
    from deploycc.pruning.decide import Choice
    from deploycc.pruning.goal_search import GoalSearch, Part
    from deploycc.pruning.worth import Worth

_IN_VAIN = 4  # blocks in a row that do not pay before the search ends: later ones lose more per cost


@dataclass(frozen=True, eq=False)
class WithoutBlocks:
    """What is left to prune once some blocks are gone.

    Attributes:
        inputs: with a smaller ``dense``.
        blocks: that are gone, in the order in which they went.
        left: layer to the kernels that are left of it, numbered as in the whole network; layers that are gone are
            missing.
        loss: without the blocks, each counted once.
    """

    inputs: GoalInputs
    blocks: tuple[Block, ...]
    left: Mapping[str, tuple[int, ...]]
    loss: float


@dataclass(frozen=True, eq=False)
class BlockSearch:
    """Looks for the blocks without which a goal is met at the least loss.

    Attributes:
        inputs: the whole network.
        worth: of kernels, by their use.
        parts: of a network, all in one unit.
        multiple: of kernels that layers keep.
    """

    inputs: GoalInputs
    worth: Callable[[Choice], Worth]
    parts: Callable[[GoalInputs], Sequence[Part]]
    multiple: int
    _ranking: list[Block] = field(default_factory=list, init=False, repr=False)  # the same whatever the goal

    @property
    def cost(self) -> float:
        """Return the cost of the whole network's parts."""
        return self._cost(self.inputs)

    def choose(self, goal: float, say: Say = quiet) -> WithoutBlocks:
        """Return the blocks that go so that the parts cost at most ``goal``, once kernels go too.

        Blocks are tried in order of their loss per cost saved, and go where fewer kernels have to go for it and less is
        lost in all. What later ones made needless comes back, and what was tried in vain is tried instead of others.
        """
        losses = self.losses()
        best = self._start()
        price = self._search(best.inputs).price_of_work(goal)
        best_score = self.score(best, goal, price)
        in_vain = 0
        left_out: list[Block] = []
        ranked = self._ranked(losses, say)
        for number, block in enumerate(ranked):
            say("choosing blocks", number, len(ranked))
            tried = self._without(best, block, losses)
            if tried is not None and (score := self.score(tried, goal, price)) < best_score:
                best, best_score, in_vain = tried, score, 0
                continue
            left_out.append(block)
            in_vain += tried is not None
            if in_vain == _IN_VAIN and best_score[0] == 0:
                break
        for block in best.blocks:
            others = [other for other in best.blocks if other is not block]
            for instead in ([], *([other] for other in left_out[-_IN_VAIN:])):
                tried = self.without([*others, *instead])
                if (score := self.score(tried, goal, price)) < best_score:
                    best, best_score = tried, score
        return best

    def without(self, blocks: Sequence[Block]) -> WithoutBlocks:
        """Remove blocks one after the other, as far as they can go."""
        losses, state = self.losses(), self._start()
        for block in blocks:
            state = self._without(state, block, losses) or state
        return state

    def losses(self) -> dict[Key, tuple[Block, float]]:
        """Return the blocks of layers that may go, with the loss of each."""
        from deploycc.graph.blocks.search import find_blocks

        inputs = self.inputs
        worth = self.worth(inputs.possible)
        found = find_blocks(inputs.dense.graph, inputs.groups)
        return {
            block.key: (block, worth.of_block(inputs.dense.graph, inputs.groups, block))
            for block in found
            if inputs.layers.issuperset(block.layers)
        }

    def _start(self) -> WithoutBlocks:
        whole = {name: tuple(range(len(groups))) for name, groups in self.inputs.groups.layers.items()}
        return WithoutBlocks(self.inputs, (), whole, 0.0)

    def _ranked(self, losses: Mapping[Key, tuple[Block, float]], say: Say) -> list[Block]:
        """Blocks that can go and save something, those with the least loss per cost first."""
        if self._ranking:
            return self._ranking
        start, full = self._start(), self._cost(self.inputs)
        rates: list[tuple[float, int, Block]] = []
        for number, (block, loss) in enumerate(losses.values()):
            say("finding blocks that can go", number, len(losses))
            reduced = self._without(start, block, losses) if loss < float("inf") else None
            if reduced is not None and (saved := full - self._cost(reduced.inputs)) > 0:
                rates.append((loss / saved, number, block))
        self._ranking.extend(block for _, _, block in sorted(rates, key=lambda rate: rate[:2]))
        return self._ranking

    def score(self, state: WithoutBlocks, goal: float, price: float = 0.0) -> tuple[float, float]:
        """Return by how much the goal is missed, and the loss with the price of the work that goes."""
        search = self._search(state.inputs)
        loss = search.loss_of(search.least_loss(goal, price), price)
        work = price * (self._work - search.full_work) if state.blocks and price else 0.0
        return max(0.0, search.least_cost - goal), state.loss + max(0.0, loss) + work

    @functools.cached_property
    def _work(self) -> float:
        return self._search(self.inputs).full_work

    def _search(self, inputs: GoalInputs) -> GoalSearch:
        from deploycc.pruning.goal_search import GoalSearch

        able, worth, parts = inputs.removable(), self.worth(inputs.possible), self.parts(inputs)
        return GoalSearch(inputs.groups, worth, able, inputs.layers, parts, self.multiple, inputs.work())

    def _cost(self, inputs: GoalInputs) -> float:
        import numpy as np

        def channels(tensor: str) -> int:
            labelled = inputs.groups.tensors.get(tensor)
            return 1 if labelled is None else len(labelled.groups)

        return sum(
            float(part.costs(np.array([[channels(tensor) for tensor in part.tensors]]))[0])
            for part in self.parts(inputs)
        )

    def _without(
        self, state: WithoutBlocks, block: Block, losses: Mapping[Key, tuple[Block, float]]
    ) -> WithoutBlocks | None:
        """Remove one more block; None where it cannot go."""
        from deploycc.graph.blocks.removal import remove_block
        from deploycc.graph.channels.labels import channel_groups

        inputs = state.inputs
        dense = replace(inputs.dense, graph=inputs.dense.graph.copy())
        lost = remove_block(dense.graph, block.key)
        if lost is None:
            return None
        groups = channel_groups(dense.graph)
        left = {
            name: tuple(kernel for index, kernel in enumerate(kernels) if index not in set(lost.get(name, ())))
            for name, kernels in state.left.items()
            if name in groups.layers
        }
        blocks = (*state.blocks, block)
        outer = [each for each in blocks if not any(_inside(each, other) for other in blocks)]
        reduced = replace(
            inputs,
            dense=dense,
            groups=groups,
            possible=_possible(self.inputs.possible, left),
            layers=inputs.layers & set(groups.layers),
        )
        return WithoutBlocks(reduced, blocks, left, sum(losses[each.key][1] for each in outer))


def _inside(block: Block, other: Block) -> bool:
    return set(block.layers) < set(other.layers)


def _possible(choice: Choice, left: Mapping[str, tuple[int, ...]]) -> Choice:
    """Number the kernels of a choice as they are numbered without those that are gone."""
    from deploycc.pruning.decide import Choice

    chosen = {}
    for name, kernels in choice.kernels.items():
        if name in left:
            possible = set(kernels)
            chosen[name] = tuple(index for index, kernel in enumerate(left[name]) if kernel in possible)
    use = {name: values[list(left[name])] for name, values in choice.use.items() if name in left}
    return Choice(chosen, use, choice.why)
