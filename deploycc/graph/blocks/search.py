"""Blocks that can go whole, found by how the graph is wired.

Three kinds, each with what takes its place:

| kind | before | after |
| --- | --- | --- |
| sum | ``y = Add(a, F(x))`` | ``y = a``: the branch counts as zero |
| concat | ``y = Concat(a, F(x))`` | ``y = a``: the branch counts as zero, and its channels leave all readers |
| identity | ``y = Relu(Conv(x))`` or ``y = Concat(F(x), G(x))``, of the shape of x | ``y = x`` |
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
Key = tuple[Kind, str]
"""What identifies a block in a graph and its copies: its kind, and the name of the tensor that it computes."""

_SUMS = ("Add", "Sum")
_ACTIVATIONS = frozenset({
    "Relu", "LeakyRelu", "PRelu", "Clip", "Elu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus",
})  # fmt: skip
_AFFINE = frozenset({"BatchNormalization", "Mul", "Add", "Sub", "Div"})  # with constants
_MOST_LAYERS = 8  # of one identity: more than the branches of an inception have


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
    def key(self) -> Key:
        """Return what identifies the block."""
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
    found: list[Block] = []
    for node in graph.nodes:
        if node.op in _SUMS or node.op == "Concat":
            found += _branches(graph, groups, node, names)
        if node.op in ("Conv", "Concat"):
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
    op = str(join.op)
    for side in sides:
        if sole_reader(graph, side) is not join or _pinned(groups, side):
            continue
        nodes = _alone_for(graph, side)
        layers = tuple(names[id(node)] for node in nodes if node_macs(node) and names[id(node)] in groups.layers)
        if layers:
            yield Block(
                kind="concat" if op == "Concat" else "sum",
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


def _identity(graph: gs.Graph, groups: ChannelGroups, last: gs.Node, names: dict[int, str]) -> Iterator[Block]:
    """The shortest part of the network that ends with a node and gives what it gets, by shape."""
    if _is_depthwise(last):
        return  # it goes with the convolution after it
    result = _with_activation(graph, last.outputs[0])
    order = {id(node): index for index, node in enumerate(graph.nodes)}
    inside, read = {id(last): last}, _variables(last)
    while True:
        if len(read) == 1 and static_shape(read[0]) == static_shape(result) and not _of_depthwise(read[0]):
            break
        makers = [tensor.inputs[0] for tensor in read if tensor.inputs and id(tensor.inputs[0]) in order]
        if len(makers) < len(read):
            return
        node = max(makers, key=lambda maker: order[id(maker)])
        outside = [reader for tensor in node.outputs for reader in tensor.outputs if id(reader) not in inside]
        if outside or any(is_output(graph, tensor) for tensor in node.outputs):
            return
        inside[id(node)] = node
        read = [tensor for tensor in read if tensor.inputs[0] is not node]
        read += [tensor for tensor in _variables(node) if all(tensor is not other for other in read)]
        if sum(node_macs(each) > 0 for each in inside.values()) > _MOST_LAYERS:
            return
    source = read[0]
    layers = [names[id(node)] for node in sorted(inside.values(), key=lambda node: order[id(node)]) if node_macs(node)]
    beside = any(reader in source.outputs for reader in result.outputs)  # the identity is there already
    stays = is_output(graph, result) or _pinned(groups, result) or beside
    if layers and not stays and all(name in groups.layers for name in layers):
        yield Block("identity", result.name, source.name, "", tuple(layers), tuple(layers))


def _variables(node: gs.Node) -> list[gs.Variable]:
    return list({id(tensor): tensor for tensor in node.inputs if isinstance(tensor, gs.Variable)}.values())


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


def _of_depthwise(tensor: gs.Tensor) -> bool:
    """Return whether a depthwise convolution made a tensor, maybe with an activation."""
    node = producer(tensor)
    while node is not None and node.op in _ACTIVATIONS | _AFFINE and node.inputs:
        node = producer(node.inputs[0])
    return node is not None and _is_depthwise(node)


def _pinned(groups: ChannelGroups, tensor: gs.Tensor) -> bool:
    labelled = groups.tensors.get(tensor.name)
    return labelled is None or any(group in groups.pins for group in labelled.groups.tolist())
