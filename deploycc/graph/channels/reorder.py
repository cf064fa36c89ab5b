"""Numbering kernels anew: everything that holds or reads a layer's channels follows, so that the outputs stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.errors import Note
from deploycc.graph.channels.groups import ChannelGroups, Ids, Operand, node_key
from deploycc.graph.edit import constant_values, set_constant


def reorder_kernels(graph: gs.Graph, groups: ChannelGroups, orders: Mapping[str, Sequence[int]]) -> tuple[Note, ...]:
    """Put kernels in another order, with every channel that belongs to them.

    Where a tensor held group g, it then holds the group that takes its place; as every tensor and every constant that
    holds the group does the same, each node sees its operands in a common new order. Operators that only move numbers
    need no change, because the axes that they move are permuted as a whole.

    Args:
        graph: changed in place: axes of constants are permuted.
        groups: of this graph; they do not describe it any more afterwards.
        orders: by layer, [kernels] position -> kernel.

    Returns:
        One note ``gate-order`` for each layer that keeps the order it has, with the reason: a pinned channel, or
        channels that another layer of ``orders`` has put in another order.
    """
    place: Ids = np.arange(groups.count)
    settled = np.zeros(groups.count, np.bool_)
    notes = []
    for name, order in orders.items():
        reason = _accept(groups, place, settled, groups.layers[name], np.asarray(order, np.int64))
        if reason:
            notes.append(Note(name, "gate-order", f"its kernels keep their order: {reason}"))
    if (place != np.arange(groups.count)).any():
        _permute(graph, groups, place)
    return tuple(notes)


def _accept(groups: ChannelGroups, place: Ids, settled: np.ndarray, own: Ids, order: Ids) -> str:
    """Enter the order of one layer in ``place``, or say why it cannot be."""
    wanted = own[order]
    moved = own != wanted
    for group in own[moved].tolist():
        if group in groups.pins:
            return f"{groups.pins[group].node}: {groups.pins[group].reason}"
    if (settled[own] & (place[own] != wanted)).any():
        return "another gated layer makes the same channels and has them in its own order"
    attempt = place.copy()
    attempt[own] = wanted
    if (attempt[own] != wanted).any() or (_sources(own, attempt) != order).any():
        return "kernels that belong together would be separated"
    axes = [(name, labelled.groups) for name, labelled in groups.tensors.items()]
    axes += [(f"operand {each.index} of {each.node}", each.groups) for each in groups.operands]
    touched = np.zeros(groups.count, np.bool_)
    touched[own[moved]] = True
    for name, held in axes:
        if touched[held].any():
            counts = np.bincount(held, minlength=groups.count)
            if (counts != counts[attempt])[touched].any():
                return f"{name} holds only some of its channels"
    place[:] = attempt
    settled[own] = True
    return ""


def _sources(held: Ids, place: Ids) -> Ids:
    """Which old index of an axis each new one takes: groups go to their places, places of one group in their order."""
    sources = np.empty(len(held), np.int64)
    sources[np.argsort(place[held], kind="stable")] = np.argsort(held, kind="stable")
    return sources


def _permute(graph: gs.Graph, groups: ChannelGroups, place: Ids) -> None:
    nodes = {node_key(node): node for node in graph.nodes}
    for operand in groups.operands:
        sources = _sources(operand.groups, place)
        node = nodes[operand.node]
        old = constant_values(node.inputs[operand.index])
        if old is None:
            continue
        values = np.take(old, sources, operand.axis)
        if node.op == "Gather":
            values = _indices(groups, place, node, operand, values)
        if not np.array_equal(values, old):
            set_constant(graph, node, operand.index, values, f"{node.name or operand.node}_reordered")


def _indices(groups: ChannelGroups, place: Ids, node: gs.Node, operand: Operand, values: np.ndarray) -> np.ndarray:
    """Indices that a Gather reads: what they point at has moved too."""
    labelled = groups.tensors[node.inputs[0].name]
    moved_to = np.argsort(_sources(labelled.groups, place))
    indices: np.ndarray = moved_to[values % len(moved_to)].astype(values.dtype)
    return indices
