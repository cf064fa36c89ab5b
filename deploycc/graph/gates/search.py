"""Finding kernel gates: parts of the network that switch the kernels of a convolution on or off for each picture.

A gate (LKAM) pools a map, derives one number a kernel or group of kernels, compares it with a threshold, and multiplies
the convolution's response with the resulting zeros and ones. It is recognised by what it does, not by its spelling: a
factor with one element a channel, computed from pooled maps, that can only be 0 or 1
(`deploycc.graph.gates.value_sets`), multiplied with something that is made kernel by kernel of one convolution's output
and of nothing else.
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
_CHANNELWISE = frozenset(["Identity", "Dropout", "Cast", "MaxPool", "AveragePool"])  # kernel by kernel, no shift
_POOLS = frozenset(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
_WINDOW_POOLS = frozenset(["AveragePool", "MaxPool", "ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2"])


@dataclass(frozen=True)
class Gate:
    """One gated convolution. Nodes and tensors are named.

    Attributes:
        layer: the gated convolution.
        multiply: the node that switches: ``Mul``, or ``Where`` between the response and zero.
        response: tensor [1, kernels, H, W] that is multiplied.
        vector: tensor of zeros and ones that it is multiplied with: [1, kernels, 1, 1] or a shape that broadcasts so;
            a single element where one unit decides about the whole layer.
        reads: tensors that the gate pools.
        kernels, units: numbers of kernels, and of decisions.
        unit_of: for each kernel the decision it obeys.
        granularity: ``kernel``: each its own; ``block``: fewer decisions than kernels; ``nested``: decisions fall from
            the last to the first, because one number with falling offsets makes all of them, but those in front that
            are always on.
        always: decisions that are for on, whatever the picture.
        score: tensor that is compared.
        threshold: number that `score` is compared with; None where it is not one number for all.
        place: last step of the layer in front of the multiplication; ``before-bias`` and ``before-batchnorm`` where
            the step behind it shifts a switched-off kernel away from zero.
        source: ``metadata`` where the file describes this gate, else ``structure``. Either way it was proved.
        nodes: nodes that serve nothing but this gate, the multiplication excluded; those that several gates share, as
            they do where one decision switches several layers, are the first one's.
        macs: of those nodes, for one picture.
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
    """Find the gates, and say of what resembles one why it is none.

    Args:
        graph: named nodes, static shapes.
        described: what the file says about its gates (`deploycc.detector.Detector.gates`).

    Returns:
        The gates in graph order, and notes: ``gate-soft`` and ``gate-not-binary`` (attention, which weighs instead of
        switching), ``gate-no-convolution``, ``gate-leaks``, ``gate-reads-own-output``, ``gate-metadata``.
    """
    gates: list[Gate] = []
    notes: list[Note] = []
    for node in graph.nodes:
        found = _read(graph, node)
        if isinstance(found, Gate):
            gates.append(found)
        elif found is not None:
            notes.append(found)
    gates = _with_shared_nodes(graph, gates)
    by_multiply = {each.multiply: each for each in described}
    for index, gate in enumerate(gates):
        entry = by_multiply.pop(gate.multiply, None)
        if entry is None:
            continue
        if differing := _differing(gate, entry):
            notes.append(Note(gate.layer, "gate-metadata", f"the file describes another gate here: {differing}"))
        else:
            gates[index] = replace(gate, source="metadata", granularity=entry.granularity)
    for entry in by_multiply.values():
        reason = "the file describes a gate here, but the network does not hold one"
        notes.append(Note(entry.conv, "gate-metadata", reason))
    return tuple(gates), tuple(notes)


def describe_again(graph: gs.Graph, described: Sequence[DescribedGate]) -> tuple[DescribedGate, ...]:
    """Bring what a file says about its gates up to date with a changed graph: gone ones leave, others follow."""
    found = {gate.multiply: gate for gate in find_gates(graph)}
    return tuple(
        entry.model_copy(
            update={"kernels": gate.kernels, "units": gate.units, "unit_of": gate.unit_of, "place": gate.place}
        )
        for entry in described
        if (gate := found.get(entry.multiply)) is not None
    )


def gates_by_decision(gates: Sequence[Gate]) -> tuple[tuple[Gate, ...], ...]:
    """Gates in graph order, those of one decision together."""
    found: dict[str, list[Gate]] = {}
    for gate in gates:
        found.setdefault(gate.score, []).append(gate)
    return tuple(map(tuple, found.values()))


def is_pooled(tensor: gs.Tensor) -> tuple[gs.Tensor, ...]:
    """Return the maps whose global pooling the tensor is computed from; empty where it depends on anything else."""
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
    """The gate whose multiplication this node is, or a note where it nearly is one."""
    for response, factor in _operands(node):
        shape = static_shape(response)
        if shape is None or len(shape) != 4 or any(isinstance(t, gs.Constant) for t in (response, factor)):
            continue
        width = _channel_factor(factor, shape)
        if width is None or not (maps := is_pooled(factor)):
            continue
        if shape[2] * shape[3] == 1 and is_pooled(response):
            continue  # inside a gate: two of its conditions, or an activation such as x * sigmoid(x)
        values = possible_values(factor)
        if values.points is None:
            reason = f"its factor takes any value from {values.low:g} to {values.high:g}: attention, which switches"
            return Note(node.name, "gate-soft", f"{reason} nothing off; it stays a multiply")
        if values.points != {0.0, 1.0}:
            listed = ", ".join(f"{value:g}" for value in sorted(values.points))
            return Note(node.name, "gate-not-binary", f"its factor is one of {listed}, not 0 or 1; it stays a multiply")
        return _gate(graph, node, response, factor, maps)
    return None


def _operands(node: gs.Node) -> list[tuple[gs.Tensor, gs.Tensor]]:
    """Response and factor, in either order."""
    if node.domain not in (None, "", "ai.onnx"):
        return []
    if node.op == "Mul":
        one, other = node.inputs
        return [(one, other), (other, one)]
    if node.op == "Where":
        zero = constant_values(node.inputs[2])
        return [(node.inputs[1], node.inputs[0])] if zero is not None and not zero.any() else []
    return []


def _channel_factor(factor: gs.Tensor, response: tuple[int, ...]) -> int | None:
    """Elements of a factor that has one for each channel, or one for all; None for any other shape."""
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
        return Note(node.name, "gate-no-convolution", "what it multiplies is not one convolution's response")
    conv, *between = chain
    if any(_depends_on(tensor, conv) for tensor in maps):
        reason = f"it looks at the output of {conv.name}, which it gates: that must be computed first"
        return Note(node.name, "gate-reads-own-output", reason)
    inside = {id(step) for step in (*between, node)}
    for step in chain:
        others = [reader.name for reader in step.outputs[0].outputs if id(reader) not in inside]
        if others or is_output(graph, step.outputs[0]):
            where = ", ".join(others) or "an output"
            return Note(node.name, "gate-leaks", f"{where} also reads {step.name}, with no gate: it must be computed")
    kernels = (static_shape(response) or (0, 0))[1]
    decision = read_decision(factor, kernels)
    own = _own_nodes(graph, [factor], [node])
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
        nodes=tuple(each.name for each in own),
        macs=sum(node_macs(each) for each in own),
    )


def _back_to_convolution(response: gs.Tensor) -> list[gs.Node] | None:
    """Nodes from the convolution to the response, in that order; each maps channel k to channel k."""
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
    """Whether a node reduces every map to one number."""
    if node.op in _POOLS:
        return True
    if node.op not in _WINDOW_POOLS:
        return False
    source, result = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    if source is None or result is None or len(source) != 4:
        return False
    spatial = result[2:] if len(result) == 4 else result[min(2, len(result)) :]
    return result[:2] == source[:2] and all(dim == 1 for dim in spatial) and source[2] * source[3] > 1


def _own_nodes(graph: gs.Graph, factors: Sequence[gs.Tensor], multiplies: Sequence[gs.Node]) -> list[gs.Node]:
    """Nodes whose every result ends in these factors, in graph order."""
    own: set[int] = {id(multiply) for multiply in multiplies}
    queue = list(factors)
    while queue:
        node = producer(queue.pop())
        if node is None or id(node) in own:
            continue
        if all(id(reader) in own for out in node.outputs for reader in out.outputs) and not any(
            is_output(graph, out) for out in node.outputs
        ):
            own.add(id(node))
            queue += node.inputs
    return [node for node in graph.nodes if id(node) in own and not any(node is each for each in multiplies)]


def _with_shared_nodes(graph: gs.Graph, gates: Sequence[Gate]) -> list[Gate]:
    """Give nodes that serve several gates of one decision to the first of them."""
    nodes, tensors = {node.name: node for node in graph.nodes}, graph.tensors()
    together = {own[0].score: own for own in gates_by_decision(gates)}
    found: list[Gate] = []
    for gate in gates:
        first, *others = together[gate.score]
        if others and gate is first:
            factors = [tensors[each.vector] for each in (first, *others)]
            every = _own_nodes(graph, factors, [nodes[each.multiply] for each in (first, *others)])
            taken = {name for each in others for name in each.nodes}
            own = [node for node in every if node.name not in taken]
            gate = replace(gate, nodes=tuple(node.name for node in own), macs=sum(map(node_macs, own)))
        found.append(gate)
    return found


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
    """What of a description contradicts the network; empty where it fits."""
    facts = {
        "convolution": (gate.layer, entry.conv),
        "kernels": (gate.kernels, entry.kernels),
        "unit of each kernel": (gate.unit_of, entry.unit_of),
    }
    if gate.threshold is not None and abs(gate.threshold - entry.threshold) > 1e-6:
        facts["threshold"] = (gate.threshold, entry.threshold)
    return ", ".join(name for name, (found, said) in facts.items() if found != said)
