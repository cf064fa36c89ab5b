"""What a network loses with its kernels: by their share of their layer, or by what the network says without them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deploycc.graph.channels.groups import ChannelGroups
from deploycc.pruning.decide import Bundle

Array = NDArray[np.float64]
Groups = NDArray[np.int64]


class Worth(Protocol):
    """A measure of what channel groups are worth."""

    def of_groups(self, groups: ChannelGroups, bundle: Bundle) -> Array:
        """Return by what the groups of a bundle of layers are ordered, [groups]: those with the least go first."""

    def losses(self, groups: ChannelGroups, bundle: Bundle, order: Groups) -> Array:
        """Return the loss without the first 0, 1, 2... groups of an order, [order + 1]; infinite if nothing is left."""


class ShareOfLayer:
    """Kernels are worth their share of their layer, so that layers can be compared whatever their kernels count.

    ``loss = sum over layers of -log(worth of the kernels that stay / worth of all kernels of the layer)``: a layer that
    loses half costs the same wherever it is, and the second half costs more than the first.

    Args:
        use: what each kernel is worth within its layer, [kernels] by layer.
    """

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
    """

    def __init__(self, importance: Mapping[str, Array]) -> None:
        self._importance = importance

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
