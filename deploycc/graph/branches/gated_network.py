"""A network with all that lowering its gates needs to know about it: found once, and handed on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs

from deploycc.errors import Note
from deploycc.graph.branches.regions import Region, Span, find_span, region_of
from deploycc.graph.channels.groups import ChannelGroups, layer_names
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.gates.search import Gate, search_gates, with_kernels_moved


@dataclass(frozen=True, eq=False)
class GatedNetwork:
    """A network and its gates. All facts name nodes and tensors, so that they also hold for a copy of the graph.

    Attributes:
        graph: the network, with known shapes. After a change to it, read it again.
        gates: those that its structure proves, in graph order.
        notes: on what resembles a gate but is not one.
        groups: the channels of the graph.
        spans: for each gated convolution, and for each that reads what one makes: the nodes that a branch computes, or
            why no branch can compute the layer.
    """

    graph: gs.Graph
    gates: tuple[Gate, ...]
    notes: tuple[Note, ...]
    groups: ChannelGroups
    spans: Mapping[str, Span | Note]

    def gate_of(self, layer: str) -> Gate | None:
        """Return the gate of a convolution; None where it has none."""
        return next((gate for gate in self.gates if gate.layer == layer), None)

    def region(self, layer: str) -> Region | Note:
        """Return what a branch computes for a convolution, or why no branch can."""
        gate, span = self.gate_of(layer), self.spans.get(layer)
        if span is None:
            conv = next(node for node, name in layer_names(self.graph.nodes) if name == layer)
            span = find_span(self.graph, conv, gate)
        return span if isinstance(span, Note) else region_of(self.graph, span, gate)

    def copy(self) -> GatedNetwork:
        """Return the same facts about a copy of the graph."""
        return replace(self, graph=self.graph.copy())

    def with_kernels_moved(self) -> GatedNetwork:
        """Return the facts that hold after `deploycc.graph.channels.reorder.reorder_kernels` has changed the graph.

        The groups are those of before: see there.
        """
        return replace(self, gates=with_kernels_moved(self.graph, self.gates))


def read_gated_network(graph: gs.Graph) -> GatedNetwork:
    """Find the gates and channels of a network, and what branches can compute of it.

    Args:
        graph: named nodes, shapes known; stays as it is.
    """
    gates, notes = search_gates(graph)
    names = {id(node): name for node, name in layer_names(graph.nodes)}
    nodes, tensors = {name: node for node, name in layer_names(graph.nodes)}, graph.tensors()
    spans = {gate.layer: find_span(graph, nodes[gate.layer], gate) for gate in gates}
    exits = [tensors[span.exit] for span in spans.values() if isinstance(span, Span)]
    for reader in [reader for tensor in exits for reader in tensor.outputs]:
        name = names[id(reader)]
        if reader.op == "Conv" and name not in spans:
            spans[name] = find_span(graph, reader, None)
    return GatedNetwork(graph, gates, notes, channel_groups(graph), spans)
