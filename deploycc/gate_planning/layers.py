"""From a network and its recorded gate decisions to the layers that the planner works on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.documents.gate_plan import LayerPlan
from deploycc.errors import Note
from deploycc.gate_planning.regions import PlannedLayer
from deploycc.graph.branches.gated_network import GatedNetwork
from deploycc.graph.branches.regions import Region, joins
from deploycc.graph.channels.reorder import reorder_kernels
from deploycc.graph.cost import measure_cost
from deploycc.graph.edit import producer, static_shape
from deploycc.graph.gates.search import Gate
from deploycc.timing.convolutions import convolution_of

_FLOAT_BYTES = 4
_FILE_BYTES = 2**31 - 2**26  # protobuf's limit, with room for everything but weights


def planned_layers(
    network: GatedNetwork, gates: Sequence[Gate], active: Mapping[str, NDArray[np.bool_]]
) -> tuple[tuple[PlannedLayer, ...], tuple[Note, ...]]:
    """Read the gated convolutions, and those that may be taken along.

    Args:
        network: after the passes that come before gates are lowered.
        gates: of the network, as its file describes them.
        active: for each gated layer the recorded decisions, [pictures, kernels].

    Returns:
        The layers, each that joins another right after it, and notes on gates that must stay a multiply.
    """
    graph = network.graph
    nodes = {node.name: node for node in graph.nodes}
    described = {gate.layer: gate for gate in gates}
    regions = {name: _region(network, nodes[name]) for name in described}
    pictures = len(next(iter(active.values())))
    layers: list[PlannedLayer] = []
    for name, region in regions.items():
        if isinstance(region, Note) and convolution_of(nodes[name]) is not None:
            layers.append(_layer(graph, nodes[name], None, active[name], described[name].unit_of, divisible=False))
    for chain in _chains(network, regions):
        for number, region in enumerate(chain):
            gate = described.get(region.layer)
            decisions = active[region.layer] if gate else np.ones((pictures, region.kernels), np.bool_)
            unit_of = gate.unit_of if gate else (0,) * region.kernels
            layer = _layer(graph, nodes[region.layer], region, decisions, unit_of)
            layers.append(
                replace(
                    layer,
                    joins=number > 0,
                    gated=gate is not None,
                    movable=gate is not None,
                    nested=gate is not None and gate.granularity == "nested",
                )
            )
    return tuple(layers), tuple(region for region in regions.values() if isinstance(region, Note))


def fix_unmovable(
    network: GatedNetwork, layers: Sequence[PlannedLayer], plans: Sequence[LayerPlan]
) -> tuple[tuple[PlannedLayer, ...], tuple[Note, ...]]:
    """Try the planned orders of kernels on a copy of the network.

    Args:
        network: stays as it is.
        layers: of the network.
        plans: for some of them.

    Returns:
        The layers, with those marked as not movable whose kernels cannot take the planned places, and a note on each.
    """
    moving = [plan for plan in plans if plan.lowering != "variants"]  # with variants, kernels keep their places
    orders = {plan.layer: plan.order for plan in moving if plan.order != tuple(range(plan.kernels))}
    notes = reorder_kernels(network.graph.copy(), network.groups, orders)
    stuck = {note.node for note in notes}
    return tuple(replace(layer, movable=layer.movable and layer.name not in stuck) for layer in layers), notes


def added_bytes_allowed(graph: gs.Graph, max_growth: float) -> float:
    """Return how many bytes of weights branches may hold beyond one copy of each weight.

    Args:
        graph: the network.
        max_growth: bound as a multiple of all weights. The file has to stay below 2 GiB in any case.
    """
    weight_bytes = _FLOAT_BYTES * measure_cost(graph).params
    return max(0.0, min(max_growth * weight_bytes, _FILE_BYTES - weight_bytes))


def _region(network: GatedNetwork, conv: gs.Node) -> Region | Note:
    if conv.op != "Conv":
        return Note(conv.name, "gate-shape", f"it is a {conv.op}; only convolutions become branches")
    if convolution_of(conv) is None:
        return Note(conv.name, "gate-shape", "its padding is not stated in numbers, so its time cannot be predicted")
    return network.region(conv.name)


def _chains(network: GatedNetwork, gated: Mapping[str, Region | Note]) -> list[list[Region]]:
    """Return rows of regions in which each but the first joins the one before, with ungated convolutions after them."""
    regions = {name: region for name, region in gated.items() if isinstance(region, Region)}
    following: dict[str, Region] = {}
    for name, region in regions.items():
        for reader in region.exit.outputs:
            if reader.op == "Conv" and reader.inputs[0] is region.exit:
                after = regions.get(reader.name) or network.region(reader.name)
                if isinstance(after, Region) and convolution_of(reader) and not joins(network.graph, region, after):
                    following[name] = after
    joined = {region.layer for region in following.values()}
    chains = []
    for name, region in regions.items():
        if name not in joined:
            chain = [region]
            while (successor := following.get(chain[-1].layer)) is not None:
                chain.append(successor)
            chains.append(chain)
    return chains


def _layer(
    graph: gs.Graph,
    node: gs.Node,
    region: Region | None,
    active: NDArray[np.bool_],
    unit_of: tuple[int, ...],
    *,
    divisible: bool = True,
) -> PlannedLayer:
    convolution = convolution_of(node)
    assert convolution is not None
    response, entry = static_shape(node.outputs[0]) or (), static_shape(node.inputs[0]) or ()
    end = static_shape(region.exit) if region is not None else None
    writer = producer(node.inputs[0])
    while writer is not None and writer.op in ("Relu", "Clip", "MaxPool", "AveragePool"):
        writer = producer(writer.inputs[0])
    blocked = writer is not None and writer.op == "Conv"
    return PlannedLayer(
        name=node.name,
        convolution=convolution,
        active=active,
        unit_of=unit_of,
        divisible=divisible and convolution.groups == 1,
        map_elements=math.prod(response[2:]),
        end_elements=math.prod((end or response)[2:]),
        start_elements=math.prod(entry) if blocked else 0,
    )
