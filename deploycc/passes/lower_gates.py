"""Kernel gates become conditional branches that skip work, where the plan says so."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.detector import Detector
from deploycc.documents.gate_plan import LayerPlan
from deploycc.errors import ModelError, Note
from deploycc.graph.branches.conditional_layers import Layer, write_layers
from deploycc.graph.branches.gated_network import GatedNetwork, read_gated_network
from deploycc.graph.branches.narrowed_part import Keep
from deploycc.graph.branches.regions import Region, joins
from deploycc.graph.branches.shared_part import find_shared_part, write_variants
from deploycc.graph.channels.groups import ChannelGroups, layer_names
from deploycc.graph.channels.reorder import reorder_kernels
from deploycc.graph.gates.search import describe_again, gates_by_decision
from deploycc.graph.shapes import infer_shapes
from deploycc.passes.options import Options
from deploycc.passes.runner import Result


def lower_gates(detector: Detector, options: Options) -> Result:
    """Lower gates as ``options.gate_plan`` says; without a plan, do nothing. The outputs stay the same.

    * Kernels are put into the planned order, and everything that reads them follows.
    * ``widths``: nested `If` nodes choose the smallest planned width that covers every kernel that is on. A branch
      holds the layer without the kernels beyond its width, and pads its maps with zeros to their full number. A joined
      layer and its gate are computed inside the branch, from the narrow maps, as are activations and poolings after it.
    * ``variants``: where one decision switches several layers, nested `If` nodes choose between copies of everything
      that holds a switched channel, each without the channels that its condition makes zero. Kernels keep their order.
    * ``blocks``: each block is an `If` whose other branch returns zeros; the blocks are concatenated.
    * A branch still multiplies by the gate, unless it is only taken with all its kernels on. Units that are always on,
      such as the first of those nested units that deploycc trains, count as on.

    Where the parser handles only plain conditionals (``options.plain_conditionals``), none is nested: widths become
    blocks, joined layers are lowered by themselves, and variants are chosen one by one.

    A gate that cannot be lowered exactly stays a multiply, with a note. So do all gates where the target's runtime has
    no conditional execution.

    Before: ``y = Relu(Mul(Conv(x, W[64, 32, 3, 3]), Cast(Greater(s, 0.5))))``
    After:  ``y = If(Greater(ReduceMax(s[16:]), 0.5)) { Mul(Relu(Conv(x, W)), Cast(Greater(s, 0.5))) }
    else { Pad(Mul(Relu(Conv(x, W[:16])), Cast(Greater(s[:16], 0.5)))) }``

    Raises:
        ModelError: ``gate-plan-unknown-layer``, ``gate-plan-kernels``: the plan is for another network.
    """
    wanted = [layer for layer in options.gate_plan if layer.lowering != "multiply"]
    if not wanted:
        return Result(detector, changed=False)
    graph = detector.graph
    infer_shapes(graph)
    network = read_gated_network(graph)
    check_plan(network.groups, options.gate_plan)
    if options.no_conditional:
        notes = tuple(Note(layer.layer, "gate-no-conditional", options.no_conditional) for layer in wanted)
        return Result(detector, changed=False, notes=notes)
    notes = ()
    if options.plain_conditionals:
        wanted, notes = _plain(wanted)
    notes += _carry_out(network, wanted, plain=options.plain_conditionals)
    infer_shapes(graph)
    changed = replace(detector, gates=describe_again(graph, detector.gates))
    return Result(changed, changed=True, notes=notes)


def lowered_copy(network: GatedNetwork, plan: Sequence[LayerPlan]) -> gs.Graph:
    """Return a copy of the network with gates lowered as `lower_gates` does it."""
    copy = network.copy()
    _carry_out(copy, [layer for layer in plan if layer.lowering != "multiply"])
    return copy.graph


def _plain(plan: Sequence[LayerPlan]) -> tuple[list[LayerPlan], tuple[Note, ...]]:
    """Return a plan without nested branches that computes the same: each step from a width to the next is a block."""
    plain, changed = [], []
    for layer in plan:
        alone = layer.model_copy(update={"joined": False})
        steps = tuple(after - before for before, after in itertools.pairwise(layer.sizes))
        if layer.joined or (layer.lowering == "widths" and len(steps) > 1):
            changed.append(layer.layer)
        if layer.lowering != "widths":
            plain.append(alone)
        elif steps:
            plain.append(alone.model_copy(update={"lowering": "blocks", "sizes": steps, "always": layer.sizes[0]}))
    reason = "the parser mishandles branches inside branches: widths are written as blocks, and no layer is joined"
    return plain, tuple(Note(name, "gate-plain-branches", reason) for name in changed)


def _carry_out(network: GatedNetwork, plan: Sequence[LayerPlan], *, plain: bool = False) -> tuple[Note, ...]:
    """Lower gates in the graph of ``network``."""
    graph = network.graph
    with_variants = [layer for layer in plan if layer.lowering == "variants"]
    others = [layer for layer in plan if layer.lowering != "variants"]
    notes = reorder_kernels(graph, network.groups, {layer.layer: layer.order for layer in others})
    unordered = {note.node for note in notes}
    others = [layer for layer in others if layer.layer not in unordered]
    if any(layer.order != tuple(range(layer.kernels)) for layer in others):
        network = read_gated_network(graph) if with_variants else network.with_kernels_moved()
    if with_variants:
        notes += _variants(network, with_variants, plain=plain)
        network = read_gated_network(graph) if others else network
    layers, unfit = _layers(network, others)
    notes += unfit
    for chain in _chains(layers):
        notes += write_layers(graph, chain)
    graph.cleanup().toposort()
    return notes


def check_plan(groups: ChannelGroups, plan: Sequence[LayerPlan]) -> None:
    """Refuse a plan for another network.

    Raises:
        ModelError: ``gate-plan-unknown-layer``, ``gate-plan-kernels``.
    """
    for layer in plan:
        kernels = groups.layers.get(layer.layer)
        if kernels is None:
            close = difflib.get_close_matches(layer.layer, groups.layers, n=1)
            raise ModelError(
                "gate-plan-unknown-layer",
                f"the gate plan names layer {layer.layer}, which the network does not have",
                hint=f"did you mean {close[0]}?" if close else "make the plan again for this network",
            )
        if len(kernels) != layer.kernels:
            raise ModelError(
                "gate-plan-kernels",
                f"layer {layer.layer} has {len(kernels)} kernels, but {layer.kernels} in the gate plan",
                note="pruning changes numbers of kernels, so it must come before planning",
                hint="make the plan again for this network",
            )


def _variants(network: GatedNetwork, plan: Sequence[LayerPlan], *, plain: bool) -> tuple[Note, ...]:
    """Write the ``variants`` of a plan, decision by decision."""
    planned = {layer.layer: layer for layer in plan}
    graph, changed = network.graph, False
    notes = []
    while planned:
        if changed:  # gates of what is in branches now are gone
            network = read_gated_network(graph)
        decisions = gates_by_decision(network.gates)
        gates = next((gates for gates in decisions if any(gate.layer in planned for gate in gates)), ())
        layers = [planned.pop(gate.layer) for gate in gates if gate.layer in planned]
        if not layers:
            break
        if len(layers) < len(gates) or len({len(layer.sizes) for layer in layers}) > 1:
            reason = "the plan does not have the same number of variants for every layer that this decision switches"
            notes.append(Note(layers[0].layer, "gate-not-shared", reason))
            continue
        part = find_shared_part(network, gates)
        if isinstance(part, Note):
            notes.append(part)
            continue
        notes += write_variants(graph, part, kernels_of_variants(layers), plain=plain)
        graph.cleanup().toposort()
        changed = True
    notes += [Note(name, "gate-missing", "no gate switches its kernels") for name in planned]
    return tuple(notes)


def kernels_of_variants(layers: Sequence[LayerPlan]) -> list[dict[str, Keep]]:
    """Return for each of the ``variants`` that layers of one decision have, and each layer, which kernels it holds."""
    return [
        {layer.layer: np.isin(np.arange(layer.kernels), layer.order[: layer.sizes[number]]) for layer in layers}
        for number in range(len(layers[0].sizes))
    ]


def _layers(network: GatedNetwork, plan: Sequence[LayerPlan]) -> tuple[list[Layer], tuple[Note, ...]]:
    """Return the layers that can be lowered; a gated one that cannot be joined is lowered by itself."""
    graph = network.graph
    nodes = {name: node for node, name in layer_names(graph.nodes)}
    layers: list[Layer] = []
    notes: list[Note] = []
    before: Region | None = None
    for entry in plan:
        region = _region(network, nodes[entry.layer], entry)
        if isinstance(region, Note):
            notes.append(region)
            before = None
            continue
        joined = entry.joined
        if joined and (reason := "the layer before it stays" if before is None else joins(graph, before, region)):
            notes.append(Note(entry.layer, "gate-not-joined", f"it is not computed inside other branches: {reason}"))
            joined = False
        if region.gate is None and not joined:
            before = None
            continue
        layers.append(Layer(region, entry.model_copy(update={"joined": joined})))
        before = region
    return layers, tuple(notes)


def _region(network: GatedNetwork, conv: gs.Node, plan: LayerPlan) -> Region | Note:
    if conv.op != "Conv":
        return Note(plan.layer, "gate-shape", f"it is a {conv.op}; only convolutions become branches")
    region = network.region(plan.layer)
    whole = plan.joined and plan.lowering == "widths" and plan.sizes == (plan.kernels,)
    if isinstance(region, Region) and region.gate is None and not whole:
        reason = _why_no_gate(conv, {note.node: note.reason for note in network.notes})
        return Note(plan.layer, "gate-missing", "no gate switches its kernels" + (f"; {reason}" if reason else ""))
    return region


def _why_no_gate(conv: gs.Node, reasons: dict[str, str]) -> str:
    """Return what the search for gates noted on a node between this convolution and the next ones; maybe nothing."""
    queue, seen = list(conv.outputs[0].outputs), {id(conv)}
    while queue:
        node = queue.pop()
        if node.name in reasons:
            return reasons[node.name]
        if id(node) not in seen and node.op != "Conv":
            seen.add(id(node))
            queue += [reader for tensor in node.outputs for reader in tensor.outputs]
    return ""


def _chains(layers: Sequence[Layer]) -> list[list[Layer]]:
    chains: list[list[Layer]] = []
    for layer in layers:
        if layer.plan.joined:
            chains[-1].append(layer)
        else:
            chains.append([layer])
    return chains
