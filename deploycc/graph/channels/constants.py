"""Channels that hold the same number at every pixel of every picture, found by propagating constants like labels.

A kernel of zeros does not make a channel of zeros: its bias, a BatchNormalization's shift or the bias of a depthwise
convolution after it make the channel a constant. If every reader of the channel can fold the constant into its bias, or
into the weights of a carrier (`deploycc.graph.channels.readers`), the channel can be removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.errors import Note
from deploycc.graph.channels.constant_rules import CONSTANT_RULES
from deploycc.graph.channels.groups import ChannelGroups, Read, layer_names
from deploycc.graph.channels.movement_rules import MOVEMENT_RULES
from deploycc.graph.channels.readers import carrier_column, why_not_foldable
from deploycc.graph.channels.site import Channels
from deploycc.graph.edit import static_shape

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ChannelConstants:
    """The constants that channels of a graph hold.

    Attributes:
        values: for each variable that carries channels, by name, the constant of each channel; NaN if it varies.
        carriers: groups that stay, and hold constants for removed ones.
    """

    values: Mapping[str, Values]
    carriers: frozenset[int] = frozenset()

    def at(self, node: gs.Node, read: Read) -> Values:
        """Return what a reader sees, [channels of the operand]."""
        return self.values[node.inputs[read.index].name]


@dataclass(frozen=True)
class Removable:
    """The channel groups that can be removed without changing an output.

    Attributes:
        groups: constant at every reader, and every reader can fold the constant or has a carrier; no carriers.
        blocked: constant at every reader, but one reader can do neither: that node and the reason.
    """

    groups: frozenset[int]
    blocked: Mapping[int, Note]


def channel_constants(
    graph: gs.Graph,
    groups: ChannelGroups,
    zeroed: Mapping[str, Iterable[int]] | None = None,
    carriers: Iterable[int] = (),
) -> ChannelConstants:
    """Propagate constants through a graph.

    Args:
        graph: not changed.
        groups: of this graph.
        zeroed: by layer, the kernels whose output counts as zero whatever their weights are.
        carriers: groups that will stay.
    """
    values: dict[str, Values] = {}
    for node, name in layer_names(graph.nodes):
        if any(tensor.name in groups.tensors for tensor in node.outputs):
            site = _ConstantSite(node, int(graph.opset), groups, values)
            rule = CONSTANT_RULES.get(node.op, MOVEMENT_RULES.get(node.op))
            if rule is not None:
                with np.errstate(all="ignore"):
                    rule(site)
        if zeroed and name in groups.layers and name in zeroed:
            held = values.setdefault(groups.outputs[name], np.full(len(groups.layers[name]), np.nan))
            held[list(zeroed[name])] = 0.0
    for name, labelled in groups.tensors.items():
        values.setdefault(name, np.full(len(labelled.groups), np.nan))
    return ChannelConstants(values, frozenset(carriers))


def removable(graph: gs.Graph, groups: ChannelGroups, constants: ChannelConstants) -> Removable:
    """Return the groups that can be removed, and those that only a reader blocks.

    A Gemm folds any constant into its bias, a convolution any constant if it does not pad and else only zero, sums and
    transposed convolutions only zero; those that have a carrier take any constant.
    """
    nodes = {tensor.name: node for node in graph.nodes for tensor in node.outputs}
    constant = np.ones(groups.count, np.bool_)
    blocked: dict[int, Note] = {}
    for read in groups.reads:
        node = nodes[read.node]
        held = constants.at(node, read)
        constant[read.groups[np.isnan(held)]] = False
        reason = why_not_foldable(node)
        if reason and carrier_column(node, read, held, constants.carriers) is None:
            for group in np.unique(read.groups[~np.isnan(held) & (held != 0)]).tolist():
                blocked.setdefault(group, Note(node.name or read.node, "channel-constant", reason))
    constant[[*groups.pins, *constants.carriers]] = False
    alive = set(np.flatnonzero(~constant).tolist())
    return Removable(
        frozenset(set(np.flatnonzero(constant).tolist()) - set(blocked)),
        {group: note for group, note in blocked.items() if group not in alive},
    )


class _ConstantSite:
    """`deploycc.graph.channels.site.Site` for constants: they move like labels, and nothing is united."""

    def __init__(self, node: gs.Node, opset: int, groups: ChannelGroups, values: dict[str, Values]) -> None:
        self.node, self.opset, self.groups, self.values = node, opset, groups, values

    def shape(self, index: int) -> tuple[int, ...]:
        return static_shape(self.node.inputs[index]) or ()

    def output_shape(self, index: int = 0) -> tuple[int, ...]:
        return static_shape(self.node.outputs[index]) or ()

    def channels(self, index: int) -> Channels | None:
        name = self.node.inputs[index].name if index < len(self.node.inputs) else ""
        labelled = self.groups.tensors.get(name)
        if labelled is None:
            return None
        values = self.values.get(name)
        return Channels(labelled.axis, np.full(len(labelled.groups), np.nan) if values is None else values)

    def write(self, axis: int, values: Values, index: int = 0) -> None:
        labelled = self.groups.tensors.get(self.node.outputs[index].name)
        if labelled is not None and labelled.axis == axis:
            self.values[self.node.outputs[index].name] = np.array(values, np.float64)

    def fresh(self, count: int) -> Values:
        return np.full(count, np.nan)

    def fixed(self, count: int, reason: str) -> Values:
        return np.full(count, np.nan)

    def copies(self, values: Values) -> Values:
        return values

    def common(self, united: Sequence[Values]) -> Values:
        stacked = np.stack(united)
        return np.where((stacked == stacked[0]).all(axis=0), stacked[0], np.nan)

    def unite(self, left: Values, right: Values) -> None:
        """Constants are not united."""

    def pin(self, values: Values, code: str, reason: str) -> None:
        """Pinned channels may be constant."""

    def operand(self, index: int, axis: int, values: Values) -> None:
        """Constants of the graph are known already."""

    def read(self, index: int) -> None:
        """The readers are known already."""

    def kernels(self, values: Values) -> None:
        """The layers are known already."""

    def collapse(self, axes: Values) -> tuple[int, Values] | None:
        labelled = self.groups.tensors.get(self.node.outputs[0].name)
        if labelled is None:
            return None
        rows = np.moveaxis(axes, labelled.axis, 0).reshape(axes.shape[labelled.axis], -1)
        agreed = np.where((rows == rows[:, :1]).all(axis=1), rows[:, 0], np.nan)
        return labelled.axis, np.broadcast_to(agreed, len(labelled.groups))
