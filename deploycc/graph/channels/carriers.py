"""Which removed channels stay as carriers of the others' constants (`deploycc.graph.channels.readers`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.errors import Note
from deploycc.graph.channels.constants import ChannelConstants, removable
from deploycc.graph.channels.groups import ChannelGroups, Read, layer_names, node_key
from deploycc.graph.channels.readers import Values, can_carry, carrier_column, why_not_foldable
from deploycc.graph.channels.removal import stay_note
from deploycc.graph.edit import constant_values, set_constant

_LEAST = 1 / 8  # of the largest constant: what makes up for a small one is a large weight, and FP16 has no room for it


def pick_carriers(
    graph: gs.Graph, groups: ChannelGroups, constants: ChannelConstants, use: Mapping[int, float]
) -> frozenset[int]:
    """Pick the least used channels of which one is enough at each reader that cannot fold what it would lose.

    Args:
        graph: not changed.
        groups: of this graph.
        constants: with the kernels of all groups in ``use`` zeroed, and without carriers.
        use: of each group that could go.

    Returns:
        The groups; none for a reader that would lose only one channel, which the carrier would replace.
    """
    blocked = can_be_carriers(graph, groups, removable(graph, groups, constants).blocked) & set(use)
    reads = list(_unfoldable(graph, groups, constants))
    for node, read, held in reads:
        if not can_carry(node):
            blocked.difference_update(read.groups[held != 0].tolist())
    picked: set[int] = set()
    for node, read, held in reads:
        size = np.where(np.isin(read.groups, list(blocked)) & np.isfinite(held), np.abs(held), 0.0)
        waiting = set(read.groups[size > 0].tolist())
        fit = set(read.groups[(size > 0) & (size >= _LEAST * size.max(initial=0.0))].tolist())
        if can_carry(node) and len(waiting) > 1 and not fit & picked:
            picked.add(min(fit, key=lambda group: (use[group], group)))
    return frozenset(picked)


def can_be_carriers(graph: gs.Graph, groups: ChannelGroups, among: Iterable[int]) -> set[int]:
    """Return the groups whose kernels can all be made zero, which nothing but the network itself sees."""
    layers = {name for node, name in layer_names(graph.nodes) if node.op == "Conv"}
    return {
        group
        for group in among
        if group not in groups.pins and all(name in layers for name, _ in groups.kernels(group))
    }


def carried(
    graph: gs.Graph, groups: ChannelGroups, constants: ChannelConstants, gone: NDArray[np.bool_]
) -> dict[int, Note]:
    """Return the carriers that are needed where channels are removed, each with its first reader and the reason."""
    needed: dict[int, Note] = {}
    for node, read, held in _unfoldable(graph, groups, constants):
        lost = np.unique(read.groups[gone[read.groups] & (np.nan_to_num(held) != 0)])
        column = carrier_column(node, read, held, constants.carriers)
        if column is not None and len(lost):
            channels = f"{len(lost)} removed channels" if len(lost) > 1 else "a removed channel"
            reason = f"it gets what {channels} would add through this one, whose kernels are zero now"
            needed.setdefault(int(read.groups[column]), Note(node.name or read.node, "channel-carrier", reason))
    return needed


def carrier_notes(groups: ChannelGroups, needed: Mapping[int, Note]) -> tuple[Note, ...]:
    """Say of each carrier why it stays."""
    return tuple(stay_note(groups, group, reason) for group, reason in sorted(needed.items(), key=lambda item: item[0]))


def silence(graph: gs.Graph, kernels: Mapping[str, Iterable[int]]) -> None:
    """Make kernels of convolutions zero, with their biases.

    Args:
        graph: changed in place.
        kernels: by layer.
    """
    for node, name in list(layer_names(graph.nodes)):
        silent = list(kernels.get(name, ()))
        for index in (1, 2) if silent and node.op == "Conv" else ():
            values = constant_values(node.inputs[index]) if index < len(node.inputs) else None
            if values is not None:
                values = values.copy()
                values[silent] = 0
                set_constant(graph, node, index, values, f"{name}_silenced")


def _unfoldable(
    graph: gs.Graph, groups: ChannelGroups, constants: ChannelConstants
) -> Iterator[tuple[gs.Node, Read, Values]]:
    """Yield the readers that cannot fold a constant into their bias, with what they read."""
    nodes = {node_key(node): node for node in graph.nodes}
    for read in groups.reads:
        node = nodes[read.node]
        if why_not_foldable(node):
            yield node, read, constants.at(node, read)
