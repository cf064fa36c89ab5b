"""Convolutions whose times are fitted staircases, as parts of a network that is to meet a goal of latency."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.graph.channels.groups import layer_names
from deploycc.pruning.count_options import CountOptions, is_depthwise
from deploycc.timing.staircase import Array, Counts


class LayerTimes(Protocol):
    """Tells what convolutions take; `deploycc.timing.staircase.Staircases` does."""

    def times_ms(self, layer: int, channels: Counts) -> tuple[Array, Array]:
        """Return mean and standard deviation in milliseconds, [cases], for inputs and kernels, [cases, 2]."""


class StairPart:
    """The time of one convolution by the channels that it reads and writes; see `deploycc.pruning.goal_search.Part`.

    Attributes:
        tensors: that it reads and writes, by name.
    """

    def __init__(self, node: gs.Node, layer: int, groups: int, stairs: LayerTimes) -> None:
        """Take one staircase.

        Args:
            node: the convolution.
            layer: its number among the staircases.
            groups: into which its inputs are parted; as many as inputs of a depthwise one, which reads one per kernel.
            stairs: of all convolutions.
        """
        self.tensors = (node.inputs[0].name, node.outputs[0].name)
        self._layer, self._groups, self._stairs = layer, groups, stairs

    def costs(self, kept: NDArray[np.int64]) -> Array:
        """Return the expected times in milliseconds, [cases], for inputs and kernels that stay, [cases, 2]."""
        channels = np.stack([np.maximum(kept[:, 0] // self._groups, 1), kept[:, 1]], axis=1)
        return self._stairs.times_ms(self._layer, channels)[0]


def stair_parts(graph: gs.Graph, options: CountOptions, stairs: LayerTimes) -> list[StairPart]:
    """Return the convolutions of a network, whose staircases were fitted to networks of these options."""
    nodes = {name: node for node, name in layer_names(graph.nodes)}
    return [
        StairPart(nodes[name], layer, whole.inputs if is_depthwise(whole) else whole.groups, stairs)
        for layer, (name, whole) in enumerate(zip(options.layers, options.convolutions, strict=True))
    ]
