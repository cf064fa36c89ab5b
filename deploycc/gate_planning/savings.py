"""Operations that gates make unnecessary, for each picture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.gate_planning.costs import Array
from deploycc.graph.branches.regions import Region, find_region
from deploycc.graph.cost import node_macs
from deploycc.graph.gates.search import Gate


def saved_by_kernels(graph: gs.Graph, active: Mapping[str, NDArray[np.bool_]]) -> Array:
    """MACs of the kernels that are off, [pictures]: what the white paper counts.

    Args:
        graph: with the gated layers.
        active: by gated layer the decisions, [pictures, kernels].
    """
    macs = {node.name: node_macs(node) for node in graph.nodes if node.name in active}
    saved: Array = np.sum([macs[name] * (1 - own.mean(1)) for name, own in active.items()], axis=0)
    return saved


def saved_with_inputs(graph: gs.Graph, gates: Mapping[str, Gate], active: Mapping[str, NDArray[np.bool_]]) -> Array:
    """MACs of the kernels that are off, and of input channels that are zero because a kernel in front is off.

    Args:
        graph: with the gated layers; shapes known.
        gates: by layer.
        active: by gated layer the decisions, [pictures, kernels].

    Returns:
        [pictures].
    """
    nodes = {node.name: node for node in graph.nodes}
    on = {name: own.mean(1) for name, own in active.items()}
    ends: dict[str, Array] = {}
    for name, gate in gates.items():
        region = find_region(graph, nodes[name], gate)
        if isinstance(region, Region):
            ends[region.exit.name] = on[name]
    modules = {name for gate in gates.values() for name in gate.nodes}
    saved = np.zeros(len(next(iter(active.values()))))
    for node in graph.nodes:
        if node.op == "Conv" and node.name not in modules and int(node.attrs.get("group", 1)) == 1:
            kept = np.ones_like(saved) * on.get(node.name, 1.0) * ends.get(node.inputs[0].name, 1.0)
            saved += node_macs(node) * (1 - kept)
    return saved
