"""Find the class scores of decoded boxes, and what the arithmetic after the network makes of them.

Scores are told from other values per prior (landmarks, mask coefficients) by what they can be: the arithmetic behind
the network's layers is run on large random values, so that trained and untrained networks look alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.errors import MeasureError
from deploycc.importers.network_part import NETWORK, NetworkPart, after_network, elements, selects_rows

Kind = Literal["softmax", "sigmoid", "logits", "unknown"]

_LARGE = 8.0  # standard deviation of random values: far outside 0..1
_MOVES = frozenset(["Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"])


@dataclass(frozen=True, eq=False)
class Scores:
    """A tensor of scores.

    Attributes:
        tensor: P x C elements.
        columns: stored as [C, P].
        classes: C.
        kind: what its values are, whatever the network computes.
    """

    tensor: gs.Variable
    columns: bool
    classes: int
    kind: Kind


def scores_of(tensor: gs.Tensor, graph: gs.Graph, priors: int) -> Scores | None:
    """Return the tensor as scores of ``priors`` boxes if it has their shape: [P, C] or [C, P] among axes of 1."""
    if not isinstance(tensor, gs.Variable) or not elements(tensor) or tensor.dtype != np.float32:
        return None
    shape = tuple(tensor.shape)
    sizes = [size for size in shape if size != 1]
    if elements(tensor) % priors or len(shape) < 2 or len(sizes) > 2 or (len(shape) > 2 and shape[0] != 1):
        return None
    if any(selects_rows(node) for node in after_network(tensor)[0]):  # rows are no longer those of the priors
        return None
    classes = elements(tensor) // priors
    if shape[-2:] == (priors, classes):
        return Scores(tensor, False, classes, kind_of(graph, tensor, priors))
    if shape[-2:] == (classes, priors) and len(shape) > 2:
        return Scores(tensor, True, classes, kind_of(graph, tensor, priors, columns=True))
    return None


def kind_of(graph: gs.Graph, tensor: gs.Variable, priors: int, *, columns: bool = False) -> Kind:
    """Return what the arithmetic between the network's layers and ``tensor`` makes of any values.

    Args:
        graph: unchanged.
        tensor: P x C elements.
        priors: P.
        columns: stored as [C, P].

    Returns:
        ``softmax``: rows sum to 1; ``sigmoid``: values in 0..1; ``logits``: any values; ``unknown``: ONNX Runtime
        cannot run the arithmetic.
    """
    _, border = after_network(tensor)
    if not border or not all(elements(start) and start.dtype == np.float32 for start in border):
        return "unknown"
    rng = np.random.default_rng(0)
    values = [rng.normal(0, _LARGE, start.shape).astype(np.float32) for start in border]
    try:
        scores = NetworkPart(graph, border, tensor)(*values).reshape(-1, priors) if columns else None
        rows = scores.T if scores is not None else NetworkPart(graph, border, tensor)(*values).reshape(priors, -1)
    except (MeasureError, RuntimeError):
        return "unknown"
    if not ((rows >= 0) & (rows <= 1 + 1e-6)).all():
        return "logits"
    if rows.shape[1] > 1 and np.allclose(rows.sum(axis=1), 1.0, rtol=0, atol=1e-4):
        return "softmax"
    return "sigmoid"


def find_scores(graph: gs.Graph, boxes: gs.Variable, offsets: Sequence[gs.Variable], priors: int) -> list[Scores]:
    """Return what may be the scores of the boxes: one if it is certain, several if they cannot be told apart.

    Operands of the suppression that takes the boxes come first, then outputs, then any tensor with one row per prior.
    Activated scores are preferred to other values, and what all classes share to what is selected from it later.

    Args:
        graph: unchanged.
        boxes: the decoded boxes.
        offsets: what they are decoded from.
        priors: P.
    """
    for tensor in _suppressed_with(graph, boxes):
        found = scores_of(tensor, graph, priors)
        if found is not None:
            return [found]
    outputs = [scores_of(tensor, graph, priors) for tensor in graph.outputs if tensor is not boxes]
    named = [found for found in outputs if found is not None]
    activated = [found for found in named if found.kind in ("softmax", "sigmoid")]
    if activated:
        return activated
    related = _related(boxes, offsets)
    found_anywhere = [
        found
        for node in graph.nodes
        if node.op not in NETWORK
        for tensor in node.outputs
        if id(tensor) not in related and (found := scores_of(tensor, graph, priors)) is not None
    ]
    activated = [found for found in found_anywhere if found.kind in ("softmax", "sigmoid")]
    return _first_of_each_branch(activated) or named or _last_of_each_branch(found_anywhere)


def _suppressed_with(graph: gs.Graph, boxes: gs.Variable) -> Iterator[gs.Tensor]:
    suppressing = [node for node in graph.nodes if node.op == "NonMaxSuppression"]
    if len(suppressing) == 1:  # several have one class each
        (node,) = suppressing
        if node.inputs[0] is boxes:
            scores = node.inputs[1]
            turn = scores.inputs[0] if scores.inputs else None
            turned = turn is not None and turn.op == "Transpose" and list(turn.attrs.get("perm", ())) == [0, 2, 1]
            scores = turn.inputs[0] if turn is not None and turned else scores
            yield _before_last_class_is_dropped(scores)
            yield scores


def _before_last_class_is_dropped(scores: gs.Tensor) -> gs.Tensor:
    """Return scores with their last class, the background, where they leave it out: it changes no class's number."""
    node = scores.inputs[0] if scores.inputs else None
    if node is None or node.op != "Slice" or not elements(scores) or not elements(node.inputs[0]):
        return scores
    before, after = tuple(node.inputs[0].shape), tuple(scores.shape)
    begins = node.inputs[1]
    drops_one = before[:-1] == after[:-1] and before[-1] == after[-1] + 1
    return node.inputs[0] if drops_one and isinstance(begins, gs.Constant) and not np.any(begins.values) else scores


def _related(boxes: gs.Variable, offsets: Sequence[gs.Variable]) -> set[int]:
    """Return what the offsets are made of after the network, and everything made of them."""
    related = {id(boxes)}
    for start in offsets:
        nodes, border = after_network(start)
        related.update(id(tensor) for node in nodes for tensor in node.outputs)
        related.update(map(id, border))
    return related | _made_of(offsets)


def _made_of(tensors: Iterable[gs.Tensor]) -> set[int]:
    queue = list(tensors)
    seen = {id(tensor) for tensor in queue}
    for tensor in queue:  # grows while it is walked
        fresh = [result for node in tensor.outputs for result in node.outputs if id(result) not in seen]
        queue.extend(fresh)
        seen.update(map(id, fresh))
    return seen


def _first_of_each_branch(scores: Sequence[Scores]) -> list[Scores]:
    """Drop what is made of another of these."""
    made = _made_of(result for found in scores for node in found.tensor.outputs for result in node.outputs)
    return [found for found in scores if id(found.tensor) not in made]


def _last_of_each_branch(scores: Sequence[Scores]) -> list[Scores]:
    """Drop what another of these is made of."""
    return [
        found
        for found in scores
        if not any(id(other.tensor) in _made_of([found.tensor]) for other in scores if other is not found)
    ]


def unused_class(scores: Scores) -> int | None:
    """Return the only class that nothing after the scores reads, as files drop their background; None otherwise."""
    used: set[int] = set()
    axis = len(scores.tensor.shape) - (2 if scores.columns else 1)
    queue: list[tuple[gs.Tensor, int]] = [(scores.tensor, axis)]
    for tensor, axis in queue:  # grows while it is walked
        if not tensor.outputs:
            return None
        for node in tensor.outputs:
            if node.op == "Split":
                sizes = [elements(result) * scores.classes // elements(tensor) for result in node.outputs]
                if node.attrs.get("axis", 0) % len(tensor.shape) != axis:
                    queue.extend((result, axis) for result in node.outputs)
                    continue
                ends = itertools.accumulate(sizes)
                parts = zip(node.outputs, sizes, ends, strict=True)
                used.update(*(range(end - size, end) for result, size, end in parts if result.outputs))
                continue
            classes = _read_classes(node, tensor, axis, scores.classes)
            if classes is not None:
                used |= classes
                continue
            result = node.outputs[0]
            moved = _axis_after(node, tensor, axis, scores.classes)
            if moved is None:
                return None
            queue.append((result, moved))
    unused = set(range(scores.classes)) - used
    return unused.pop() if len(unused) == 1 else None


def _read_classes(node: gs.Node, tensor: gs.Tensor, axis: int, classes: int) -> set[int] | None:
    """Return the classes that a node takes out of the scores; None if it takes none out."""
    rank = len(tensor.shape)
    every = range(classes)
    if node.op == "Gather" and node.inputs[0] is tensor and node.attrs.get("axis", 0) % rank == axis:
        index = node.inputs[1]
        return {int(i) % classes for i in np.ravel(index.values)} if isinstance(index, gs.Constant) else set(every)
    if node.op == "Slice" and all(isinstance(operand, gs.Constant) for operand in node.inputs[1:]):
        begins, ends = (np.ravel(operand.values).tolist() for operand in node.inputs[1:3])
        axes = np.ravel(node.inputs[3].values).tolist() if len(node.inputs) > 3 else list(range(len(begins)))
        steps = np.ravel(node.inputs[4].values).tolist() if len(node.inputs) > 4 else [1] * len(begins)
        for begin, end, along, step in zip(begins, ends, axes, steps, strict=True):
            if along % rank == axis:
                taken = set(every[int(begin) : int(end) : int(step)])
                if len(taken) < classes:
                    return taken
    return None


def _axis_after(node: gs.Node, tensor: gs.Tensor, axis: int, classes: int) -> int | None:
    """Return the axis of the classes after a node that keeps them all; None if that is not certain."""
    result = node.outputs[0]
    if node.op == "Transpose":
        return int(list(node.attrs.get("perm", range(len(tensor.shape))[::-1])).index(axis))
    if node.op == "Slice" or (node.op == "Gather" and node.inputs[0] is tensor):
        return axis if result.shape is not None and len(result.shape) == len(tensor.shape) else None
    if node.op not in _MOVES or not result.shape:
        return None
    places = [index for index, size in enumerate(result.shape) if size == classes]
    return places[0] if len(places) == 1 else None
