"""Operations that gates make unnecessary, picture by picture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.gate_planning.costs import Array
from deploycc.graph.branches.gated_network import GatedNetwork
from deploycc.graph.branches.regions import Span
from deploycc.graph.cost import node_macs


def saved_by_kernels(graph: gs.Graph, active: Mapping[str, NDArray[np.bool_]]) -> Array:
    """Count MACs of kernels that are off, [pictures], as the white paper does.

    Args:
        graph: with the gated layers.
        active: for each gated layer the decisions, [pictures, kernels].
    """
    macs = {node.name: node_macs(node) for node in graph.nodes if node.name in active}
    saved: Array = np.sum([macs[name] * (1 - decisions.mean(1)) for name, decisions in active.items()], axis=0)
    return saved


def saved_with_inputs(network: GatedNetwork, active: Mapping[str, NDArray[np.bool_]]) -> Array:
    """Count MACs of kernels that are off, and of input channels that are zero because the kernel that makes them is.

    Args:
        network: with the gated layers.
        active: for each gated layer the decisions, [pictures, kernels].

    Returns:
        Saved MACs, [pictures].
    """
    on = {name: decisions.mean(1) for name, decisions in active.items()}
    spans = {gate.layer: network.spans[gate.layer] for gate in network.gates}
    ends = {span.exit: on[name] for name, span in spans.items() if isinstance(span, Span)}
    modules = {name for gate in network.gates for name in gate.nodes}
    saved = np.zeros(len(next(iter(active.values()))))
    for node in network.graph.nodes:
        if node.op == "Conv" and node.name not in modules and int(node.attrs.get("group", 1)) == 1:
            kept = np.ones_like(saved) * on.get(node.name, 1.0) * ends.get(node.inputs[0].name, 1.0)
            saved += node_macs(node) * (1 - kept)
    return saved
