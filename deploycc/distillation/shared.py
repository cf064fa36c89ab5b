"""What a pruned network still has in common with its original, tensor by tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.detector import Detector
from deploycc.graph.split import backend_maps


@dataclass(frozen=True)
class Divergence:
    """Where a student first differs from its teacher.

    Attributes:
        starts: tensors from which on the student differs; the picture alone where both are equal, or differ from the
            first layer on.
        same: tensors before, which are the same in both networks, so that the teacher's values serve the student too.
    """

    starts: tuple[str, ...]
    same: frozenset[str]


def find_divergence(student: Detector, teacher: Detector) -> Divergence:
    """Compare two networks node by node, by names, attributes and constants."""
    counterparts = {node.name: node for node in teacher.graph.nodes}
    picture = student.input.name
    same = {picture} if picture == teacher.input.name else set()
    starts: dict[str, None] = {}
    changed = False
    for node in student.graph.copy().toposort().nodes:
        if node.name in counterparts and _equal(node, counterparts[node.name], same):
            same |= {tensor.name for tensor in node.outputs}
            continue
        changed = True
        starts |= {tensor.name: None for tensor in node.inputs if tensor.name in same and not _constant(tensor)}
    heads = student.heads
    unchanged_head = heads is not None and bool({heads.scores, heads.locations} & same)
    if not changed or not starts or unchanged_head:
        return Divergence((picture,), frozenset((picture,)))
    return Divergence(tuple(starts), frozenset(same))


def _equal(node: gs.Node, other: gs.Node, same: set[str]) -> bool:
    if node.op != other.op or len(node.inputs) != len(other.inputs) or set(node.attrs) != set(other.attrs):
        return False
    if any(isinstance(value, gs.Graph) for value in node.attrs.values()):
        return False
    if any(not _equal_values(value, other.attrs[name]) for name, value in node.attrs.items()):
        return False
    if [tensor.name for tensor in node.outputs] != [tensor.name for tensor in other.outputs]:
        return False
    return all(
        _equal_values(mine.values, its.values)
        if _constant(mine) and _constant(its)
        else mine.name == its.name and (mine.is_empty() or mine.name in same)
        for mine, its in zip(node.inputs, other.inputs, strict=True)
    )


def _constant(tensor: Any) -> bool:
    return isinstance(tensor, gs.Constant)


def _equal_values(mine: Any, its: Any) -> bool:
    mine, its = (value.values if isinstance(value, gs.Constant) else value for value in (mine, its))
    return type(mine) is type(its) and np.array_equal(np.asarray(mine), np.asarray(its))


def common_maps(
    student: Detector, teacher: Detector, same: frozenset[str] = frozenset()
) -> dict[str, NDArray[np.int64]]:
    """Return the feature maps that both networks hand to their predictors, with the channels that the student kept.

    Args:
        student: with SSD heads.
        teacher: with the same.
        same: tensors that need no comparison.

    Returns:
        Tensor name to the teacher's channel of each of the student's channels. Maps whose channels cannot be traced
        through the student's pruning records are left out.
    """
    heads = student.heads
    assert heads is not None
    theirs, mine = teacher.graph.tensors(), student.graph.tensors()
    found = {}
    for name in backend_maps(student.graph, heads.locations, heads.scores):
        shape = list(mine[name].shape or ())
        if name in same or name not in theirs or len(shape) != 4 or len(list(theirs[name].shape or ())) != 4:
            continue
        kept = _kept_channels(student, name, int(theirs[name].shape[1]))
        if kept is not None and len(kept) == shape[1] and list(theirs[name].shape)[2:] == shape[2:]:
            found[name] = kept
    return found


def _kept_channels(student: Detector, tensor: str, count: int) -> NDArray[np.int64] | None:
    """Follow the kernels of the layer that made a map through all prunings since the network was trained."""
    layer = _maker(student.graph.tensors()[tensor])
    if layer is None:
        return None
    kept = np.arange(count)
    for record in student.prunings:
        removed = record.removed.get(layer.name, ())
        if removed and max(removed) >= len(kept):
            return None
        kept = np.delete(kept, list(removed))
    return kept


def _maker(tensor: Any) -> gs.Node | None:
    """The convolution whose kernels are the channels of a map."""
    while tensor.inputs:
        node: gs.Node = tensor.inputs[0]
        if node.op == "Conv":
            return node
        inputs = [source for source in node.inputs if not _constant(source)]
        if len(inputs) != 1 or list(inputs[0].shape or ())[:2] != list(tensor.shape or ())[:2]:
            return None
        tensor = inputs[0]
    return None
