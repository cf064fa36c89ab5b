"""Finding kernel gates: parts of the network that switch the kernels of a convolution on or off for each picture.

A gate (LKAM) pools a map, computes one number per kernel or block of kernels, compares it with a threshold, and
multiplies the convolution's response with the resulting zeros and ones. It is recognised by what it computes, not by
how it is exported: a factor with one element per channel, computed from pooled maps, that is proved to be 0 or 1
(`deploycc.graph.gates.value_sets`), multiplied with a response that is computed channel by channel from the output of a
single convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import onnx_graphsurgeon as gs

from deploycc.documents.document import Granularity
from deploycc.errors import Note
from deploycc.graph.affine import affine_of
from deploycc.graph.cost import node_macs
from deploycc.graph.edit import constant_values, is_output, producer, sole_reader, static_shape
from deploycc.graph.gates.decision import read_decision
from deploycc.graph.gates.metadata import DescribedGate
from deploycc.graph.gates.value_sets import possible_values

Place = Literal["before-bias", "before-batchnorm", "after-bias", "after-batchnorm", "after-activation"]

ACTIVATIONS = frozenset(
    ["Relu", "Clip", "LeakyRelu", "PRelu", "ThresholdedRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu",
     "Selu", "Celu", "Softplus", "Mish"]
)  # fmt: skip
_CHANNELWISE = frozenset(
    ["Identity", "Dropout", "Cast", "MaxPool", "AveragePool"]
)  # channel by channel, without a shift
_POOLS = frozenset(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
_WINDOW_POOLS = frozenset(["AveragePool", "MaxPool", "ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2"])


@dataclass(frozen=True)
class Gate:
    """One gated convolution; nodes and tensors are given by name.

    Attributes:
        layer: the gated convolution.
        multiply: the node that applies the gate: ``Mul``, or ``Where`` between the response and zero.
        response: tensor [1, kernels, H, W] that is multiplied.
        vector: the factor of zeros and ones: [1, kernels, 1, 1] or a shape that broadcasts to it; a single element if
            one unit switches the whole layer.
        reads: tensors that the gate pools.
        kernels, units: number of each.
        unit_of: the unit of each kernel.
        granularity: ``kernel``: one unit per kernel; ``block``: fewer units than kernels; ``nested``: units go off from
            the last to the first, because all of them come from one number with falling offsets, except the first ones
            that are always on.
        always: units that are on for every picture.
        score: tensor that is compared with the threshold.
        threshold: number that `score` is compared with; None if it differs between units.
        place: last step of the layer before the multiplication; ``before-bias`` and ``before-batchnorm`` if the next
            step shifts a kernel that is off away from zero.
        source: ``metadata`` if the file describes this gate, else ``structure``; it is proved in both cases.
        nodes: nodes that serve only this gate, without the multiplication; nodes that serve several gates of one
            decision belong to the first of them.
        macs: MACs of those nodes per picture.
    """

    layer: str
    multiply: str
    response: str
    vector: str
    reads: tuple[str, ...]
    kernels: int
    units: int
    unit_of: tuple[int, ...]
    granularity: Granularity
    always: tuple[int, ...]
    score: str
    threshold: float | None
    place: Place
    source: Literal["metadata", "structure"]
    nodes: tuple[str, ...]
    macs: int


def find_gates(graph: gs.Graph, described: Sequence[DescribedGate] = ()) -> tuple[Gate, ...]:
    """Return the gates of a graph in graph order; arguments as in `search_gates`."""
    return search_gates(graph, described)[0]


def search_gates(graph: gs.Graph, described: Sequence[DescribedGate] = ()) -> tuple[tuple[Gate, ...], tuple[Note, ...]]:
    """Find the gates, and note why a multiplication that resembles a gate is not one.

    Args:
        graph: named nodes, static shapes.
        described: gates as the file describes them (`deploycc.detector.Detector.gates`).

    Returns:
        The gates in graph order, and notes: ``gate-soft`` and ``gate-not-binary`` (attention, which scales channels
        instead of switching them), ``gate-no-convolution``, ``gate-leaks``, ``gate-reads-own-output`` and
        ``gate-metadata``.
    """
    gates: list[Gate] = []
    notes: list[Note] = []
    for node in graph.nodes:
        gate_or_note = _read(graph, node)
        if isinstance(gate_or_note, Gate):
            gates.append(gate_or_note)
        elif gate_or_note is not None:
            notes.append(gate_or_note)
    result, differences = as_described(_with_shared_nodes(graph, gates), described)
    return result, (*notes, *differences)


def as_described(
    gates: Sequence[Gate], described: Sequence[DescribedGate]
) -> tuple[tuple[Gate, ...], tuple[Note, ...]]:
    """Let gates have the granularity that the file states, where it describes them as they are.

    Args:
        gates: found by structure.
        described: what the file says about its gates.

    Returns:
        The gates, and a note ``gate-metadata`` for each that the file describes differently or that is not there.
    """
    by_multiply = {entry.multiply: entry for entry in described}
    result: list[Gate] = []
    notes: list[Note] = []
    for gate in gates:
        entry = by_multiply.pop(gate.multiply, None)
        if entry is not None:
            if differing := _differing(gate, entry):
                notes.append(Note(gate.layer, "gate-metadata", f"the file describes another gate here: {differing}"))
            else:
                gate = replace(gate, source="metadata", granularity=entry.granularity)
        result.append(gate)
    for entry in by_multiply.values():
        reason = "the file describes a gate here, but the network does not hold one"
        notes.append(Note(entry.conv, "gate-metadata", reason))
    return tuple(result), tuple(notes)


def with_kernels_moved(graph: gs.Graph, gates: Sequence[Gate]) -> tuple[Gate, ...]:
    """Return the gates of a network whose kernels have changed places: only their decisions are read again.

    Args:
        graph: after `deploycc.graph.channels.reorder.reorder_kernels`.
        gates: found by structure before it.
    """
    tensors = graph.tensors()
    return tuple(replace(gate, **vars(read_decision(tensors[gate.vector], gate.kernels))) for gate in gates)


def describe_again(graph: gs.Graph, described: Sequence[DescribedGate]) -> tuple[DescribedGate, ...]:
    """Update the descriptions of a file's gates for a changed graph, and drop those of gates that no longer exist."""
    by_multiply = {gate.multiply: gate for gate in find_gates(graph)}
    return tuple(
        entry.model_copy(
            update={"kernels": gate.kernels, "units": gate.units, "unit_of": gate.unit_of, "place": gate.place}
        )
        for entry in described
        if (gate := by_multiply.get(entry.multiply)) is not None
    )


def gates_by_decision(gates: Sequence[Gate]) -> tuple[tuple[Gate, ...], ...]:
    """Group the gates of each decision, in graph order."""
    by_score: dict[str, list[Gate]] = {}
    for gate in gates:
        by_score.setdefault(gate.score, []).append(gate)
    return tuple(map(tuple, by_score.values()))


def is_pooled(tensor: gs.Tensor) -> tuple[gs.Tensor, ...]:
    """Return the maps from whose global pooling a tensor is computed; empty if it depends on anything else."""
    maps: dict[int, gs.Tensor] = {}
    seen: set[int] = set()
    queue = [tensor]
    while queue:
        current = queue.pop()
        if isinstance(current, gs.Constant) or current.is_empty() or id(current) in seen:
            continue
        seen.add(id(current))
        node = producer(current)
        if node is None:
            return ()
        if _pools_globally(node):
            maps[id(node.inputs[0])] = node.inputs[0]
        else:
            queue += node.inputs
    return tuple(maps.values())


def _read(graph: gs.Graph, node: gs.Node) -> Gate | Note | None:
    """Return the gate that this node applies; a note if it only resembles a gate; else None."""
    for response, factor in _operands(node):
        shape = static_shape(response)
        if shape is None or len(shape) != 4 or any(isinstance(t, gs.Constant) for t in (response, factor)):
            continue
        width = _channel_factor(factor, shape)
        if width is None or not (maps := is_pooled(factor)):
            continue
        if shape[2] * shape[3] == 1 and is_pooled(response):
            continue  # inside a gate: a product of two conditions, or an activation such as x * sigmoid(x)
        values = possible_values(factor)
        if values.points is None:
            reason = f"its factor can be any value from {values.low:g} to {values.high:g}: attention, not a gate;"
            return Note(node.name, "gate-soft", f"{reason} it stays a multiply")
        if values.points != {0.0, 1.0}:
            listed = ", ".join(f"{value:g}" for value in sorted(values.points))
            return Note(node.name, "gate-not-binary", f"its factor is one of {listed}, not 0 or 1; it stays a multiply")
        return _gate(graph, node, response, factor, maps)
    return None


def _operands(node: gs.Node) -> list[tuple[gs.Tensor, gs.Tensor]]:
    """Return the possible pairs of response and factor."""
    if node.domain not in (None, "", "ai.onnx"):
        return []
    if node.op == "Mul":
        left, right = node.inputs
        return [(left, right), (right, left)]
    if node.op == "Where":
        zero = constant_values(node.inputs[2])
        return [(node.inputs[1], node.inputs[0])] if zero is not None and not zero.any() else []
    return []


def _channel_factor(factor: gs.Tensor, response: tuple[int, ...]) -> int | None:
    """Return the size of a factor with one element per channel, or one for all; None for any other shape."""
    shape = static_shape(factor)
    if shape is None or len(shape) > len(response):
        return None
    aligned = (1,) * (len(response) - len(shape)) + shape
    if aligned[1] not in (1, response[1]) or any(dim != 1 for axis, dim in enumerate(aligned) if axis != 1):
        return None
    return aligned[1]


def _gate(
    graph: gs.Graph, node: gs.Node, response: gs.Tensor, factor: gs.Tensor, maps: tuple[gs.Tensor, ...]
) -> Gate | Note:
    chain = _back_to_convolution(response)
    if chain is None:
        return Note(node.name, "gate-no-convolution", "it does not multiply the response of a single convolution")
    conv, *between = chain
    if any(_depends_on(tensor, conv) for tensor in maps):
        reason = f"it reads the output of {conv.name}, which it gates: all of it must be computed first"
        return Note(node.name, "gate-reads-own-output", reason)
    inside = {id(step) for step in (*between, node)}
    for step in chain:
        others = [reader.name for reader in step.outputs[0].outputs if id(reader) not in inside]
        if others or is_output(graph, step.outputs[0]):
            where = ", ".join(others) or "a network output"
            return Note(node.name, "gate-leaks", f"{where} uses {step.name} without the gate, so it must be computed")
    kernels = (static_shape(response) or (0, 0))[1]
    decision = read_decision(factor, kernels)
    gate_nodes = _exclusive_nodes(graph, [factor], [node])
    return Gate(
        layer=conv.name,
        multiply=node.name,
        response=response.name,
        vector=factor.name,
        reads=tuple(tensor.name for tensor in maps),
        kernels=kernels,
        units=decision.units,
        unit_of=decision.unit_of,
        granularity=decision.granularity,
        always=decision.always,
        score=decision.score,
        threshold=decision.threshold,
        place=_place(graph, conv, between, node),
        source="structure",
        nodes=tuple(inner.name for inner in gate_nodes),
        macs=sum(map(node_macs, gate_nodes)),
    )


def _back_to_convolution(response: gs.Tensor) -> list[gs.Node] | None:
    """Return the nodes from the convolution to the response, in that order; each maps channel k to channel k."""
    steps: list[gs.Node] = []
    tensor = response
    while (node := producer(tensor)) is not None:
        steps.append(node)
        affine = affine_of(node)
        if node.op in ("Conv", "ConvTranspose"):
            return steps[::-1] if node.domain in (None, "", "ai.onnx") else None
        if affine is not None:
            tensor = affine.data
        elif node.op in ACTIVATIONS | _CHANNELWISE and not _pools_globally(node):
            tensor = node.inputs[0]
        else:
            return None
    return None


def _place(graph: gs.Graph, conv: gs.Node, between: list[gs.Node], multiply: gs.Node) -> Place:
    affine = [step for step in between if affine_of(step) is not None]
    if any(step.op in ACTIVATIONS for step in between):
        return "after-activation"
    if any(step.op != "Add" for step in affine):
        return "after-batchnorm"
    following = sole_reader(graph, multiply.outputs[0])
    if following is not None and following.op == "BatchNormalization":
        return "before-batchnorm"
    has_bias = bool(affine) or (len(conv.inputs) > 2 and not conv.inputs[2].is_empty())
    if following is not None and following.op == "Add" and affine_of(following) is not None and not has_bias:
        return "before-bias"
    return "after-bias"


def _pools_globally(node: gs.Node) -> bool:
    """Return whether a node reduces each map to one number."""
    if node.op in _POOLS:
        return True
    if node.op not in _WINDOW_POOLS:
        return False
    source, result = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if source is None or result is None or len(source) != 4:
        return False
    spatial = result[2:] if len(result) == 4 else result[min(2, len(result)) :]
    return result[:2] == source[:2] and all(dim == 1 for dim in spatial) and source[2] * source[3] > 1


def _exclusive_nodes(graph: gs.Graph, factors: Sequence[gs.Tensor], multiplies: Sequence[gs.Node]) -> list[gs.Node]:
    """Return the nodes whose results are used only for these factors, in graph order."""
    roots = {id(multiply) for multiply in multiplies}
    exclusive = set(roots)
    queue = list(factors)
    while queue:
        node = producer(queue.pop())
        if node is None or id(node) in exclusive:
            continue
        if all(id(reader) in exclusive for out in node.outputs for reader in out.outputs) and not any(
            is_output(graph, out) for out in node.outputs
        ):
            exclusive.add(id(node))
            queue += node.inputs
    return [node for node in graph.nodes if id(node) in exclusive - roots]


def _with_shared_nodes(graph: gs.Graph, gates: Sequence[Gate]) -> list[Gate]:
    """Assign nodes that serve several gates of one decision to the first of them."""
    nodes, tensors = {node.name: node for node in graph.nodes}, graph.tensors()
    by_score = {gates_of_score[0].score: gates_of_score for gates_of_score in gates_by_decision(gates)}
    result: list[Gate] = []
    for gate in gates:
        first, *others = by_score[gate.score]
        if others and gate is first:
            factors = [tensors[sharing.vector] for sharing in (first, *others)]
            shared = _exclusive_nodes(graph, factors, [nodes[sharing.multiply] for sharing in (first, *others)])
            taken = {name for other in others for name in other.nodes}
            remaining = [node for node in shared if node.name not in taken]
            gate = replace(gate, nodes=tuple(node.name for node in remaining), macs=sum(map(node_macs, remaining)))
        result.append(gate)
    return result


def _depends_on(tensor: gs.Tensor, node: gs.Node) -> bool:
    seen: set[int] = set()
    queue = [tensor]
    while queue:
        writer = producer(queue.pop())
        if writer is node:
            return True
        if writer is not None and id(writer) not in seen:
            seen.add(id(writer))
            queue += writer.inputs
    return False


def _differing(gate: Gate, entry: DescribedGate) -> str:
    """Return the facts of a description that contradict the network; empty if none does."""
    facts = {
        "convolution": (gate.layer, entry.conv),
        "kernels": (gate.kernels, entry.kernels),
        "unit of each kernel": (gate.unit_of, entry.unit_of),
    }
    if gate.threshold is not None and abs(gate.threshold - entry.threshold) > 1e-6:
        facts["threshold"] = (gate.threshold, entry.threshold)
    return ", ".join(name for name, (actual, described) in facts.items() if actual != described)
