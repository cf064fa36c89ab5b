"""Removing whole blocks, and kernels that do nothing with every channel that depends on them."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.detector import Detector
from deploycc.errors import ModelError, Note
from deploycc.graph.blocks.removal import remove_block
from deploycc.graph.blocks.search import Key
from deploycc.graph.channels.carriers import can_be_carriers, carried, carrier_notes, silence
from deploycc.graph.channels.constants import ChannelConstants, channel_constants, removable
from deploycc.graph.channels.groups import ChannelGroups, layer_names
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.channels.removal import keep_back, remove_channels, stay_note
from deploycc.graph.cost import Cost, measure_cost, node_macs, node_params
from deploycc.graph.gates.search import describe_again
from deploycc.graph.split import Split, split_heads
from deploycc.passes.options import Options, Prune
from deploycc.passes.runner import Result


@dataclass(frozen=True)
class LayerChange:
    """One layer around pruning.

    Attributes:
        name, op: the node.
        kernels: before and after; none where the layer is gone.
        macs: multiply-accumulates for one picture, before and after.
        params: elements of its constants, before and after.
    """

    name: str
    op: str
    kernels: tuple[int, int]
    macs: tuple[int, int]
    params: tuple[int, int]


@dataclass(frozen=True)
class PruneReport:
    """What pruning did.

    Attributes:
        before, after: size of the network.
        split: back-end and front-end before and after; None for a detector without raw heads.
        layers: every layer with kernels, in graph order.
        removed: kernels that were removed, by layer, numbered as before.
        stays: every group that was to be removed and stays, with the reason and the node.
        unknown: what the channel analysis had to pin, whether it was to be removed or not.
    """

    before: Cost
    after: Cost
    split: tuple[Split, Split] | None
    layers: tuple[LayerChange, ...]
    removed: Mapping[str, tuple[int, ...]]
    stays: tuple[Note, ...]
    unknown: tuple[Note, ...]


def prune_channels(detector: Detector, options: Options) -> Result:
    """Remove the blocks and the kernels of ``options.prune``; does nothing without.

    A kernel's output counts as zero. The operators after it turn that zero into a constant (a shift, the bias of a
    depthwise convolution), and the readers add the constant to their bias: ``W x + b = W_A x_A + (b + W_R c)``. A
    channel group is removed where all its readers can do so, or have a carrier, a kernel of zeros that stays. Otherwise
    the whole group stays as it was, with a note.

    Before: ``y = Relu(Conv(x, W[64, 3, 3, 3])); z = Conv(y, V[8, 64, 1, 1])``
    After:  ``y = Relu(Conv(x, W'[48, 3, 3, 3])); z = Conv(y, V'[8, 48, 1, 1])``
    """
    if options.prune is None:
        return Result(detector, False)
    report = prune(detector, options.prune)
    if detector.gates:
        detector = replace(detector, gates=describe_again(detector.graph, detector.gates))  # they lost kernels too
    return Result(detector, bool(report.removed), (*report.stays, *report.unknown))


def prune(detector: Detector, wanted: Prune) -> PruneReport:
    """Prune a detector's graph in place and report what was done.

    Raises:
        ModelError: ``wanted`` names a block, a layer or a kernel that is not there.
    """
    graph = detector.graph
    groups = channel_groups(graph)
    before, layers, split = measure_cost(graph), _layers(graph, groups), _split(detector)
    left = {name: tuple(range(len(labels))) for name, labels in groups.layers.items()}
    for key in wanted.blocks:
        left = remove_whole(graph, key, left)
    if wanted.blocks:
        groups = channel_groups(graph)
    check_kernels(groups, wanted.kernels)
    check_kernels(groups, wanted.carriers)
    chosen, constants, stays = choose(graph, groups, wanted)
    leaves = np.zeros(groups.count, np.bool_)
    leaves[list(chosen)] = True
    stays += carrier_notes(groups, carried(graph, groups, constants, leaves))
    silence(graph, _those_in(groups, _listed(wanted), constants.carriers))
    removal = remove_channels(graph, groups, chosen, constants)
    after = _layers(graph, groups)
    stay = {name: _picked(kernels, removal.layers.get(name, ())) for name, kernels in left.items()}
    gone = ("", 0, 0, 0)
    return PruneReport(
        before=before,
        after=measure_cost(graph),
        split=None if split is None else (split, _split(detector) or split),
        layers=tuple(
            LayerChange(name, op, *zip((k, m, p), after.get(name, gone)[1:], strict=True))
            for name, (op, k, m, p) in layers.items()
        ),
        removed={name: lost for name, (_, k, *_) in layers.items() if (lost := _without(range(k), stay.get(name, ())))},
        stays=(*stays, *removal.notes),
        unknown=groups.notes,
    )


def remove_whole(graph: gs.Graph, key: Key, left: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Remove a block from a graph.

    Args:
        graph: changed in place.
        key: of the block.
        left: layer to its kernels, numbered as in the whole network.

    Returns:
        The same without what is gone.

    Raises:
        ModelError: ``prune-unknown-block``.
    """
    lost = remove_block(graph, key)
    if lost is None:
        raise ModelError(
            "prune-unknown-block",
            f"the network has no block that computes {key[1]} and can go",
            context={"block": f"{key[0]} {key[1]}"},
            hint="decide the pruning again for this network",
        )
    return {name: stay for name, kernels in left.items() if (stay := _picked(kernels, lost.get(name, ())))}


def _without(kernels: Iterable[int], gone: Iterable[int]) -> tuple[int, ...]:
    dropped = set(gone)
    return tuple(kernel for kernel in kernels if kernel not in dropped)


def _picked(kernels: tuple[int, ...], lost: Iterable[int]) -> tuple[int, ...]:
    """The kernels that are not at the lost positions."""
    return tuple(kernels[index] for index in _without(range(len(kernels)), lost))


def check_kernels(groups: ChannelGroups, kernels: Mapping[str, Iterable[int]]) -> None:
    """Refuse layers and kernels that a network does not have.

    Raises:
        ModelError: with the closest name or the range.
    """
    for name, indices in kernels.items():
        if name not in groups.layers:
            close = difflib.get_close_matches(name, groups.layers, n=1)
            raise ModelError(
                "prune-unknown-layer",
                f"the network has no layer {name} with kernels",
                context={"layer": name},
                note="layers with kernels are convolutions and matrix products with constant weights",
                hint=f"did you mean {close[0]}?" if close else None,
            )
        count = len(groups.layers[name])
        wrong = [index for index in indices if not 0 <= index < count]
        if wrong:
            raise ModelError(
                "prune-unknown-kernel",
                f"layer {name} has no kernel {wrong[0]}",
                context={"layer": name, "kernels": f"0 to {count - 1}"},
            )


def choose(
    graph: gs.Graph, groups: ChannelGroups, wanted: Prune
) -> tuple[set[int], ChannelConstants, tuple[Note, ...]]:
    """Choose the groups that can be removed where kernels count as zero.

    A kernel whose group stays no longer counts as zero, which may make other groups stay: repeated until nothing
    changes. Carriers that nothing needs are kernels like all others.

    Returns:
        The groups, what their channels hold with the carriers that are needed, and notes on the groups that stay.
    """
    listed, reasons = groups.of_kernels(wanted.kernels), {}
    carriers = can_be_carriers(graph, groups, groups.of_kernels(wanted.carriers))
    candidates = listed | carriers
    while True:
        zeroed = _those_in(groups, _listed(wanted), candidates)
        constants = channel_constants(graph, groups, zeroed, carriers)
        able = removable(graph, groups, constants)
        gone = np.zeros(groups.count, np.bool_)
        gone[list(able.groups if wanted.dead else able.groups & candidates)] = True
        back = keep_back(groups, gone)
        idle = carriers - set(carried(graph, groups, constants, gone))
        stays = {group for group in candidates - carriers if not gone[group]}
        for group in stays:
            found = back.get(group) or groups.pins.get(group) or able.blocked.get(group)
            reasons[group] = found or _in_use(groups, group, wanted.kernels)
        if not stays and not idle:
            notes = tuple(stay_note(groups, group, reasons[group]) for group in sorted(reasons))
            return set(np.flatnonzero(gone).tolist()), constants, notes
        carriers -= idle
        candidates -= stays | (idle - listed)


def _listed(wanted: Prune) -> dict[str, tuple[int, ...]]:
    """The kernels that count as zero, whether they go or stay."""
    names = {**wanted.kernels, **wanted.carriers}
    return {name: (*wanted.kernels.get(name, ()), *wanted.carriers.get(name, ())) for name in names}


def _those_in(
    groups: ChannelGroups, kernels: Mapping[str, Iterable[int]], chosen: Container[int]
) -> dict[str, tuple[int, ...]]:
    """The kernels that belong to chosen groups."""
    picked = {name: tuple(k for k in listed if groups.layers[name][k] in chosen) for name, listed in kernels.items()}
    return {name: some for name, some in picked.items() if some}


def _in_use(groups: ChannelGroups, group: int, wanted: Mapping[str, Iterable[int]]) -> Note:
    """Say why a group varies although some of its kernels count as zero."""
    other = [(name, kernel) for name, kernel in groups.kernels(group) if kernel not in set(wanted.get(name, ()))]
    if other:
        name, kernel = other[0]
        return Note(name, "channel-shared", f"its kernel {kernel} holds the same channel and is not removed")
    return Note(groups.kernels(group)[0][0], "channel-in-use", "what reads it does not see a constant")


def _layers(graph: gs.Graph, groups: ChannelGroups) -> dict[str, tuple[str, int, int, int]]:
    """Operator, kernels, MACs and parameters of each layer."""
    found = {}
    for node, name in layer_names(graph.nodes):
        if name in groups.layers:
            axis = groups.tensors[groups.outputs[name]].axis
            found[name] = (str(node.op), int(node.outputs[0].shape[axis]), node_macs(node), node_params(node))
    return found


def _split(detector: Detector) -> Split | None:
    heads = detector.heads
    return None if heads is None else split_heads(detector.graph, heads.locations, heads.scores)
