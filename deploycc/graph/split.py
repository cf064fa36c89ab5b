"""Splitting an SSD into back-end and front-end, as the white paper counts its operations.

The back-end is every node that serves both box offsets and class scores: the base network and the extra feature layers.
The front-end serves only one of them: the predictors. On VGG-SSD300 the back-end has the paper's 30.1 of 31.4 GMACs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from deploycc.graph.cost import node_macs, node_params


@dataclass(frozen=True)
class Part:
    """One side of the detector: multiply-accumulates per picture, elements of its constants, and its layers."""

    macs: int
    params: int
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Both sides of a detector; a constant read on both sides counts on both."""

    backend: Part
    frontend: Part


def split_heads(graph: gs.Graph, locations: str, scores: str) -> Split:
    """Split a graph with raw heads.

    Args:
        graph: a graph that has both tensors.
        locations: name of the tensor of box offsets.
        scores: name of the tensor of class scores.
    """
    tensors = graph.tensors()
    serves_locations = _ancestors(tensors[locations])
    serves_scores = _ancestors(tensors[scores])
    both = [node for node in graph.nodes if id(node) in serves_locations and id(node) in serves_scores]
    only_one = [node for node in graph.nodes if (id(node) in serves_locations) != (id(node) in serves_scores)]
    return Split(_part(both), _part(only_one))


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


def backend_maps(graph: gs.Graph, locations: str, scores: str) -> tuple[str, ...]:
    """Return the names of the tensors that the front-end reads from the back-end, in the order of the graph.

    Args:
        graph: a graph that has both tensors.
        locations: name of the tensor of box offsets.
        scores: name of the tensor of class scores.
    """
    tensors = graph.tensors()
    serves_locations = _ancestors(tensors[locations])
    serves_scores = _ancestors(tensors[scores])
    both, either = serves_locations & serves_scores, serves_locations ^ serves_scores
    return tuple(
        tensor.name
        for node in graph.nodes
        if id(node) in both
        for tensor in node.outputs
        if any(id(reader) in either for reader in tensor.outputs)
    )
