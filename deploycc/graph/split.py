"""Back-end and front-end of an SSD, the way the white paper divides its operations.

The back-end is what serves both box offsets and class scores: the base network and the extra feature layers. The
front-end serves only one of them: the predictors. On VGG-SSD300 this gives the paper's 30.1 of 31.4 GMACs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from deploycc.graph.cost import node_macs, node_params


@dataclass(frozen=True)
class Part:
    """One side of the detector: multiply-accumulates for one picture, and constants' elements."""

    macs: int
    params: int
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """The two sides of a detector; a constant read on both sides counts on both."""

    backend: Part
    frontend: Part


def split_heads(graph: gs.Graph, locations: str, scores: str) -> Split:
    """Divide a graph with raw heads.

    Args:
        graph: any graph that has both tensors.
        locations: name of the tensor of box offsets.
        scores: name of the tensor of class scores.
    """
    tensors = graph.tensors()
    serves_locations = _ancestors(tensors[locations])
    serves_scores = _ancestors(tensors[scores])
    both = [node for node in graph.nodes if id(node) in serves_locations and id(node) in serves_scores]
    one = [node for node in graph.nodes if (id(node) in serves_locations) != (id(node) in serves_scores)]
    return Split(_part(both), _part(one))


def _ancestors(tensor: gs.Tensor) -> set[int]:
    seen: set[int] = set()
    queue = list(tensor.inputs)
    while queue:
        node = queue.pop()
        if id(node) not in seen:
            seen.add(id(node))
            readers = [node, *(inner for branch in node.subgraphs(recursive=True) for inner in branch.nodes)]
            queue += [producer for reader in readers for source in reader.inputs for producer in source.inputs]
    return seen


def _part(nodes: Iterable[gs.Node]) -> Part:
    nodes = list(nodes)
    return Part(
        macs=sum(node_macs(node) for node in nodes),
        params=sum(node_params(node) for node in nodes),
        nodes=tuple(node.name for node in nodes if node_macs(node)),
    )
