"""Removing a block: what it computes counts as zero, or is replaced by what it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.graph.blocks.search import Block, Key, find_blocks
from deploycc.graph.channels.constants import channel_constants, removable
from deploycc.graph.channels.groups import layer_names, node_key
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.channels.removal import keep_back, remove_channels
from deploycc.graph.channels.rules import RULES
from deploycc.graph.channels.site import Site
from deploycc.graph.edit import bypass, fresh_name, static_shape

_ZEROS = "BlockOfZeros"  # writes the channels that count as zero, only while they are analysed


def remove_block(graph: gs.Graph, key: Key) -> Mapping[str, tuple[int, ...]] | None:
    """Remove a block.

    The result equals the graph in which the block's tensor is zero, or, of an identity, its source. Channels of a
    concatenation's branch leave every tensor; a constant that they become on the way (``Relu(0 + b)``) goes into the
    readers' biases.

    Args:
        graph: changed in place. Nodes that have no name of their own, which channel groups know by their result, get
            that as their name, so that the names of layers stay the same.
        key: of the block, as `deploycc.graph.blocks.search.find_blocks` found it in this graph or in one with more
            blocks.

    Returns:
        Layer to kernels that it lost, numbered as before: all of them where the layer is gone. None, and the graph
        computes what it did, where a reader cannot do without the channels or the block is gone already.
    """
    for node, name in list(layer_names(graph.nodes)):
        node.name = name
    groups = channel_groups(graph)
    block = next((block for block in find_blocks(graph, groups) if block.key == key), None)
    lost = None if block is None else _take_out(graph, block)
    if lost is None:
        return None
    graph.cleanup().toposort()
    left = {name for _, name in layer_names(graph.nodes)}
    whole = {name: tuple(range(len(labels))) for name, labels in groups.layers.items() if name not in left}
    return {**{name: kernels for name, kernels in lost.items() if name in left}, **whole}


def _take_out(graph: gs.Graph, block: Block) -> Mapping[str, tuple[int, ...]] | None:
    tensors = graph.tensors()
    tensor = tensors[block.tensor]
    if block.kind == "identity":
        return {} if bypass(graph, tensor.inputs[0], tensors[block.source]) else None
    join = next(node for node in graph.nodes if node_key(node) == block.join)
    return _drop_summand(graph, join, tensor) if block.kind == "sum" else _drop_part(graph, join, tensor)


def _drop_summand(graph: gs.Graph, join: gs.Node, tensor: gs.Tensor) -> Mapping[str, tuple[int, ...]] | None:
    others = [side for side in join.inputs if side is not tensor]
    if len(others) > 1:
        join.inputs = others
        return {}
    return {} if bypass(graph, join, others[0]) else None


def _drop_part(graph: gs.Graph, join: gs.Node, tensor: gs.Tensor) -> Mapping[str, tuple[int, ...]] | None:
    shape = static_shape(tensor) or ()
    axis = int(join.attrs["axis"]) % len(shape)
    position = next(index for index, side in enumerate(join.inputs) if side is tensor)
    zeros = gs.Variable(fresh_name(graph, f"{tensor.name}_zeros"), tensor.dtype, list(shape))
    maker = gs.Node(_ZEROS, zeros.name, outputs=[zeros])
    graph.nodes.insert(0, maker)
    join.inputs[position] = zeros

    def write_zeros(site: Site) -> None:
        labels = site.fresh(shape[axis])
        site.write(axis, labels)
        site.kernels(labels)

    groups = channel_groups(graph, {**RULES, _ZEROS: write_zeros})
    constants = channel_constants(graph, groups, {zeros.name: range(shape[axis])})
    going = set(groups.layers[zeros.name].tolist())
    elsewhere = {name: labelled for name, labelled in groups.tensors.items() if name != zeros.name}
    layers = {name: labels for name, labels in groups.layers.items() if name != zeros.name}
    groups = replace(groups, tensors=elsewhere, layers=layers)
    gone = np.zeros(groups.count, np.bool_)
    gone[list(going)] = True
    able = going <= removable(graph, groups, constants).groups and not keep_back(groups, gone)
    lost: Mapping[str, tuple[int, ...]] | None = None
    if able:
        lost = remove_channels(graph, groups, going, constants).layers
        join.inputs.pop(position)
        if len(join.inputs) == 1:
            bypass(graph, join, join.inputs[0])
    else:
        join.inputs[position] = tensor
    maker.outputs.clear()
    graph.nodes.remove(maker)
    return lost
