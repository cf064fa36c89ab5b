"""The channel analysis: every channel of every tensor carries an integer label, and operators move arrays of labels.

At most one axis of a tensor carries labels. Labels of one channel group are *united* by equations, which are solved
once, at the end; until then a rule sees the labels as they were made. The rules of `deploycc.graph.channels.rules` act
through the interface `deploycc.graph.channels.site.Site`; this module implements it for labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.errors import Note
from deploycc.graph.channels.groups import ChannelGroups, Ids, Labelled, Operand, Read, layer_names, node_key
from deploycc.graph.channels.rules import RULES
from deploycc.graph.channels.site import Array, Channels, Rule
from deploycc.graph.edit import static_shape


def channel_groups(graph: gs.Graph, rules: Mapping[str, Rule] | None = None) -> ChannelGroups:
    """Find the channel groups of a graph.

    Args:
        graph: batch 1, sorted, shapes known (`deploycc.graph.shapes.infer_shapes`); not changed.
        rules: by operator; default: `deploycc.graph.channels.rules.RULES`.
    """
    table = RULES if rules is None else rules
    walk = _Walk()
    for tensor in graph.inputs:
        shape = static_shape(tensor)
        if shape is not None and len(shape) > 1:
            walk.channels[tensor.name] = Channels(1, walk.new_labels(shape[1]))
            walk.pin(walk.channels[tensor.name].values, Note(tensor.name, "channel-input", "an input of the network"))
    for node, name in layer_names(graph.nodes):
        _label(walk, node, name, int(graph.opset), table)
    for tensor in graph.outputs:
        if tensor.name in walk.channels:
            walk.pin(walk.channels[tensor.name].values, Note(tensor.name, "channel-output", "an output of the network"))
    return walk.solve()


def _label(walk: _Walk, node: gs.Node, name: str, opset: int, rules: Mapping[str, Rule]) -> None:
    site = _LabelSite(walk, node, name, opset)
    rule = rules.get(node.op) if node.domain in (None, "", "ai.onnx") else None
    subgraphs = [value for value in node.attrs.values() if isinstance(value, gs.Graph)]
    if rule is None or subgraphs:
        site.pin_operands("channel-no-rule", f"{node.op} has no channel rule")
    elif any(static_shape(t) is None for t in (*node.inputs, *node.outputs) if not t.is_empty()):
        site.pin_operands("channel-no-shape", "its shapes are not static")
    else:
        rule(site)
    for subgraph in subgraphs:  # it reads tensors of the outer graph that are not operands of the node
        for graph in (subgraph, *subgraph.subgraphs(recursive=True)):
            for tensor in [*graph.outputs, *(operand for inner in graph.nodes for operand in inner.inputs)]:
                if tensor.name in walk.channels:
                    site.pin(walk.channels[tensor.name].values, "channel-no-rule", f"{node.op} has no channel rule")


def solve_equations(count: int, left: Ids, right: Ids) -> Ids:
    """Return the lowest label of each label's class, where ``left[i]`` equals ``right[i]`` for every i.

    Each root is hooked to the lowest root it meets, then paths are halved until flat (Shiloach and Vishkin, 1982);
    the number of rounds grows with the logarithm of the longest chain.

    Args:
        count: number of labels.
        left: [equations].
        right: [equations].

    Returns:
        [count].
    """
    parent = np.arange(count, dtype=np.int64)
    while True:
        a, b = parent[left], parent[right]
        apart = a != b
        if not apart.any():
            return parent
        left, right, a, b = left[apart], right[apart], a[apart], b[apart]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while (parent != parent[parent]).any():
            parent = parent[parent]


@dataclass(eq=False)
class _Walk:
    """Everything collected while walking through a graph."""

    count: int = 0
    channels: dict[str, Channels] = field(default_factory=dict)
    equations: list[tuple[Array, Array]] = field(default_factory=list)
    pins: list[tuple[Array, Note]] = field(default_factory=list)
    operands: list[Operand] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    layers: dict[str, Array] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    def new_labels(self, count: int) -> Ids:
        self.count += count
        return np.arange(self.count - count, self.count, dtype=np.int64)

    def pin(self, values: Array, note: Note) -> None:
        self.pins.append((values, note))

    def solve(self) -> ChannelGroups:
        empty = np.zeros(0, np.int64)
        left, right = (np.concatenate([empty, *(pair[side].ravel() for pair in self.equations)]) for side in (0, 1))
        roots, groups = np.unique(solve_equations(self.count, left, right), return_inverse=True)
        borders = ("channel-input", "channel-output")
        pinned: dict[int, Note] = {}
        notes: dict[Note, None] = {}
        # Inputs and outputs first: an operator that pins their channels as well, common in heads, needs no note.
        for values, note in sorted(self.pins, key=lambda pin: pin[1].code not in borders):
            for group in np.unique(groups[values]).tolist():
                if pinned.setdefault(group, note).code not in borders:
                    notes[note] = None
        tensors = {name: Labelled(channels.axis, groups[channels.values]) for name, channels in self.channels.items()}
        return ChannelGroups(
            count=len(roots),
            layers={name: groups[values] for name, values in self.layers.items()},
            outputs=self.outputs,
            tensors=tensors,
            operands=tuple(Operand(o.node, o.index, o.axis, groups[o.groups]) for o in self.operands),
            reads=tuple(Read(r.node, r.index, r.axis, groups[r.groups]) for r in self.reads),
            pins=pinned,
            notes=tuple(notes),
        )


class _LabelSite:
    """`deploycc.graph.channels.site.Site` for labels."""

    def __init__(self, walk: _Walk, node: gs.Node, name: str, opset: int) -> None:
        self.walk, self.node, self.name, self.opset, self.key = walk, node, name, opset, node_key(node)

    def shape(self, index: int) -> tuple[int, ...]:
        return static_shape(self.node.inputs[index]) or ()

    def output_shape(self, index: int = 0) -> tuple[int, ...]:
        return static_shape(self.node.outputs[index]) or ()

    def channels(self, index: int) -> Channels | None:
        return self.walk.channels.get(self.node.inputs[index].name) if index < len(self.node.inputs) else None

    def write(self, axis: int, values: Array, index: int = 0) -> None:
        self.walk.channels[self.node.outputs[index].name] = Channels(axis, values)

    def fresh(self, count: int) -> Ids:
        return self.walk.new_labels(count)

    def fixed(self, count: int, reason: str) -> Ids:
        values = self.walk.new_labels(count)
        self.pin(values, "channel-fixed", reason)
        return values

    def copies(self, values: Array) -> Ids:
        return self.walk.new_labels(len(values))

    def common(self, united: Sequence[Array]) -> Array:
        return united[0]

    def unite(self, left: Array, right: Array) -> None:
        self.walk.equations.append((left, right))

    def pin(self, values: Array, code: str, reason: str) -> None:
        self.walk.pin(values, Note(self.name, code, reason))

    def operand(self, index: int, axis: int, values: Array) -> None:
        self.walk.operands.append(Operand(self.key, index, axis, values))

    def read(self, index: int) -> None:
        channels = self.channels(index)
        if channels is not None:
            self.walk.reads.append(Read(self.key, index, channels.axis, channels.values))

    def kernels(self, values: Array) -> None:
        self.walk.layers[self.name] = values
        self.walk.outputs[self.name] = self.node.outputs[0].name

    def collapse(self, axes: Array) -> tuple[int, Array] | None:
        """Unite along all axes but the one with the most channels, so that a group is a whole slice of the result."""
        varying = [axis for axis in range(axes.ndim) if (axes != axes.take([0], axis)).any()]
        if not varying:
            return None
        keep = max(varying, key=lambda axis: (axes.shape[axis], axis))
        for axis in varying:
            if axis != keep:
                first = axes.take([0], axis)
                self.unite(axes, np.broadcast_to(first, axes.shape))
                axes = first
        return keep, np.moveaxis(axes, keep, 0).reshape(axes.shape[keep], -1)[:, 0]

    def pin_operands(self, code: str, reason: str) -> None:
        for tensor in self.node.inputs:
            if tensor.name in self.walk.channels:
                self.pin(self.walk.channels[tensor.name].values, code, reason)
