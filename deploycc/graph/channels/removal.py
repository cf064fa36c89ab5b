"""Removing channel groups from a graph: cutting weights, biases, counts and shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.errors import Note
from deploycc.graph.channels.constants import ChannelConstants
from deploycc.graph.channels.groups import ChannelGroups, node_key
from deploycc.graph.channels.readers import carry, reader_shift, why_not_foldable
from deploycc.graph.channels.reshaping import Shrunk, restate
from deploycc.graph.edit import constant_values, fresh_name, set_constant


@dataclass(frozen=True, eq=False)
class Removal:
    """What was removed.

    Attributes:
        groups: the removed groups, sorted.
        layers: for each layer that lost kernels, by name, the kernels it lost.
        notes: one per requested group that stays, with the reason.
    """

    groups: tuple[int, ...]
    layers: Mapping[str, tuple[int, ...]]
    notes: tuple[Note, ...]


def remove_channels(
    graph: gs.Graph, groups: ChannelGroups, remove: Iterable[int], constants: ChannelConstants | None = None
) -> Removal:
    """Cut channel groups out of every tensor that holds them.

    Without ``constants`` a removed channel counts as zero at every reader (`ChannelGroups.reads`): the result equals
    the graph in which each reader sees zeros instead of the channel, whatever lies between the kernel and the reader.
    With A the columns that stay and R those that are removed, ``W x + b = W_A x_A + W_R 0 + b``.

    With ``constants`` the result equals the graph in which the channel holds its constant c: the reader's bias absorbs
    what the channel would have added, ``W x + b = W_A x_A + (b + W_R c)``, or the weights of its carrier do. The caller
    removes only groups for which that is possible (`deploycc.graph.channels.constants.removable`).

    Pinned groups stay. If all channels of a tensor would be removed, its first group stays.

    Args:
        graph: changed in place: weights, counts and stated shapes are cut, and shapes of variables follow. A constant
            that another node reads too is copied, not changed.
        groups: of this graph.
        remove: group numbers.
        constants: of this graph.
    """
    gone = np.zeros(groups.count, np.bool_)
    gone[list(remove)] = True
    notes = [stay_note(groups, group, reason) for group, reason in keep_back(groups, gone).items()]
    if gone.any():
        nodes = {node_key(node): node for node in graph.nodes}
        shifts = [] if constants is None else _take_constants(graph, groups, gone, constants, nodes)
        _cut_operands(graph, groups, gone, nodes)
        for node, shift in shifts:
            _add_to_bias(graph, node, shift)
        shrunk = Shrunk(graph, groups, gone)
        for node in graph.nodes:
            restate(shrunk, node)
        variables = graph.tensors()
        for name in groups.tensors:
            variables[name].shape = shrunk.shape(variables[name])
    kernels = {name: np.flatnonzero(gone[labels]).tolist() for name, labels in groups.layers.items()}
    lost = {name: tuple(indices) for name, indices in kernels.items() if indices}
    return Removal(tuple(np.flatnonzero(gone).tolist()), lost, tuple(notes))


def keep_back(groups: ChannelGroups, gone: NDArray[np.bool_]) -> dict[int, Note]:
    """Clear in ``gone`` the groups that must stay: pinned ones, and the first of a tensor that would lose all.

    Keeping a group empties no other tensor, so one round is enough.

    Returns:
        By group that is kept, the node or tensor and the reason.
    """
    kept = {group: groups.pins[group] for group in np.flatnonzero(gone).tolist() if group in groups.pins}
    gone[list(kept)] = False
    for name, labelled in groups.tensors.items():
        if gone[labelled.groups].all():
            first = int(labelled.groups[0])
            gone[first] = False
            kept[first] = Note(name, "channel-last", "it would have no channels left")
    return kept


def stay_note(groups: ChannelGroups, group: int, reason: Note) -> Note:
    """Make a note at the first kernel of a group that the group stays, with the reason."""
    kernels = groups.kernels(group)
    which = " = ".join(f"{name}[{kernel}]" for name, kernel in kernels[:4]) or f"group {group}"
    more = f" and {len(kernels) - 4} more" if len(kernels) > 4 else ""
    return Note(
        kernels[0][0] if kernels else reason.node,
        reason.code,
        f"{which}{more} stays: {reason.node}: {reason.reason}",
    )


def _take_constants(
    graph: gs.Graph,
    groups: ChannelGroups,
    gone: NDArray[np.bool_],
    constants: ChannelConstants,
    nodes: Mapping[str, gs.Node],
) -> list[tuple[gs.Node, NDArray[np.float64]]]:
    """Let carriers take what they must; return for every other reader what its kept kernels lose."""
    shifts = []
    for read in groups.reads:
        node = nodes[read.node]
        held = constants.at(node, read)
        if why_not_foldable(node):
            carry(graph, node, read, gone, held, constants.carriers)
            continue
        shift = reader_shift(node, read, gone, held)
        if shift is not None:
            shifts.append((node, shift[~gone[groups.tensors[read.node].groups]]))
    return shifts


def _add_to_bias(graph: gs.Graph, node: gs.Node, shift: NDArray[np.float64]) -> None:
    has_bias = len(node.inputs) > 2 and not node.inputs[2].is_empty()
    old: Any = constant_values(node.inputs[2]) if has_bias else None
    dtype = np.asarray(constant_values(node.inputs[1])).dtype
    beta = node.attrs.pop("beta", 1.0) if node.op == "Gemm" else 1.0
    new = shift if old is None else beta * old.astype(np.float64) + shift
    set_constant(graph, node, 2, new.astype(dtype), f"{node.name or node_key(node)}_bias")


def _cut_operands(
    graph: gs.Graph, groups: ChannelGroups, gone: NDArray[np.bool_], nodes: Mapping[str, gs.Node]
) -> None:
    """Cut each constant once per distinct cut; it keeps its name if all its readers cut it alike."""
    cuts: dict[tuple[str, int], dict[int, NDArray[np.bool_]]] = {}
    for operand in groups.operands:
        stays = ~gone[operand.groups]
        if not stays.all():
            cuts.setdefault((operand.node, operand.index), {})[operand.axis] = stays
    readers_by_cut: dict[int, dict[tuple[object, ...], list[tuple[gs.Node, int]]]] = {}
    for (key, index), axes in cuts.items():
        cut = tuple((axis, stays.tobytes()) for axis, stays in sorted(axes.items()))
        readers_by_cut.setdefault(id(nodes[key].inputs[index]), {}).setdefault(cut, []).append((nodes[key], index))
    for cuts_of_constant in readers_by_cut.values():
        for readers in cuts_of_constant.values():
            node, index = readers[0]
            old = node.inputs[index]
            values = np.asarray(old.values)
            axes = cuts[node_key(node), index]
            for axis, stays in sorted(axes.items(), key=lambda item: float(np.mean(item[1]))):
                values = np.compress(stays, values, axis)
            if len(readers) == len(old.outputs):
                old.values = values
                continue
            new = gs.Constant(fresh_name(graph, f"{old.name}_pruned"), values)
            for node, index in readers:
                node.inputs[index] = new
