"""Channels that hold the same number at every pixel of every picture, found by propagating constants like labels.

A kernel of zeros does not make a channel of zeros: its bias, a BatchNormalization's shift or the bias of a depthwise
convolution after it make the channel a constant. If every reader of the channel can fold the constant into its bias,
the channel can be removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.errors import Note
from deploycc.graph.channels.constant_rules import CONSTANT_RULES, pads
from deploycc.graph.channels.groups import ChannelGroups, Read, layer_names
from deploycc.graph.channels.movement_rules import MOVEMENT_RULES
from deploycc.graph.channels.site import Channels
from deploycc.graph.edit import constant_values, static_shape

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ChannelConstants:
    """The constants that channels of a graph hold.

    Attributes:
        values: for each variable that carries channels, by name, the constant of each channel; NaN if it varies.
    """

    values: Mapping[str, Values]


@dataclass(frozen=True)
class Removable:
    """The channel groups that can be removed without changing an output.

    Attributes:
        groups: constant at every reader, and every reader can fold the constant.
        blocked: constant at every reader, but one reader cannot fold it: that node and the reason.
    """

    groups: frozenset[int]
    blocked: Mapping[int, Note]


def channel_constants(
    graph: gs.Graph, groups: ChannelGroups, zeroed: Mapping[str, Iterable[int]] | None = None
) -> ChannelConstants:
    """Propagate constants through a graph.

    Args:
        graph: not changed.
        groups: of this graph.
        zeroed: by layer, the kernels whose output counts as zero whatever their weights are.
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
    return ChannelConstants(values)


def removable(graph: gs.Graph, groups: ChannelGroups, constants: ChannelConstants) -> Removable:
    """Return the groups that can be removed, and those that only a reader blocks.

    A Gemm folds any constant into its bias, a convolution any constant if it does not pad and else only zero, sums and
    transposed convolutions only zero.
    """
    nodes = {tensor.name: node for node in graph.nodes for tensor in node.outputs}
    constant = np.ones(groups.count, np.bool_)
    blocked: dict[int, Note] = {}
    for read in groups.reads:
        node = nodes[read.node]
        held = constants.values[node.inputs[read.index].name]
        constant[read.groups[np.isnan(held)]] = False
        reason = _why_not_foldable(node)
        if reason:
            for group in np.unique(read.groups[~np.isnan(held) & (held != 0)]).tolist():
                blocked.setdefault(group, Note(node.name or read.node, "channel-constant", reason))
    constant[list(groups.pins)] = False
    alive = set(np.flatnonzero(~constant).tolist())
    return Removable(
        frozenset(set(np.flatnonzero(constant).tolist()) - set(blocked)),
        {group: note for group, note in blocked.items() if group not in alive},
    )


def _why_not_foldable(node: gs.Node) -> str:
    """Return why a reader cannot fold a non-zero constant; empty if it can."""
    if node.op == "Gemm" or (node.op == "Conv" and not pads(node)):
        return ""
    if node.op == "Conv":
        return "it pads with zeros, so the constant would be wrong at the border"
    return f"{node.op} cannot fold a non-zero constant into its bias"


def reader_shift(node: gs.Node, read: Read, gone: NDArray[np.bool_], constants: ChannelConstants) -> Values | None:
    """Return what removed channels would have added to each output channel of a Conv or Gemm; None if nothing.

    Args:
        node: the reader, with its weights still whole.
        read: the operand through which it reads.
        gone: [groups.count] whether a group is removed.
        constants: of the graph.
    """
    held = np.nan_to_num(np.where(gone[read.groups], constants.values[node.inputs[read.index].name], 0.0))
    columns = np.flatnonzero(held)
    if not len(columns) or node.op not in ("Conv", "Gemm"):
        return None
    weight: Any = constant_values(node.inputs[1])
    if node.op == "Gemm":
        rows = weight[:, columns].T if node.attrs.get("transB", 0) else weight[columns]
        return np.asarray(node.attrs.get("alpha", 1.0) * (held[columns] @ rows.astype(np.float64)))
    groups, inputs_per_group = int(node.attrs.get("group", 1)), weight.shape[1]
    shift = np.zeros(weight.shape[0])
    kernels_per_group = weight.shape[0] // groups
    for column in columns.tolist():
        group, position = divmod(column, inputs_per_group)
        kernels = slice(group * kernels_per_group, (group + 1) * kernels_per_group)
        taps = weight[kernels, position].reshape(kernels_per_group, -1).astype(np.float64).sum(axis=1)
        shift[kernels] += taps * held[column]
    return shift


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
