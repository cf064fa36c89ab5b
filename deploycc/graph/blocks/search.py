"""Blocks that can go whole, found by how the graph is wired.

Three kinds, each with what takes its place:

| kind | before | after |
| --- | --- | --- |
| sum | ``y = Add(a, F(x))`` | ``y = a``: the branch counts as zero |
| concat | ``y = Concat(a, F(x))`` | ``y = a``: the branch counts as zero, and its channels leave all readers |
| identity | ``y = Relu(Conv(x))``, of the shape of x | ``y = x`` |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import onnx_graphsurgeon as gs

from deploycc.graph.channels.groups import ChannelGroups, layer_names, node_key
from deploycc.graph.cost import node_macs
from deploycc.graph.edit import is_output, producer, sole_reader, static_shape

Kind = Literal["sum", "concat", "identity"]

_SUMS = ("Add", "Sum")
_ACTIVATIONS = frozenset({
    "Relu", "LeakyRelu", "PRelu", "Clip", "Elu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus",
})  # fmt: skip
_AFFINE = frozenset({"BatchNormalization", "Mul", "Add", "Sub", "Div"})  # with constants
_MOST_LAYERS = 3  # of one identity: narrow, convolve, widen again


@dataclass(frozen=True)
class Block:
    """Nodes that can go whole.

    Attributes:
        kind: see the module.
        tensor: what the block computes, by name; with `kind` it identifies the block.
        source: of an identity, the tensor that takes the place of `tensor`; else empty.
        join: `node_key` of the sum or the concatenation that loses a branch; empty for an identity.
        layers: layers with kernels that go, in graph order, by name.
        makers: of the branch, those of `layers` whose kernels are channels of `tensor`.
        others: layers that make the channels of the other branches, one entry per branch.
    """

    kind: Kind
    tensor: str
    source: str
    join: str
    layers: tuple[str, ...]
    makers: tuple[str, ...] = ()
    others: tuple[tuple[str, ...], ...] = ()

    @property
    def key(self) -> tuple[Kind, str]:
        """Return what identifies the block in the graph and its copies."""
        return self.kind, self.tensor


def find_blocks(graph: gs.Graph, groups: ChannelGroups) -> list[Block]:
    """Return the blocks of a graph, in its order.

    Branches whose channels are pinned, such as those of heads, are not among them. A branch of a concatenation may turn
    out to stay once its readers are looked at (`deploycc.graph.blocks.removal.remove_block`).

    Args:
        graph: sorted, shapes known.
        groups: channel groups of the graph.
    """
    names = {id(node): name for node, name in layer_names(graph.nodes)}
    found = []
    for node in graph.nodes:
        if node.op in _SUMS or node.op == "Concat":
            found += _branches(graph, groups, node, names)
        elif node.op == "Conv":
            found += _identity(graph, groups, node, names)
    return found


def _branches(graph: gs.Graph, groups: ChannelGroups, join: gs.Node, names: dict[int, str]) -> Iterator[Block]:
    result, sides = join.outputs[0], list(join.inputs)
    labelled = groups.tensors.get(result.name)
    if len(sides) < 2 or labelled is None or not all(isinstance(side, gs.Variable) for side in sides):
        return
    shape = static_shape(result) or ()
    if join.op == "Concat" and int(join.attrs["axis"]) % max(len(shape), 1) != labelled.axis:
        return
    if join.op in _SUMS and any(static_shape(side) != shape for side in sides):
        return  # one of them is repeated along an axis
    for side in sides:
        if sole_reader(graph, side) is not join or _pinned(groups, side):
            continue
        nodes = _alone_for(graph, side)
        layers = tuple(names[id(node)] for node in nodes if node_macs(node) and names[id(node)] in groups.layers)
        if layers:
            yield Block(
                kind="concat" if join.op == "Concat" else "sum",
                tensor=side.name,
                source="",
                join=node_key(join),
                layers=layers,
                makers=_makers(groups, side, names),
                others=tuple(_makers(groups, other, names) for other in sides if other is not side),
            )


def _alone_for(graph: gs.Graph, tensor: gs.Tensor) -> list[gs.Node]:
    """Nodes that nothing but this tensor needs, in graph order."""
    inside: dict[int, gs.Node] = {}

    def unneeded(made: gs.Tensor) -> bool:
        readers = [id(reader) in inside for reader in made.outputs]
        return made is tensor or (bool(readers) and all(readers) and not is_output(graph, made))

    for node in reversed(graph.nodes):
        made = [output for output in node.outputs if not output.is_empty()]
        if made and all(map(unneeded, made)):
            inside[id(node)] = node
    return list(reversed(inside.values()))


def _makers(groups: ChannelGroups, tensor: gs.Tensor, names: dict[int, str]) -> tuple[str, ...]:
    """Layers whose kernels are channels of a tensor: the nearest ones before it."""
    makers: dict[str, None] = {}
    seen, queue = set[int](), [tensor]
    while queue:
        node = producer(queue.pop())
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if names.get(id(node)) in groups.layers:
            makers[names[id(node)]] = None
        else:
            queue += [operand for operand in node.inputs if operand.name in groups.tensors]
    return tuple(reversed(makers))


def _identity(graph: gs.Graph, groups: ChannelGroups, first: gs.Node, names: dict[int, str]) -> Iterator[Block]:
    source = first.inputs[0]
    shape = static_shape(source)
    if not isinstance(source, gs.Variable) or shape is None or _after_depthwise(graph, first):
        return
    layers, node = [names[id(first)]], first
    while node is not None and len(layers) <= _MOST_LAYERS:
        result = node.outputs[0]
        if static_shape(result) == shape and not _is_depthwise(node):
            result = _with_activation(graph, result)
            beside = any(reader in source.outputs for reader in result.outputs)  # the identity is there already
            stays = is_output(graph, result) or _pinned(groups, result) or beside
            if not stays and all(name in groups.layers for name in layers):
                yield Block("identity", result.name, source.name, "", tuple(layers), tuple(layers))
            return
        node = sole_reader(graph, _with_activation(graph, result))
        if node is None or node.op != "Conv":
            return
        layers.append(names[id(node)])


def _with_activation(graph: gs.Graph, tensor: gs.Tensor) -> gs.Tensor:
    """The result of the normalisations and activations after a tensor."""
    while (reader := sole_reader(graph, tensor)) is not None and reader.inputs[0] is tensor:
        constants = all(isinstance(operand, gs.Constant) for operand in reader.inputs[1:])
        same = static_shape(reader.outputs[0]) == static_shape(tensor)
        if not (reader.op in _ACTIVATIONS | _AFFINE and constants and same):
            break
        tensor = reader.outputs[0]
    return tensor


def _is_depthwise(node: gs.Node) -> bool:
    groups = int(node.attrs.get("group", 1))
    return node.op == "Conv" and groups > 1 and groups == (static_shape(node.inputs[0]) or (0, 0))[1]


def _after_depthwise(graph: gs.Graph, node: gs.Node) -> bool:
    """Return whether a convolution belongs to the depthwise one before it."""
    before = producer(node.inputs[0])
    while before is not None and before.op in _ACTIVATIONS | _AFFINE and before.inputs:
        before = producer(before.inputs[0])
    return before is not None and _is_depthwise(before) and not _is_depthwise(node)


def _pinned(groups: ChannelGroups, tensor: gs.Tensor) -> bool:
    labelled = groups.tensors.get(tensor.name)
    return labelled is None or any(group in groups.pins for group in labelled.groups.tolist())
