"""One decision for many layers: the part of the network that depends on it, written once for each number of kernels.

Where one gate switches kernels of a whole trunk, every layer behind it has channels that are zero together. Nothing
that lies between two of these layers needs its full number of channels, so that the whole part is put into branches,
each with the channels left out that its condition makes zero. Nothing is filled up with zeros: the part ends where all
channels are there again, as behind a detector's heads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.errors import Note
from deploycc.graph.branches.conditions import all_on, any_score_on, score_mask
from deploycc.graph.branches.gated_network import GatedNetwork
from deploycc.graph.branches.narrowed_part import Keep, narrowed, part_of
from deploycc.graph.branches.writer import Writer
from deploycc.graph.edit import bypass, is_output, producer, redirect_readers, sole_reader, static_shape
from deploycc.graph.gates.decision import Comparison, read_comparison
from deploycc.graph.gates.search import ACTIVATIONS, Gate

_FUSED = ACTIVATIONS | {"Transpose"}  # ONNX Runtime transposes while it leaves its blocks of channels


@dataclass(frozen=True, eq=False)
class SharedPart:
    """What depends on one decision.

    Attributes:
        gates: that it makes, in graph order.
        comparisons: what each of them compares; the scores are the same tensor.
        body: reads maps from outside, and for each gate its zeros and ones, `vector_of`; makes the exits.
        exits: in the network; every channel of them is there, whatever the gates say.
        inside: nodes of the network that it holds.
    """

    gates: tuple[Gate, ...]
    comparisons: tuple[Comparison, ...]
    body: gs.Graph
    exits: tuple[gs.Variable, ...]
    inside: tuple[gs.Node, ...]


def vector_of(gate: Gate) -> str:
    """Name of a body's input for the zeros and ones of a gate, [1, kernels, 1, 1] float32."""
    return f"gate vector of {gate.layer}"


def find_shared_part(network: GatedNetwork, gates: Sequence[Gate]) -> SharedPart | Note:
    """Follow a decision to where the last channel that it switches is gone.

    Args:
        network: stays as it is.
        gates: of one decision, in graph order.

    Returns:
        The part, or why branches cannot compute it: ``gate-batch``, ``gate-shape``, ``gate-leaks``, ``gate-mixed``.
    """
    graph, groups, first = network.graph, network.groups, gates[0].layer
    nodes, tensors = {node.name: node for node in graph.nodes}, graph.tensors()
    compared = [read_comparison(tensors[gate.vector], gate.kernels) for gate in gates]
    comparisons = tuple(each for each in compared if each is not None)
    if len(comparisons) < len(gates) or len({(id(each.scores), each.op, each.limit) for each in comparisons}) > 1:
        return Note(first, "gate-shape", "the gates that read its score do not compare it in one way")
    behind = _behind(nodes[gate.layer] for gate in gates)
    own = np.unique(np.concatenate([groups.layers[gate.layer] for gate in gates]))
    switched = {name for name, labelled in groups.tensors.items() if np.isin(labelled.groups, own).any()}
    inside = _inside(graph, behind, switched)
    held = {id(node) for node in inside}
    exits = [
        tensor
        for node in inside
        for tensor in node.outputs
        if is_output(graph, tensor) or any(id(reader) not in held for reader in tensor.outputs)
    ]
    if note := _unfit(first, inside, exits, switched) or _mixed(network, gates, held):
        return note
    made = {id(tensor) for node in inside for tensor in node.outputs}
    entries = {
        id(tensor): tensor
        for node in inside
        for tensor in node.inputs
        if isinstance(tensor, gs.Variable) and not tensor.is_empty() and id(tensor) not in made
    }
    body = part_of(graph, inside, list(entries.values()), *exits)
    for gate in gates:
        _read_vector(body, gate)
    return SharedPart(tuple(gates), comparisons, body, tuple(exits), inside)


def narrow_part(part: SharedPart, keep: Mapping[str, Keep]) -> gs.Graph | Note:
    """The body without some of the kernels.

    Args:
        part: of a network.
        keep: by layer, [kernels] which are there; at least one of each.

    Returns:
        The narrower body, its vectors narrower too, or what cannot be left out.
    """
    return narrowed(part.body, {vector_of(gate): keep[gate.layer] for gate in part.gates if not keep[gate.layer].all()})


def write_variants(graph: gs.Graph, part: SharedPart, keeps: Sequence[Mapping[str, Keep]]) -> tuple[Note, ...]:
    """Replace the part by branches: the first variant that holds every kernel that is on is computed.

    Args:
        graph: changed in place, unless a channel cannot be left out.
        part: of this graph.
        keeps: for each variant by layer, [kernels] which are there; each holds those of the one before, the last all.

    Returns:
        Notes; one ``gate-not-narrowed`` with nothing changed where a channel cannot be left out.
    """
    asked = [_scores_beyond(part, keep) for keep in keeps]
    wanted = [number for number, each in enumerate(asked) if not number or each != asked[number - 1]]
    keeps, beyond = [keeps[number] for number in wanted], [asked[number] for number in wanted]
    bodies = []
    for keep in keeps:
        body = narrow_part(part, keep)
        if isinstance(body, Note):
            return (_not_narrowed(part, body),)
        bodies.append(body)
    writer, tensors = Writer(graph), graph.tensors()
    stem = part.gates[0].layer
    outside = {tensor.name: tensors[tensor.name] for tensor in part.body.inputs if tensor.name in tensors}
    shapes = [tensor.shape for tensor in part.exits]

    def up_to(inner: Writer, number: int) -> Sequence[gs.Tensor]:
        """Variants up to this one. The widest is asked for first, so that the worst case pays for one question."""
        if number == 0:
            return _paste(inner, part, bodies[0], keeps[0], set(), outside)
        asked = beyond[number - 1]
        flag = any_score_on(inner, f"{stem}_beyond_{number - 1}", part.comparisons[0], asked, nested=_nested(part))
        return inner.choose(
            f"{stem}/{number}",
            flag,
            shapes,
            lambda branch: _paste(branch, part, bodies[number], keeps[number], asked - beyond[number], outside),
            lambda branch: up_to(branch, number - 1),
        )

    _connect(part.exits, up_to(writer, len(keeps) - 1))
    return ()


def kernels_asked(comparison: Comparison, tested: Collection[int]) -> list[int]:
    """Kernels of a layer of which one is on, as one of these scores is; none where that may be another layer's."""
    if not set(tested) <= set(comparison.score_of):
        return []
    return [kernel for kernel, score in enumerate(comparison.score_of) if score in tested]


def one_variant(graph: gs.Graph, part: SharedPart, keep: Mapping[str, Keep]) -> gs.Graph | Note:
    """A copy of the network that computes one variant for every picture, without the gates of its decision.

    Args:
        graph: stays as it is.
        part: of this graph.
        keep: by layer, [kernels] which are there.

    Returns:
        The copy, or a note ``gate-not-narrowed``.
    """
    body = narrow_part(part, keep)
    if isinstance(body, Note):
        return _not_narrowed(part, body)
    copy = graph.copy()
    nodes, tensors = {node.name: node for node in body.nodes}, copy.tensors()
    for gate in part.gates:
        product = nodes[gate.multiply]
        bypass(body, product, product.inputs[0])
    body.cleanup().toposort()
    body.inputs = [tensor for tensor in body.inputs if tensor.name in tensors]
    results = Writer(copy).paste(body, {tensor.name: tensors[tensor.name] for tensor in body.inputs})
    _connect([tensors[tensor.name] for tensor in part.exits], results)
    return copy.cleanup().toposort()


def _connect(exits: Sequence[gs.Tensor], results: Sequence[gs.Tensor]) -> None:
    """Let results take the places of tensors; what made those is dead then."""
    for tensor, result in zip(exits, results, strict=True):
        writer = result.inputs[0]
        tensor.inputs.clear()
        redirect_readers(result, tensor)
        writer.outputs = [tensor if each is result else each for each in writer.outputs]


def _not_narrowed(part: SharedPart, why: Note) -> Note:
    return Note(part.gates[0].layer, "gate-not-narrowed", f"{why.node}: {why.reason}")


def _paste(
    writer: Writer,
    part: SharedPart,
    body: gs.Graph,
    keep: Mapping[str, Keep],
    tested: set[int],
    outside: Mapping[str, gs.Tensor],
) -> tuple[gs.Variable, ...]:
    """Write one variant; gates multiply inside unless all the kernels that are there are known to be on.

    Args:
        writer: of the branch.
        part: of the network.
        body: narrowed; used up.
        keep: what it was narrowed to.
        tested: one of these scores is on here; none: nothing is known.
        outside: tensors that are read, by name.
    """
    nodes, feeds = {node.name: node for node in body.nodes}, dict(outside)
    for gate, comparison in zip(part.gates, part.comparisons, strict=True):
        there = np.flatnonzero(keep[gate.layer]).tolist()
        asked = kernels_asked(comparison, tested)
        product = nodes[gate.multiply]
        if not (all_on(gate, there, asked) and bypass(body, product, product.inputs[0])):
            feeds[vector_of(gate)] = score_mask(writer, f"{gate.layer}_mask", comparison, there)
    body.cleanup().toposort()
    body.inputs = [tensor for tensor in body.inputs if tensor.name in feeds]
    return writer.paste(body, feeds)


def _nested(part: SharedPart) -> bool:
    """Whether a score is on only with all those before it, of whichever layer: some layer must have them all."""
    used = [set(comparison.score_of) for comparison in part.comparisons]
    return all(gate.granularity == "nested" for gate in part.gates) and set[int]().union(*used) in used


def _read_vector(body: gs.Graph, gate: Gate) -> None:
    """Let a body multiply with an input of its own, [1, kernels, 1, 1] float32, whatever the gate's vector is."""
    product = next(node for node in body.nodes if node.name == gate.multiply)
    response = next(tensor for tensor in product.inputs if tensor.name == gate.response)
    vector = gs.Variable(vector_of(gate), np.dtype(np.float32), [1, gate.kernels, 1, 1])
    body.inputs.append(vector)
    product.op, product.inputs = "Mul", [response, vector]


def _scores_beyond(part: SharedPart, keep: Mapping[str, Keep]) -> set[int]:
    """Scores of kernels that are not there."""
    return {
        comparison.score_of[kernel]
        for gate, comparison in zip(part.gates, part.comparisons, strict=True)
        for kernel in np.flatnonzero(~keep[gate.layer]).tolist()
    }


def _inside(graph: gs.Graph, behind: set[int], switched: set[str]) -> tuple[gs.Node, ...]:
    """Nodes behind the gated layers that hold a switched channel, and those between them; in graph order.

    What stands behind the last of them and a runtime computes together with the layer in front comes along.
    """
    wanted: set[int] = set()
    queue = [node for node in graph.nodes if id(node) in behind and _names(node) & switched]
    while queue:
        node = queue.pop()
        if id(node) in behind and id(node) not in wanted:
            wanted.add(id(node))
            queue += [writer for tensor in node.inputs if (writer := producer(tensor)) is not None]
    for node in [node for node in graph.nodes if id(node) in wanted]:
        for tensor in node.outputs:
            reader = sole_reader(graph, tensor)
            if reader is not None and reader.op in _FUSED:
                wanted.add(id(reader))
    return tuple(node for node in graph.nodes if id(node) in wanted)


def _unfit(first: str, inside: Sequence[gs.Node], exits: Sequence[gs.Variable], switched: set[str]) -> Note | None:
    for tensor in (tensor for node in inside for tensor in (*node.inputs, *node.outputs)):
        shape = static_shape(tensor)
        if not isinstance(tensor, gs.Variable) or tensor.is_empty():
            continue
        if shape is None:
            return Note(first, "gate-shape", f"the shape of {tensor.name} depends on values")
        if tensor.dtype != np.float32 and tensor in exits:
            return Note(first, "gate-shape", f"{tensor.name} is {tensor.dtype}; only float32 networks are lowered")
    batch = static_shape(inside[0].outputs[0]) or (0,)
    if batch[0] != 1:
        reason = f"it computes {batch[0]} pictures at once, which switch different kernels: no one branch is right"
        return Note(first, "gate-batch", reason)
    leaks = [tensor.name for tensor in exits if tensor.name in switched]
    return Note(first, "gate-leaks", f"{leaks[0]} is an output with all its channels") if leaks else None


def _mixed(network: GatedNetwork, gates: Sequence[Gate], held: set[int]) -> Note | None:
    """Layers of another decision that stand among these: in a branch they would be layers of none."""
    own = {gate.layer for gate in gates}
    nodes = {node.name: node for node in network.graph.nodes}
    others = [gate.layer for gate in network.gates if gate.layer not in own and id(nodes[gate.layer]) in held]
    if not others:
        return None
    return Note(gates[0].layer, "gate-mixed", f"what it switches reaches {others[0]}, which another gate switches")


def _names(node: gs.Node) -> set[str]:
    return {tensor.name for tensor in (*node.inputs, *node.outputs)}


def _behind(nodes: Iterable[gs.Node]) -> set[int]:
    """These nodes and all that depend on them, by id."""
    found, queue = set[int](), list(nodes)
    while queue:
        node = queue.pop()
        if id(node) not in found:
            found.add(id(node))
            queue += [reader for tensor in node.outputs for reader in tensor.outputs]
    return found
