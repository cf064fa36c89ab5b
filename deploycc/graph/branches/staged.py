"""One decision for many layers without a branch: a network is split where it decides how much of it is needed.

An `If` on a GPU costs a copy to the host and a wait for it, and the network cannot be a CUDA graph. Instead the host
may run two engines in a row: the first computes all that does not depend on the decision, and says which variant is
needed; of the second there is one for each variant, with all that comes after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.errors import Note
from deploycc.graph.branches.narrowed_part import Keep
from deploycc.graph.branches.shared_part import (
    SharedPart,
    Variants,
    asks_beyond,
    connect,
    narrowed_variants,
    paste_variant,
)
from deploycc.graph.branches.writer import Writer
from deploycc.graph.edit import redirect_readers


@dataclass(frozen=True, eq=False)
class Stages:
    """A network in two stages, whose outputs are those of the last.

    Attributes:
        first: from the inputs of the network to the decision, and to the tensors that a second stage reads.
        decision: output of the first stage, [1] int32: number of the second stage that is to run.
        second: the second stages, each with more kernels than the one before and with all outputs of the network under
            their names. Their inputs are outputs of the first stage, or inputs of the network; each has only those
            that it reads.
    """

    first: gs.Graph
    decision: str
    second: tuple[gs.Graph, ...]


def split_at_decision(graph: gs.Graph, part: SharedPart, keeps: Sequence[Mapping[str, Keep]]) -> Stages | Note:
    """Split a network at the decision that a part of it depends on; the outputs stay the same.

    Args:
        graph: stays as it is.
        part: of this graph.
        keeps: for each variant and layer, [kernels] which kernels the variant holds: those of the variant before and
            more; the last holds all of them.

    Returns:
        The stages, or a note: ``gate-not-narrowed`` if a channel cannot be left out, ``gate-not-staged`` if all
        variants are the same, or the decision is computed from what it switches.
    """
    narrow = narrowed_variants(part, keeps)
    if isinstance(narrow, Note):
        return narrow
    layer = part.gates[0].layer
    if len(narrow.bodies) < 2:
        return Note(layer, "gate-not-staged", "its variants are all the same")
    before = _made_before(graph, part)
    if any(comparison.scores.name not in before for comparison in part.comparisons):
        return Note(layer, "gate-not-staged", "what decides is computed from what it switches, or from constants alone")
    namer = Writer(graph)
    renamed = {tensor.name: namer.name(tensor.name) for tensor in graph.outputs if tensor.name in before}
    second = tuple(_second(graph, part, narrow, number, before, renamed) for number in range(len(narrow.bodies)))
    of_network = {tensor.name for tensor in graph.inputs}
    read = dict.fromkeys(tensor.name for stage in second for tensor in stage.inputs if tensor.name not in of_network)
    original = {new: old for old, new in renamed.items()}
    first = graph.copy()
    tensors = first.tensors()
    decision = _write_decision(Writer(first), _in_copy(part, tensors), narrow)
    first.outputs = [decision, *(tensors[original.get(name, name)] for name in read)]
    for old, new in renamed.items():
        tensors[old].name = new
    first.cleanup().toposort()
    return Stages(first, decision.name, second)


def _made_before(graph: gs.Graph, part: SharedPart) -> frozenset[str]:
    """Return the tensors that depend on the picture, and not on the part."""
    after = {id(node) for node in part.inside}
    _follow([tensor for node in part.inside for tensor in node.outputs], after)
    from_picture = set[int]()
    _follow(graph.inputs, from_picture)
    return frozenset(
        tensor.name
        for node in graph.nodes
        if id(node) in from_picture and id(node) not in after
        for tensor in node.outputs
        if not tensor.is_empty()
    )


def _follow(tensors: Sequence[gs.Tensor], reached: set[int]) -> None:
    """Add the nodes that read these tensors, and those after them."""
    queue = [reader for tensor in tensors for reader in tensor.outputs]
    while queue:
        node = queue.pop()
        if id(node) not in reached:
            reached.add(id(node))
            queue += [reader for tensor in node.outputs for reader in tensor.outputs]


def _in_copy(part: SharedPart, tensors: Mapping[str, gs.Tensor]) -> SharedPart:
    """Return the part with the scores of a copy of its network."""
    comparisons = tuple(replace(known, scores=tensors[known.scores.name]) for known in part.comparisons)
    return replace(part, comparisons=comparisons)


def _write_decision(writer: Writer, part: SharedPart, narrow: Variants) -> gs.Variable:
    """Write the number of the smallest variant that holds every kernel that is on: of how many each lacks one."""
    stem = f"{part.gates[0].layer}_variant"
    one = writer.constant(f"{stem}_shape", np.array([1]))
    total: gs.Variable | None = None
    for number in range(1, len(narrow.bodies)):
        lacks = writer.node(
            "Cast", f"{stem}_lacks", [asks_beyond(writer, part, narrow.beyond, number)], [], np.int32, to=6
        )
        lacks = writer.node("Reshape", f"{stem}_lacks", [lacks, one], [1], np.int32)
        total = lacks if total is None else writer.node("Add", stem, [total, lacks], [1], np.int32)
    assert total is not None
    return total


def _second(
    graph: gs.Graph,
    part: SharedPart,
    narrow: Variants,
    number: int,
    before: frozenset[str],
    renamed: Mapping[str, str],
) -> gs.Graph:
    """Return one variant with all that comes after it."""
    copy = graph.copy()
    tensors = copy.tensors()
    outside = {tensor.name: tensors[tensor.name] for tensor in part.body.inputs if tensor.name in tensors}
    results = paste_variant(Writer(copy), _in_copy(part, tensors), narrow, number, outside)
    connect([tensors[tensor.name] for tensor in part.exits], results)
    for name in before:
        tensors[name].inputs.clear()
        copy.inputs.append(tensors[name])
    for old, new in renamed.items():  # an output that the first stage computes is handed on
        handed = gs.Variable(new, tensors[old].dtype, tensors[old].shape)
        copy.inputs[next(place for place, tensor in enumerate(copy.inputs) if tensor is tensors[old])] = handed
        redirect_readers(tensors[old], handed)
        copy.nodes.append(gs.Node("Identity", new, {}, [handed], [tensors[old]]))
    copy.cleanup().toposort()
    copy.inputs = [tensor for tensor in copy.inputs if tensor.outputs]
    return copy
