"""One decision for many layers: the part of the network that depends on it, as variants with fewer kernels.

Where one gate switches kernels of a whole trunk, all layers that it reaches have channels that are zero together.
Nothing between two of these layers needs its full number of channels. So the whole part is put into branches, and each
branch leaves out the channels that its condition makes zero. Nothing has to be padded with zeros: the part ends where
no channel is missing, as after the heads of a detector.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.errors import Note
from deploycc.graph.branches.conditions import all_on, any_score_on, score_mask
from deploycc.graph.branches.exclusive import choose_one
from deploycc.graph.branches.gated_network import GatedNetwork
from deploycc.graph.branches.narrowed_part import Keep, narrowed, part_of
from deploycc.graph.branches.writer import Writer
from deploycc.graph.edit import bypass, is_output, producer, redirect_readers, sole_reader, static_shape
from deploycc.graph.gates.decision import Comparison, read_comparison
from deploycc.graph.gates.search import ACTIVATIONS, Gate

_FUSED = ACTIVATIONS | {"Transpose"}  # ONNX Runtime merges them with leaving its channel-blocked layout


@dataclass(frozen=True, eq=False)
class SharedPart:
    """The part of a network that depends on one decision.

    Attributes:
        gates: those that the decision switches, in graph order.
        comparisons: of each gate; all of the same scores.
        body: the part as a graph. It reads maps from outside and, for each gate, its zeros and ones (`vector_of`).
        exits: outputs of the part in the network; none of their channels depends on the gates alone.
        inside: nodes of the network that the part replaces.
    """

    gates: tuple[Gate, ...]
    comparisons: tuple[Comparison, ...]
    body: gs.Graph
    exits: tuple[gs.Variable, ...]
    inside: tuple[gs.Node, ...]


@dataclass(frozen=True, eq=False)
class Variants:
    """Variants of a part, each with more kernels than the one before.

    Attributes:
        keeps: for each variant and layer, [kernels] which kernels it holds.
        beyond: for each variant the scores of kernels that it does not hold.
        bodies: for each variant the narrower part; writing it changes it.
    """

    keeps: tuple[Mapping[str, Keep], ...]
    beyond: tuple[set[int], ...]
    bodies: tuple[gs.Graph, ...]


def vector_of(gate: Gate) -> str:
    """Return the name of the body's input for the zeros and ones of a gate, [1, kernels, 1, 1] float32."""
    return f"gate vector of {gate.layer}"


def find_shared_part(network: GatedNetwork, gates: Sequence[Gate]) -> SharedPart | Note:
    """Follow a decision up to the nodes after which none of the channels that it switches is left.

    Args:
        network: stays as it is.
        gates: of one decision, in graph order.

    Returns:
        The part, or a note on why branches cannot compute it: ``gate-batch``, ``gate-shape``, ``gate-leaks``,
        ``gate-mixed``.
    """
    graph, groups, first = network.graph, network.groups, gates[0].layer
    nodes, tensors = {node.name: node for node in graph.nodes}, graph.tensors()
    compared = [read_comparison(tensors[gate.vector], gate.kernels) for gate in gates]
    comparisons = tuple(comparison for comparison in compared if comparison is not None)
    if len(comparisons) < len(gates) or len({(id(known.scores), known.op, known.limit) for known in comparisons}) > 1:
        return Note(first, "gate-shape", "the gates that read its scores compare them in different ways")
    reached = _reached(nodes[gate.layer] for gate in gates)
    switched_groups = np.unique(np.concatenate([groups.layers[gate.layer] for gate in gates]))
    switched = {name for name, labelled in groups.tensors.items() if np.isin(labelled.groups, switched_groups).any()}
    inside = _inside(graph, reached, switched)
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
    """Return the body without some of the kernels.

    Args:
        part: of a network.
        keep: for each layer, [kernels] which kernels are kept, at least one.

    Returns:
        The narrower body, with narrower vectors, or a note on what cannot be left out.
    """
    return narrowed(part.body, {vector_of(gate): keep[gate.layer] for gate in part.gates if not keep[gate.layer].all()})


def write_variants(
    graph: gs.Graph, part: SharedPart, keeps: Sequence[Mapping[str, Keep]], *, plain: bool = False
) -> tuple[Note, ...]:
    """Replace the part by branches that compute the smallest variant which holds every kernel that is on.

    Args:
        graph: changed in place, unless a channel cannot be left out.
        part: of this graph.
        keeps: for each variant and layer, [kernels] which kernels the variant holds: those of the variant before and
            more; the last holds all of them.
        plain: write no `If` with several outputs, and none inside a branch (`deploycc.graph.branches.exclusive`).

    Returns:
        Nothing, or a note ``gate-not-narrowed`` if a channel cannot be left out; the graph is unchanged then.
    """
    narrow = narrowed_variants(part, keeps)
    if isinstance(narrow, Note):
        return (narrow,)
    beyond = narrow.beyond
    writer, tensors = Writer(graph), graph.tensors()
    stem = part.gates[0].layer
    outside = {tensor.name: tensors[tensor.name] for tensor in part.body.inputs if tensor.name in tensors}
    shapes = [tensor.shape for tensor in part.exits]

    def variant(branch: Writer, number: int) -> Sequence[gs.Tensor]:
        """Write this variant, where those before it do not do and those after it need not."""
        return paste_variant(branch, part, narrow, number, outside)

    def up_to(inner: Writer, number: int) -> Sequence[gs.Tensor]:
        """Write the choice among the variants up to this one.

        The widest is tested first, so that the worst case takes a single test.
        """
        if number == 0:
            return variant(inner, 0)
        return inner.choose(
            f"{stem}/{number}",
            asks_beyond(inner, part, beyond, number),
            shapes,
            lambda branch: variant(branch, number),
            lambda branch: up_to(branch, number - 1),
        )

    count = len(beyond)
    if plain and count > 1:
        flags = [asks_beyond(writer, part, beyond, number) for number in range(1, count)]
        variants = [functools.partial(variant, number=number) for number in range(count)]
        connect(part.exits, choose_one(writer, stem, flags, shapes, variants))
    else:
        connect(part.exits, up_to(writer, count - 1))
    return ()


def narrowed_variants(part: SharedPart, keeps: Sequence[Mapping[str, Keep]]) -> Variants | Note:
    """Return the different variants, or a note ``gate-not-narrowed`` if a channel cannot be left out.

    Args:
        part: of a network.
        keeps: as `write_variants` takes them.
    """
    missing = [_scores_beyond(part, keep) for keep in keeps]
    wanted = [number for number, scores in enumerate(missing) if not number or scores != missing[number - 1]]
    bodies = []
    for number in wanted:
        body = narrow_part(part, keeps[number])
        if isinstance(body, Note):
            return _not_narrowed(part, body)
        bodies.append(body)
    return Variants(
        tuple(keeps[number] for number in wanted), tuple(missing[number] for number in wanted), tuple(bodies)
    )


def asks_beyond(writer: Writer, part: SharedPart, beyond: Sequence[set[int]], number: int) -> gs.Variable:
    """Write whether the variants before this one lack a kernel that is on."""
    asked, stem = beyond[number - 1], part.gates[0].layer
    return any_score_on(writer, f"{stem}_beyond_{number - 1}", part.comparisons[0], asked, nested=_nested(part))


def kernels_asked(comparison: Comparison, tested: Collection[int]) -> list[int]:
    """Return kernels of a layer of which one is on, given that one of these scores is on.

    Empty if the score that is on may be one that only another layer uses.
    """
    if not set(tested) <= set(comparison.score_of):
        return []
    return [kernel for kernel, score in enumerate(comparison.score_of) if score in tested]


def one_variant(graph: gs.Graph, part: SharedPart, keep: Mapping[str, Keep]) -> gs.Graph | Note:
    """Return a copy of the network that computes a single variant, without the gates of the decision.

    Args:
        graph: stays as it is.
        part: of this graph.
        keep: for each layer, [kernels] which kernels the variant holds.

    Returns:
        The copy, or a note ``gate-not-narrowed``.
    """
    body = narrow_part(part, keep)
    if isinstance(body, Note):
        return _not_narrowed(part, body)
    copy = graph.copy()
    nodes, tensors = {node.name: node for node in body.nodes}, copy.tensors()
    for gate in part.gates:
        multiplication = nodes[gate.multiply]
        bypass(body, multiplication, multiplication.inputs[0])
    body.cleanup().toposort()
    body.inputs = [tensor for tensor in body.inputs if tensor.name in tensors]
    results = Writer(copy).paste(body, {tensor.name: tensors[tensor.name] for tensor in body.inputs})
    connect([tensors[tensor.name] for tensor in part.exits], results)
    return copy.cleanup().toposort()


def connect(exits: Sequence[gs.Tensor], results: Sequence[gs.Tensor]) -> None:
    """Let results take the place of tensors; the nodes that made these are dead then."""
    for tensor, result in zip(exits, results, strict=True):
        writer = result.inputs[0]
        tensor.inputs.clear()
        redirect_readers(result, tensor)
        writer.outputs = [tensor if output is result else output for output in writer.outputs]


def _not_narrowed(part: SharedPart, note: Note) -> Note:
    return Note(part.gates[0].layer, "gate-not-narrowed", f"{note.node}: {note.reason}")


def paste_variant(
    writer: Writer, part: SharedPart, narrow: Variants, number: int, outside: Mapping[str, gs.Tensor]
) -> tuple[gs.Variable, ...]:
    """Write one variant, whose gates multiply unless all kernels that it holds are known to be on.

    Args:
        writer: for the branch, which runs where the variants before this one lack a kernel that is on, and this one
            does not.
        part: of the network.
        narrow: variants of the part; the body of this one is changed.
        number: of the variant.
        outside: tensors that the body reads, by name.
    """
    body, keep = narrow.bodies[number], narrow.keeps[number]
    tested = narrow.beyond[number - 1] - narrow.beyond[number] if number else set[int]()  # one of these is on
    nodes, feeds = {node.name: node for node in body.nodes}, dict(outside)
    for gate, comparison in zip(part.gates, part.comparisons, strict=True):
        held = np.flatnonzero(keep[gate.layer]).tolist()
        asked = kernels_asked(comparison, tested)
        multiplication = nodes[gate.multiply]
        if not (all_on(gate, held, asked) and bypass(body, multiplication, multiplication.inputs[0])):
            feeds[vector_of(gate)] = score_mask(writer, f"{gate.layer}_mask", comparison, held)
    body.cleanup().toposort()
    body.inputs = [tensor for tensor in body.inputs if tensor.name in feeds]
    return writer.paste(body, feeds)


def _nested(part: SharedPart) -> bool:
    """Return whether a score is on only together with all before it, whatever layers these belong to.

    Each layer proves this for its own scores only, so that one of them must use all scores.
    """
    used = [set(comparison.score_of) for comparison in part.comparisons]
    return all(gate.granularity == "nested" for gate in part.gates) and set[int]().union(*used) in used


def _read_vector(body: gs.Graph, gate: Gate) -> None:
    """Let the body multiply by an input of its own, [1, kernels, 1, 1] float32, whatever the gate's vector is."""
    multiplication = next(node for node in body.nodes if node.name == gate.multiply)
    response = next(tensor for tensor in multiplication.inputs if tensor.name == gate.response)
    vector = gs.Variable(vector_of(gate), np.dtype(np.float32), [1, gate.kernels, 1, 1])
    body.inputs.append(vector)
    multiplication.op, multiplication.inputs = "Mul", [response, vector]


def _scores_beyond(part: SharedPart, keep: Mapping[str, Keep]) -> set[int]:
    """Return the scores of kernels that a variant does not hold."""
    return {
        comparison.score_of[kernel]
        for gate, comparison in zip(part.gates, part.comparisons, strict=True)
        for kernel in np.flatnonzero(~keep[gate.layer]).tolist()
    }


def _inside(graph: gs.Graph, reached: set[int], switched: set[str]) -> tuple[gs.Node, ...]:
    """Return the nodes that hold a switched channel, and those between them, in graph order.

    Nodes after the last of them that a runtime merges with the layer before them come along.
    """
    wanted: set[int] = set()
    queue = [node for node in graph.nodes if id(node) in reached and _names(node) & switched]
    while queue:
        node = queue.pop()
        if id(node) in reached and id(node) not in wanted:
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
        reason = f"it computes {batch[0]} pictures at once, and each switches other kernels: no branch suits all"
        return Note(first, "gate-batch", reason)
    leaks = [tensor.name for tensor in exits if tensor.name in switched]
    return Note(first, "gate-leaks", f"{leaks[0]} is an output with all its channels") if leaks else None


def _mixed(network: GatedNetwork, gates: Sequence[Gate], held: set[int]) -> Note | None:
    """Refuse a part that holds layers of another decision: inside a branch these could not be lowered any more."""
    layers = {gate.layer for gate in gates}
    nodes = {node.name: node for node in network.graph.nodes}
    others = [gate.layer for gate in network.gates if gate.layer not in layers and id(nodes[gate.layer]) in held]
    if not others:
        return None
    return Note(
        gates[0].layer, "gate-mixed", f"the part that it switches holds {others[0]}, which another gate switches"
    )


def _names(node: gs.Node) -> set[str]:
    return {tensor.name for tensor in (*node.inputs, *node.outputs)}


def _reached(nodes: Iterable[gs.Node]) -> set[int]:
    """Return these nodes and all that depend on them, by id."""
    reached, queue = set[int](), list(nodes)
    while queue:
        node = queue.pop()
        if id(node) not in reached:
            reached.add(id(node))
            queue += [reader for tensor in node.outputs for reader in tensor.outputs]
    return reached
