"""What can be computed inside a branch: a convolution, the nodes after it that work map by map, and its gate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.errors import Note
from deploycc.graph.branches.narrowed_part import part_of
from deploycc.graph.channels.constants import channel_constants
from deploycc.graph.channels.groups import node_key
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.edit import is_output, producer, sole_reader, static_shape
from deploycc.graph.gates.decision import Comparison, read_comparison
from deploycc.graph.gates.search import Gate

VECTOR = "gate vector"
"""Input of `Region.body` for the gate's zeros and ones, [1, kernels, 1, 1] float32."""


@dataclass(frozen=True)
class Span:
    """The nodes that a branch computes for one layer, each by its `node_key`.

    They are the same in every copy of the network, and after kernels have changed places.

    Attributes:
        layer: the convolution.
        steps: from the convolution to the last node before the multiplication with the gate.
        multiply: that multiplication; None for a convolution without gate.
        following: nodes after it that leave zero zero and treat every map on its own.
    """

    layer: str
    steps: tuple[str, ...]
    multiply: str | None
    following: tuple[str, ...]

    @property
    def exit(self) -> str:
        """Name of the last map, which is zero where a kernel is off."""
        return self.following[-1] if self.following else self.multiply or self.steps[-1]


@dataclass(frozen=True, eq=False)
class Region:
    """One layer, from the map that its convolution reads to the last map that is zero where a kernel is off.

    Attributes:
        layer: the convolution.
        gate: of the convolution; None if it has none.
        entry: the map that the convolution reads.
        exit: the last map.
        body: from the entry (and `VECTOR`) to the exit. It multiplies by the vector last: operators that leave zero
            zero and treat every map on its own may come before or after the multiplication.
        decision: from the entry to the gate's vector, and to the scores of ``comparison`` where that is known; None
            if the gate looks at anything but the entry.
        vector: of the gate, in the network; None without a gate.
        comparison: that the vector comes from; None if it cannot be followed.
        inside: nodes of the network that the region replaces, without those of the gate.
    """

    layer: str
    gate: Gate | None
    entry: gs.Variable
    exit: gs.Variable
    body: gs.Graph
    decision: gs.Graph | None
    vector: gs.Variable | None
    comparison: Comparison | None
    inside: tuple[gs.Node, ...]

    @property
    def kernels(self) -> int:
        """Number of kernels, and of maps at the exit."""
        return int(self.exit.shape[1])


def find_span(graph: gs.Graph, conv: gs.Node, gate: Gate | None) -> Span | Note:
    """Find the nodes that a branch can compute for a convolution.

    Args:
        graph: stays as it is; shapes known.
        conv: the convolution.
        gate: of the convolution; None if it has none.

    Returns:
        The nodes, or a note on why no branch can compute the layer: ``gate-batch``, ``gate-leaks``, ``gate-shape``.
    """
    entry = conv.inputs[0]
    shape = static_shape(conv.outputs[0])
    if not isinstance(entry, gs.Variable) or static_shape(entry) is None or shape is None or len(shape) != 4:
        return Note(conv.name, "gate-shape", "the shapes of its maps depend on values, and a branch must state them")
    if entry.dtype != np.float32:
        return Note(conv.name, "gate-shape", f"its maps are {entry.dtype}; only float32 networks are lowered")
    if shape[0] != 1:
        reason = f"it computes {shape[0]} pictures at once, and each switches other kernels: no branch suits all"
        return Note(conv.name, "gate-batch", reason)
    steps, multiply = [conv], None
    if gate is not None:
        while (reader := sole_reader(graph, steps[-1].outputs[0])) is not None and reader.name != gate.multiply:
            steps.append(reader)
        multiply = reader
        if multiply is None:
            return Note(conv.name, "gate-leaks", "something else reads its response")
    last = steps[-1] if multiply is None else multiply
    return Span(
        layer=conv.name,
        steps=tuple(map(node_key, steps)),
        multiply=None if multiply is None else node_key(multiply),
        following=tuple(map(node_key, _map_by_map(graph, last.outputs[0]))),
    )


def region_of(graph: gs.Graph, span: Span, gate: Gate | None) -> Region:
    """Copy a region out of a network, or out of a copy of it in which kernels have changed places.

    Args:
        graph: stays as it is; shapes known.
        span: nodes of the region.
        gate: of the convolution in this graph; None if it has none.
    """
    nodes = {node_key(node): node for node in graph.nodes}
    steps, following = [nodes[key] for key in span.steps], [nodes[key] for key in span.following]
    conv, entry = steps[0], steps[0].inputs[0]
    multiply, vector, comparison = None, None, None
    if gate is not None and span.multiply is not None:
        multiply = nodes[span.multiply]
        vector = next(t for t in multiply.inputs if t.name == gate.vector and isinstance(t, gs.Variable))
        comparison = read_comparison(vector, int(conv.outputs[0].shape[1]))
    inside = (*steps, *([] if multiply is None else [multiply]), *following)
    return Region(
        layer=conv.name,
        gate=gate,
        entry=entry,
        exit=inside[-1].outputs[0],
        body=_body(graph, entry, steps, multiply, following),
        decision=None if gate is None or vector is None else _decision(graph, entry, gate, vector, comparison),
        vector=vector,
        comparison=comparison,
        inside=inside,
    )


def joins(graph: gs.Graph, first: Region, second: Region) -> str:
    """Return why the second region cannot be computed inside the branches of the first; empty if it can."""
    if second.entry is not first.exit:
        return f"{second.layer} does not read the output of {first.layer}"
    if is_output(graph, first.exit):
        return f"the output of {first.layer} is an output of the network"
    if second.gate is not None and second.decision is None:
        return f"the gate of {second.layer} reads more than the input of its layer, or other layers share it"
    known = {second.layer, *(second.gate.nodes if second.gate else ())}
    others = [reader.name for reader in first.exit.outputs if reader.name not in known]
    return f"the output of {first.layer} is also read by {', '.join(others)}" if others else ""


def keeps_zero(node: gs.Node, opset: int) -> bool:
    """Return whether a node turns each map into one map, and zeros into zeros."""
    variables = [tensor for tensor in node.inputs if isinstance(tensor, gs.Variable) and not tensor.is_empty()]
    tensors = (*variables, *node.outputs)
    if len(variables) != 1 or len(node.outputs) != 1 or any(static_shape(tensor) is None for tensor in tensors):
        return False
    source = gs.Variable("x", variables[0].dtype, variables[0].shape)
    zero, result = (gs.Variable(name, t.dtype, t.shape) for name, t in (("zero", source), ("y", node.outputs[0])))
    nothing = gs.Constant("nothing", np.zeros((1, source.shape[1], 1, 1), np.float32))
    operands = [zero if tensor is variables[0] else tensor.copy() for tensor in node.inputs]
    alone = gs.Node(node.op, node.name, dict(node.attrs), operands, [result], domain=node.domain)
    graph = gs.Graph([gs.Node("Mul", "mask", {}, [source, nothing], [zero]), alone], [source], opset=opset)
    groups = channel_groups(graph)
    before, after = groups.tensors.get("zero"), groups.tensors.get("y")
    if before is None or after is None or after.axis != 1 or not np.array_equal(before.groups, after.groups):
        return False
    return bool((channel_constants(graph, groups).values["y"] == 0).all())


def _map_by_map(graph: gs.Graph, tensor: gs.Variable) -> Iterator[gs.Node]:
    while (node := sole_reader(graph, tensor)) is not None and keeps_zero(node, graph.opset):
        yield node
        tensor = node.outputs[0]


def _body(
    graph: gs.Graph, entry: gs.Variable, steps: list[gs.Node], multiply: gs.Node | None, following: list[gs.Node]
) -> gs.Graph:
    body = part_of(graph, steps, [entry], steps[-1].outputs[0])
    last = body.outputs[0]
    if following and multiply is not None:
        rest = part_of(graph, following, [multiply.outputs[0]], following[-1].outputs[0])
        for node in rest.nodes:
            node.inputs = [last if tensor is rest.inputs[0] else tensor for tensor in node.inputs]
        body.nodes += rest.nodes
        last = rest.outputs[0]
    elif following:
        return part_of(graph, [*steps, *following], [entry], following[-1].outputs[0])
    if multiply is not None:
        vector = gs.Variable(VECTOR, np.dtype(np.float32), [1, last.shape[1], 1, 1])
        gated = gs.Variable(f"{last.name} gated", last.dtype, last.shape)
        body.nodes.append(gs.Node("Mul", multiply.name, {}, [last, vector], [gated]))
        body.inputs.append(vector)
        last = gated
    body.outputs = [last]
    return body


def _decision(
    graph: gs.Graph, entry: gs.Variable, gate: Gate, vector: gs.Variable, comparison: Comparison | None
) -> gs.Graph | None:
    names = set(gate.nodes)
    nodes = [node for node in graph.nodes if node.name in names]
    writer = producer(vector)
    if writer is None or writer.name not in names:
        return None
    try:
        part = part_of(graph, nodes, [entry], vector)
    except ValueError:
        return None
    if comparison is not None:
        part.outputs.append(part.tensors()[comparison.scores.name])
    return part
