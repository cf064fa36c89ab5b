"""From a network and its recorded gate decisions to what the planner plans with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.documents.gate_plan import LayerPlan
from deploycc.errors import Note
from deploycc.gate_planning.regions import PlannedLayer
from deploycc.graph.branches.regions import Region, find_region, joins
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.channels.reorder import reorder_kernels
from deploycc.graph.cost import measure_cost
from deploycc.graph.edit import producer, static_shape
from deploycc.graph.gates.search import find_gates
from deploycc.timing.convolutions import convolution_of

_FLOAT_BYTES = 4
_FILE_BYTES = 2**31 - 2**26  # protobuf's limit, and room for what is no weight


def planned_layers(
    detector: Detector, active: Mapping[str, NDArray[np.bool_]]
) -> tuple[tuple[PlannedLayer, ...], tuple[Note, ...]]:
    """Read the gated convolutions, and those that may be taken along.

    Args:
        detector: what the optimising passes made of the trained network.
        active: by gated layer the recorded decisions, [pictures, kernels].

    Returns:
        The layers, each that joins another right behind it, and notes on gates that must stay a multiply.
    """
    graph = detector.graph
    nodes = {node.name: node for node in graph.nodes}
    gates = {gate.layer: gate for gate in find_gates(graph, detector.gates)}
    found = {name: find_region(graph, nodes[name], gate) for name, gate in gates.items()}
    regions = {name: each for name, each in found.items() if isinstance(each, Region)}
    chains = _chains(graph, regions)
    pictures = len(next(iter(active.values())))
    layers: list[PlannedLayer] = []
    for name, whether in found.items():
        convolution = convolution_of(nodes[name])
        if isinstance(whether, Note) and convolution is not None:
            layers.append(_layer(graph, nodes[name], None, active[name], gates[name].unit_of, divisible=False))
    for chain in chains:
        for number, region in enumerate(chain):
            gate = region.gate
            own = active[region.layer] if gate else np.ones((pictures, region.kernels), np.bool_)
            unit_of = gate.unit_of if gate else (0,) * region.kernels
            layer = _layer(graph, nodes[region.layer], region, own, unit_of)
            layers.append(
                replace(
                    layer,
                    joins=number > 0,
                    gated=gate is not None,
                    movable=gate is not None,
                    nested=gate is not None and gate.granularity == "nested",
                )
            )
    return tuple(layers), tuple(each for each in found.values() if isinstance(each, Note))


def settle_orders(
    detector: Detector, layers: Sequence[PlannedLayer], plans: Sequence[LayerPlan]
) -> tuple[tuple[PlannedLayer, ...], tuple[Note, ...]]:
    """Find the layers whose kernels cannot take the planned places.

    Returns:
        The layers, those marked as not movable, and a note on each.
    """
    graph = detector.graph.copy()
    moving = [plan for plan in plans if plan.lowering != "variants"]  # there kernels keep their places
    orders = {plan.layer: plan.order for plan in moving if plan.order != tuple(range(plan.kernels))}
    notes = reorder_kernels(graph, channel_groups(graph), orders)
    stuck = {note.node for note in notes}
    return tuple(replace(each, movable=each.movable and each.name not in stuck) for each in layers), notes


def added_bytes_allowed(graph: gs.Graph, max_growth: float) -> float:
    """How many bytes of weights branches may hold beyond one copy of each.

    Args:
        graph: the network.
        max_growth: as a multiple of all its weights. The file has to stay below 2 GiB in any case.
    """
    own = _FLOAT_BYTES * measure_cost(graph).params
    return max(0.0, min(max_growth * own, _FILE_BYTES - own))


def _chains(graph: gs.Graph, regions: Mapping[str, Region]) -> list[list[Region]]:
    """Rows of regions of which each but the first joins the one before; with the ungated convolution behind each."""
    following: dict[str, Region] = {}
    for name, region in regions.items():
        for reader in region.exit.outputs:
            if reader.op == "Conv" and reader.inputs[0] is region.exit:
                behind = regions.get(reader.name) or find_region(graph, reader, None)
                if isinstance(behind, Region) and convolution_of(reader) and not joins(graph, region, behind):
                    following[name] = behind
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
