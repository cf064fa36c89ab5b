"""Kernel gates become conditional branches that skip work, where the plan says so."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.detector import Detector
from deploycc.documents.gate_plan import LayerPlan
from deploycc.errors import ModelError, Note
from deploycc.graph.branches.conditional_layers import Layer, write_layers
from deploycc.graph.branches.gated_network import GatedNetwork, read_gated_network
from deploycc.graph.branches.regions import Region, joins
from deploycc.graph.branches.shared_part import find_shared_part, write_variants
from deploycc.graph.channels.groups import ChannelGroups, layer_names
from deploycc.graph.channels.reorder import reorder_kernels
from deploycc.graph.gates.search import describe_again, gates_by_decision
from deploycc.graph.shapes import infer_shapes
from deploycc.passes.options import Options
from deploycc.passes.runner import Result


def lower_gates(detector: Detector, options: Options) -> Result:
    """Carry out ``options.gate_plan``; does nothing without. The outputs stay the same for every picture.

    * Kernels are put into the planned order, and everything that reads them follows.
    * ``widths``: nested `If` nodes choose the smallest planned width that covers every kernel that is on. A branch
      holds the layer with the kernels behind its width removed, and pads its maps with zeros to their full number.
      A joined layer is computed inside, from the narrow maps, its gate too; so are activations and poolings behind.
    * ``variants``: where one decision switches several layers, nested `If` nodes choose between copies of everything
      that holds a switched channel, each without those that its condition makes zero. Kernels keep their places.
    * ``blocks``: each block is an `If` whose other branch is zeros; the blocks are concatenated.
    * Inside a branch the gate still multiplies, unless the branch is only taken with all its kernels on. Units that
      are always on, as the first of nested ones trained here, count as such.

    A layer that cannot be lowered exactly stays a multiply, with a note; so do all layers where the target's runtime
    has no conditional execution.

    Before: ``y = Relu(Mul(Conv(x, W[64, 32, 3, 3]), Cast(Greater(s, 0.5))))``
    After:  ``y = If(Greater(ReduceMax(s[16:]), 0.5)) { Mul(Relu(Conv(x, W)), Cast(Greater(s, 0.5))) }
    else { Pad(Mul(Relu(Conv(x, W[:16])), Cast(Greater(s[:16], 0.5)))) }``

    Raises:
        ModelError: ``gate-plan-unknown-layer``, ``gate-plan-kernels``: the plan is not one of this network.
    """
    wanted = [layer for layer in options.gate_plan if layer.lowering != "multiply"]
    if not wanted:
        return Result(detector, changed=False)
    graph = detector.graph
    infer_shapes(graph)
    network = read_gated_network(graph)
    _check(network.groups, options.gate_plan)
    if options.no_conditional:
        notes = tuple(Note(layer.layer, "gate-no-conditional", options.no_conditional) for layer in wanted)
        return Result(detector, changed=False, notes=notes)
    notes = _carry_out(network, wanted)
    infer_shapes(graph)
    changed = replace(detector, gates=describe_again(graph, detector.gates))
    return Result(changed, changed=True, notes=notes)


def lowered_copy(network: GatedNetwork, plan: Sequence[LayerPlan]) -> gs.Graph:
    """Return a copy of the network in which the plan is carried out, as `lower_gates` does it."""
    copy = network.copy()
    _carry_out(copy, [layer for layer in plan if layer.lowering != "multiply"])
    return copy.graph


def _carry_out(network: GatedNetwork, plan: Sequence[LayerPlan]) -> tuple[Note, ...]:
    """Change the graph of ``network`` as the plan says."""
    graph = network.graph
    with_variants = [layer for layer in plan if layer.lowering == "variants"]
    others = [layer for layer in plan if layer.lowering != "variants"]
    notes = reorder_kernels(graph, network.groups, {layer.layer: layer.order for layer in others})
    unordered = {note.node for note in notes}
    others = [layer for layer in others if layer.layer not in unordered]
    if any(layer.order != tuple(range(layer.kernels)) for layer in others):
        network = read_gated_network(graph) if with_variants else network.with_kernels_moved()
    if with_variants:
        notes += _variants(network, with_variants)
        network = read_gated_network(graph) if others else network
    layers, unfit = _layers(network, others)
    notes += unfit
    for chain in _chains(layers):
        notes += write_layers(graph, chain)
    graph.cleanup().toposort()
    return notes


def _check(groups: ChannelGroups, plan: Sequence[LayerPlan]) -> None:
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
                f"layer {layer.layer} has {len(kernels)} kernels, and {layer.kernels} in the gate plan",
                note="pruning changes numbers of kernels, so that it comes before planning",
                hint="make the plan again for this network",
            )


def _variants(network: GatedNetwork, plan: Sequence[LayerPlan]) -> tuple[Note, ...]:
    """Carry out ``variants``, decision by decision."""
    planned = {layer.layer: layer for layer in plan}
    graph, changed = network.graph, False
    notes = []
    while planned:
        if changed:  # what became branches holds no gates any more
            network = read_gated_network(graph)
        decisions = gates_by_decision(network.gates)
        gates = next((own for own in decisions if any(gate.layer in planned for gate in own)), ())
        own = [planned.pop(gate.layer) for gate in gates if gate.layer in planned]
        if not own:
            break
        if len(own) < len(gates) or len({len(each.sizes) for each in own}) > 1:
            reason = "the plan does not have as many variants of every layer that this decision switches"
            notes.append(Note(own[0].layer, "gate-not-shared", reason))
            continue
        part = find_shared_part(network, gates)
        if isinstance(part, Note):
            notes.append(part)
            continue
        keeps = [{each.layer: np.isin(np.arange(each.kernels), each.order[: each.sizes[number]]) for each in own}
                 for number in range(len(own[0].sizes))]  # fmt: skip
        notes += write_variants(graph, part, keeps)
        graph.cleanup().toposort()
        changed = True
    notes += [Note(name, "gate-missing", "no gate switches its kernels") for name in planned]
    return tuple(notes)


def _layers(network: GatedNetwork, plan: Sequence[LayerPlan]) -> tuple[list[Layer], tuple[Note, ...]]:
    """The layers that can be lowered; a joined one that cannot stand inside stands alone where it has a gate."""
    graph = network.graph
    nodes = {name: node for node, name in layer_names(graph.nodes)}
    layers: list[Layer] = []
    said: list[Note] = []
    before: Region | None = None
    for entry in plan:
        found = _region(network, nodes[entry.layer], entry)
        if isinstance(found, Note):
            said.append(found)
            before = None
            continue
        joined = entry.joined
        if joined and (reason := "the layer before it stays" if before is None else joins(graph, before, found)):
            said.append(Note(entry.layer, "gate-not-joined", f"it is not computed inside other branches: {reason}"))
            joined = False
        if found.gate is None and not joined:
            before = None
            continue
        layers.append(Layer(found, entry.model_copy(update={"joined": joined})))
        before = found
    return layers, tuple(said)


def _region(network: GatedNetwork, conv: gs.Node, plan: LayerPlan) -> Region | Note:
    if conv.op != "Conv":
        return Note(plan.layer, "gate-shape", f"it is a {conv.op}; only convolutions become branches")
    found = network.region(plan.layer)
    whole = plan.joined and plan.lowering == "widths" and plan.sizes == (plan.kernels,)
    if isinstance(found, Region) and found.gate is None and not whole:
        why = _why_no_gate(conv, {note.node: note.reason for note in network.notes})
        return Note(plan.layer, "gate-missing", "no gate switches its kernels" + (f"; {why}" if why else ""))
    return found


def _why_no_gate(conv: gs.Node, reasons: dict[str, str]) -> str:
    """What was said about a node between this convolution and the next ones; empty where nothing was."""
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
