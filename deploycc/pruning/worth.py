"""What a network loses with its kernels: by their share of their layer, or by what the network says without them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.graph.blocks.search import Block, Key
from deploycc.graph.channels.groups import ChannelGroups, layer_names
from deploycc.graph.edit import constant_values
from deploycc.pruning.decide import Bundle

Array = NDArray[np.float64]
Groups = NDArray[np.int64]


class Worth(Protocol):
    """A measure of what channel groups are worth.

    Attributes:
        tie: how many times the least loss a choice may lose that cannot be told from the best: so well is worth known.
    """

    tie: float

    def of_groups(self, groups: ChannelGroups, bundle: Bundle) -> Array:
        """Return by what the groups of a bundle of layers are ordered, [groups]: those with the least go first."""

    def losses(self, groups: ChannelGroups, bundle: Bundle, order: Groups) -> Array:
        """Return the loss without the first 0, 1, 2... groups of an order, [order + 1]; infinite if nothing is left."""

    def of_block(self, graph: gs.Graph, groups: ChannelGroups, block: Block) -> float:
        """Return the loss without a block of a graph; infinite where it is not known."""


class ShareOfLayer:
    """Kernels are worth their share of their layer, so that layers can be compared whatever their kernels count.

    ``loss = sum over layers of -log(worth of the kernels that stay / worth of all kernels of the layer)``: a layer that
    loses half costs the same wherever it is, and the second half costs more than the first.

    A branch costs what its readers lose, ``-log(worth of the other branches / worth of all branches)``, for each layer
    that makes the branches: as if all of them had been thinned to that share. What lies deeper in a branch matters to
    nothing else (Veit et al., Residual networks behave like ensembles of relatively shallow networks, 2016). A layer
    that becomes the identity costs 1, the sum of the shares of its kernels, without what it has in common with the
    identity: the share of its weights, by absolute value, that lies on the channel itself and in the middle of the
    window.

    Args:
        use: what each kernel is worth within its layer, [kernels] by layer.
    """

    tie = 1.3  # choices by l1 and by utilisation lose 20 to 100 % more by each other's measure (street_ssd, voc21)

    def __init__(self, use: Mapping[str, Array]) -> None:
        self._use = use

    def of_groups(self, groups: ChannelGroups, bundle: Bundle) -> Array:
        """Return the sum of the groups' shares of all layers."""
        return np.asarray(sum(self._shares(groups, bundle), np.zeros(groups.count)))

    def losses(self, groups: ChannelGroups, bundle: Bundle, order: Groups) -> Array:
        """Return the loss, which is infinite where a layer has nothing left."""
        loss = np.zeros(len(order) + 1)
        for shares in self._shares(groups, bundle):
            with np.errstate(divide="ignore"):
                loss -= np.log(np.maximum(1 - np.cumsum([0.0, *shares[order]]), 0.0))
        return loss

    def of_block(self, graph: gs.Graph, groups: ChannelGroups, block: Block) -> float:
        """Return what the readers of a branch lose, or what the layers of an identity do."""
        if block.kind == "identity":
            layers = {name: node for node, name in layer_names(graph.nodes)}
            return sum(1 - identity_share(layers[name]) for name in block.layers)
        own = self._worth_of(block.makers)
        rest = sum(self._worth_of(makers) or own for makers in block.others)
        makers = len(block.makers) + sum(max(1, len(makers)) for makers in block.others)
        return float(makers * np.log1p(own / rest)) if rest > 0 else np.inf

    def _worth_of(self, layers: Iterable[str]) -> float:
        return sum(float(self._use[name].sum()) for name in layers if name in self._use)

    def _shares(self, groups: ChannelGroups, bundle: Bundle) -> list[Array]:
        return [
            np.bincount(groups.layers[name], self._use[name], groups.count) / self._use[name].sum()
            for name in bundle.layers
            if name in self._use and self._use[name].sum() > 0
        ]


class OutputChange:
    """Kernels are worth how much the network's outputs change without them, which is comparable between layers.

    The loss is the sum of the worths of all kernels that are gone.

    Args:
        importance: of each kernel, [kernels] by layer (`deploycc.distillation.importance`).
        blocks: likewise, of whole blocks, by what identifies them.
    """

    tie = 1.05  # the choice by Fisher information of 200 other pictures loses 4 to 8 % more (voc21)

    def __init__(self, importance: Mapping[str, Array], blocks: Mapping[Key, float] | None = None) -> None:
        self._importance, self._blocks = importance, blocks or {}

    def of_groups(self, groups: ChannelGroups, bundle: Bundle) -> Array:
        """Return the groups' importance."""
        worth = np.zeros(groups.count)
        for name in bundle.layers:
            if name in self._importance:
                worth += np.bincount(groups.layers[name], self._importance[name], groups.count)
        return worth

    def losses(self, groups: ChannelGroups, bundle: Bundle, order: Groups) -> Array:
        """Return the sum of what is gone."""
        return np.cumsum([0.0, *self.of_groups(groups, bundle)[order]])

    def of_block(self, graph: gs.Graph, groups: ChannelGroups, block: Block) -> float:
        """Return what was found for the block; infinite where nothing was."""
        return self._blocks.get(block.key, np.inf)


def identity_share(node: gs.Node) -> float:
    """Return the share of a convolution's weights that the identity has, by absolute value."""
    weight = constant_values(node.inputs[1])
    groups = int(node.attrs.get("group", 1))
    if weight is None or weight.shape[0] != weight.shape[1] * groups or not all(size % 2 for size in weight.shape[2:]):
        return 0.0
    sizes = np.abs(weight.astype(np.float64))
    middle = sizes[(..., *(size // 2 for size in weight.shape[2:]))]
    kernels = np.arange(len(weight))
    return float(middle[kernels, kernels % weight.shape[1]].sum() / (sizes.sum() or 1.0))
