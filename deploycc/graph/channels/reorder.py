"""Reordering kernels: everything that holds or reads a layer's channels is permuted with them, so outputs stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.errors import Note
from deploycc.graph.channels.groups import ChannelGroups, Ids, Operand, node_key
from deploycc.graph.edit import constant_values, set_constant


def reorder_kernels(graph: gs.Graph, groups: ChannelGroups, orders: Mapping[str, Sequence[int]]) -> tuple[Note, ...]:
    """Reorder kernels together with every channel of their groups.

    Every tensor and constant that held group g then holds the group that replaces it, so each node sees its operands in
    a common new order. Operators that only move data need no change, because the axes that they move are permuted as a
    whole.

    Args:
        graph: changed in place: axes of constants are permuted.
        groups: of this graph; invalid afterwards.
        orders: by layer, [kernels] position -> kernel.

    Returns:
        One note ``gate-order`` per layer that keeps its order, with the reason: a pinned channel, or channels that
        another layer of ``orders`` has already reordered.
    """
    place: Ids = np.arange(groups.count)
    decided = np.zeros(groups.count, np.bool_)
    notes = []
    for name, order in orders.items():
        reason = _accept(groups, place, decided, groups.layers[name], np.asarray(order, np.int64))
        if reason:
            notes.append(Note(name, "gate-order", f"its kernels keep their order: {reason}"))
    if (place != np.arange(groups.count)).any():
        _permute(graph, groups, place)
    return tuple(notes)


def _accept(groups: ChannelGroups, place: Ids, decided: np.ndarray, kernels: Ids, order: Ids) -> str:
    """Enter the order of one layer's kernels in ``place``; if that is impossible return the reason, else an empty text.

    Args:
        groups: of the graph.
        place: [groups.count] the group that takes each group's place.
        decided: [groups.count] whether an earlier layer has ordered the group.
        kernels: [kernels] group of each kernel.
        order: [kernels] position -> kernel.
    """
    reordered = kernels[order]
    moved = kernels != reordered
    for group in kernels[moved].tolist():
        if group in groups.pins:
            return f"{groups.pins[group].node}: {groups.pins[group].reason}"
    if (decided[kernels] & (place[kernels] != reordered)).any():
        return "another gated layer makes the same channels and has ordered them"
    attempt = place.copy()
    attempt[kernels] = reordered
    if (attempt[kernels] != reordered).any() or (_sources(kernels, attempt) != order).any():
        return "kernels of one channel group would be separated"
    axes = [(name, labelled.groups) for name, labelled in groups.tensors.items()]
    axes += [(f"operand {operand.index} of {operand.node}", operand.groups) for operand in groups.operands]
    touched = np.zeros(groups.count, np.bool_)
    touched[kernels[moved]] = True
    for name, held in axes:
        if touched[held].any():
            counts = np.bincount(held, minlength=groups.count)
            if (counts != counts[attempt])[touched].any():
                return f"{name} holds only some of its channels"
    place[:] = attempt
    decided[kernels] = True
    return ""


def _sources(held: Ids, place: Ids) -> Ids:
    """Return for each new index of an axis the old one: groups take their places, in order within a group."""
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
    """Return a Gather's indices, updated because the channels that they name have moved too."""
    labelled = groups.tensors[node.inputs[0].name]
    moved_to = np.argsort(_sources(labelled.groups, place))
    indices: np.ndarray = moved_to[values % len(moved_to)].astype(values.dtype)
    return indices
