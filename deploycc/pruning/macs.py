"""Multiply-accumulates by the channels that stay: what a search weighs kernels against where no time is asked for."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.graph.channels.groups import ChannelGroups, layer_names
from deploycc.graph.cost import node_macs


class LayerMacs:
    """The multiply-accumulates of one layer, as the cost of a part (`deploycc.pruning.goal_search.Part`).

    Attributes:
        tensors: that it reads and writes; a depthwise layer's work depends on what it writes alone.
    """

    def __init__(self, tensors: tuple[str, ...], channels: tuple[int, ...], macs: int) -> None:
        """Start with the layer as it is.

        Args:
            tensors: see the class.
            channels: of these tensors.
            macs: of the layer.
        """
        self.tensors = tensors
        self._channels, self._macs = np.array(channels, np.float64), macs

    def costs(self, kept: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the MACs, [cases], for the channels that stay, [cases, tensors]."""
        return np.asarray(self._macs * (kept / self._channels).prod(1), np.float64)


def layers_macs(graph: gs.Graph, groups: ChannelGroups, layers: Collection[str]) -> list[LayerMacs]:
    """Return the layers of a part of the network, by what they read and write."""
    found = []
    for node, name in layer_names(graph.nodes):
        macs = node_macs(node)
        if not macs or name not in layers or name not in groups.layers:
            continue
        names = [node.outputs[0].name]
        if int(node.attrs.get("group", 1)) == 1:
            names.append(node.inputs[0].name)
        tensors = tuple(tensor for tensor in names if tensor in groups.tensors)
        if tensors:
            found.append(LayerMacs(tensors, tuple(len(groups.tensors[tensor].groups) for tensor in tensors), macs))
    return found


def macs_left(groups: ChannelGroups, parts: Collection[LayerMacs], gone: Collection[int]) -> float:
    """Return the MACs of all layers without these channel groups."""
    going = np.zeros(groups.count, np.bool_)
    going[list(gone)] = True
    kept = {
        name: np.count_nonzero(~going[groups.tensors[name].groups])
        for name in dict.fromkeys(tensor for part in parts for tensor in part.tensors)
    }
    return sum(float(part.costs(np.array([[kept[name] for name in part.tensors]]))[0]) for part in parts)
