"""Removing groups of channels from a graph, physically."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.errors import Note
from deploycc.graph.channels.constants import ChannelConstants, reader_shift
from deploycc.graph.channels.groups import ChannelGroups, node_key
from deploycc.graph.channels.reshaping import Shrunk, restate
from deploycc.graph.edit import constant_values, fresh_name, set_constant


@dataclass(frozen=True, eq=False)
class Removal:
    """What was removed.

    Attributes:
        groups: the groups that went, sorted.
        layers: for each layer that lost kernels, by name, the kernels it lost.
        notes: the groups that were asked for and stay, with the reason.
    """

    groups: tuple[int, ...]
    layers: Mapping[str, tuple[int, ...]]
    notes: tuple[Note, ...]


def remove_channels(
    graph: gs.Graph, groups: ChannelGroups, remove: Iterable[int], constants: ChannelConstants | None = None
) -> Removal:
    """Cut groups of channels out of every tensor that holds them.

    What it means: without ``constants`` a removed channel counts as zero wherever it ends (`ChannelGroups.reads`): the
    result equals the graph in which each reader sees zeros in the channel's place, whatever stands between the kernel
    and the reader. With A the columns that stay and R those that go, ``W x + b = W_A x_A + W_R 0 + b``.

    With ``constants`` it equals the graph in which the channel holds these constants: a reader's bias takes up what the
    channel would have added, ``W x + b = W_A x_A + (b + W_R c)``, which must be possible
    (`channel_constants.removable` says where).

    Pinned groups stay, and so does one group wherever all channels of a tensor would go.

    Args:
        graph: changed in place: weights, counts and stated shapes are cut, and shapes of variables follow. Constants
            that others read too are copied, not changed.
        groups: of this graph.
        remove: group numbers.
        constants: of this graph.
    """
    gone = np.zeros(groups.count, np.bool_)
    gone[list(remove)] = True
    notes = [stay_note(groups, group, why) for group, why in keep_back(groups, gone).items()]
    if gone.any():
        nodes = {node_key(node): node for node in graph.nodes}
        shifts = [] if constants is None else _shifts(groups, gone, constants, nodes)
        _cut_operands(graph, groups, gone, nodes)
        for node, shift in shifts:
            _add_to_bias(graph, node, shift)
        shrunk = Shrunk(graph, groups, gone)
        for node in graph.nodes:
            restate(shrunk, node)
        variables = graph.tensors()
        for name in groups.tensors:
            variables[name].shape = shrunk.shape(variables[name])
    kernels = {name: np.flatnonzero(gone[own]).tolist() for name, own in groups.layers.items()}
    lost = {name: tuple(indices) for name, indices in kernels.items() if indices}
    return Removal(tuple(np.flatnonzero(gone).tolist()), lost, tuple(notes))


def keep_back(groups: ChannelGroups, gone: NDArray[np.bool_]) -> dict[int, Note]:
    """Give back the groups that cannot go, in ``gone``: pinned ones, and the first wherever nothing would be left.

    Giving a group back empties nothing, so one round is enough.

    Returns:
        For each group given back the node or tensor and the reason.
    """
    back = {group: groups.pins[group] for group in np.flatnonzero(gone).tolist() if group in groups.pins}
    gone[list(back)] = False
    for name, labelled in groups.tensors.items():
        if gone[labelled.groups].all():
            first = int(labelled.groups[0])
            gone[first] = False
            back[first] = Note(name, "channel-last", "nothing would be left of its channels")
    return back


def stay_note(groups: ChannelGroups, group: int, why: Note) -> Note:
    """Say at the first kernel of a group that the group stays, and why."""
    kernels = groups.kernels(group)
    which = " = ".join(f"{name}[{kernel}]" for name, kernel in kernels[:4]) or f"group {group}"
    more = f" and {len(kernels) - 4} more" if len(kernels) > 4 else ""
    return Note(kernels[0][0] if kernels else why.node, why.code, f"{which}{more} stays: {why.node}: {why.reason}")


def _shifts(
    groups: ChannelGroups, gone: NDArray[np.bool_], constants: ChannelConstants, nodes: Mapping[str, gs.Node]
) -> list[tuple[gs.Node, NDArray[np.float64]]]:
    """What readers lose, for each kernel that they keep."""
    shifts = []
    for read in groups.reads:
        shift = reader_shift(nodes[read.node], read, gone, constants)
        if shift is not None:
            shifts.append((nodes[read.node], shift[~gone[groups.tensors[read.node].groups]]))
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
    """Cut each constant once for each way in which it is read; it keeps its name where all read it alike."""
    cuts: dict[tuple[str, int], dict[int, NDArray[np.bool_]]] = {}
    for operand in groups.operands:
        stays = ~gone[operand.groups]
        if not stays.all():
            cuts.setdefault((operand.node, operand.index), {})[operand.axis] = stays
    ways: dict[int, dict[tuple[object, ...], list[tuple[gs.Node, int]]]] = {}
    for (key, index), axes in cuts.items():
        way = tuple((axis, stays.tobytes()) for axis, stays in sorted(axes.items()))
        ways.setdefault(id(nodes[key].inputs[index]), {}).setdefault(way, []).append((nodes[key], index))
    for alternatives in ways.values():
        for readers in alternatives.values():
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
