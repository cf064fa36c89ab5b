"""What a file's own suppression states: thresholds and limits, wherever its operators are.

Exporters write suppression as one NonMaxSuppression over all classes, as one per class, inside a branch (torchvision
does where nothing may be left) or a loop, and put the score threshold and the limits into Greater, TopK and Slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.detector import Nms
from deploycc.errors import ModelError, Note

_NO_LIMIT = 1 << 31
_PASSES_ON = frozenset(  # operators between scores and detections
    [
        *("Cast", "Concat", "Flatten", "Gather", "GatherND", "Identity", "NonZero", "Reshape", "Slice", "Squeeze"),
        *("Split", "Transpose", "Unsqueeze", "Where", "Compress", "Min", "ReduceMin", "Shape", "If", "Loop"),
        *("TopK", "Greater", "GreaterOrEqual", "NonMaxSuppression", "Mul"),
    ]
)


def stated_nms(graph: gs.Graph, scores: gs.Variable) -> tuple[Nms | None, list[Note]]:
    """Return the suppression parameters that the graph states, or None if it does not suppress; and notes.

    Args:
        graph: with everything that follows the scores.
        scores: the scores that the suppression reads, maybe after other operators.
    """
    nodes = [node for node in _nodes(graph) if node.op == "NonMaxSuppression"]
    if not nodes:
        return None, []
    limits = {(_number(node, 3, 0.0), _number(node, 4, 0.0)) for node in nodes}
    if len(limits) > 1:
        note = f"the file suppresses {len(nodes)} times with different thresholds, so none of them is kept"
        return None, [Note(nodes[0].name, "ssd-several-nms", note)]
    iou, score = limits.pop()
    if iou is None or score is None:
        return None, [Note(nodes[0].name, "ssd-nms-computed", "the thresholds of NonMaxSuppression are not constants")]
    before, after = _selections(graph, scores, nodes)
    if score == 0.0:
        thresholds = _compared_with(before)
        score = max(thresholds) if len(thresholds) == 1 else score
    nms = Nms(score_threshold=score, iou_threshold=iou)
    counts = _counts(before)
    if len(counts) == 1:
        nms = replace(nms, top_k=min(counts))
    kept = _counts(after)
    per_class = {_number(node, 2, 0.0) for node in nodes}
    limit = per_class.pop() if len(per_class) == 1 else None
    if kept:
        nms = replace(nms, keep_top_k=min(kept))
    reason = "the file's own NonMaxSuppression is cut off; its thresholds are kept"
    if assumed := [*(["top_k"] if len(counts) != 1 else []), *([] if kept else ["keep_top_k"])]:
        values = " and ".join(f"{key} {getattr(nms, key)}" for key in assumed)
        reason += f"; it states no limits for {values}, which [nms] in a description can change"
    notes = [Note("", "ssd-nms-removed", reason)]
    if limit is not None and 0 < limit < _NO_LIMIT and not (kept and min(kept) <= limit):
        notes.append(
            Note(
                nodes[0].name,
                "ssd-nms-limit",
                f"the file keeps at most {limit:.0f} boxes per class; the compiled detector limits the boxes of all "
                f"classes together, to {nms.keep_top_k}",
            )
        )
    return nms, notes


def unlike_ssd(graph: gs.Graph, boxes: gs.Variable, centred: bool, selects: bool) -> Note | None:
    """Say why the graph's suppression finds other boxes than an SSD's would; None if it does not.

    Args:
        graph: with everything that follows the boxes.
        boxes: decoded boxes.
        centred: they are stored as centre and size, not as corners.
        selects: only some of them are decoded.

    Raises:
        ModelError: ``nms-threshold``.
    """
    for node in _nodes(graph):
        reason = None
        if node.op == "NonMaxSuppression":
            _check_overlap(graph, node)
            most = _number(node, 2, 0.0)
            if most is not None and most <= 0:
                reason = (
                    f"it keeps {most:.0f} boxes per class (max_output_boxes_per_class), so the file detects nothing"
                )
            elif node.inputs[0] is boxes and node.attrs.get("center_point_box", 0) and not centred:
                reason = f"it takes boxes as centre and size (center_point_box), but {boxes.name} holds corners"
        elif node.op == "TopK" and selects and not node.attrs.get("largest", 1):
            reason = "it selects the boxes with the lowest scores (largest=0)"
        if reason is not None:
            return Note(node.name, "ssd-nms-unlike", f"{node.op} is not an SSD's, so the heads are not cut: {reason}")
    return None


def _check_overlap(graph: gs.Graph, node: gs.Node) -> None:
    overlap = _number(node, 3, 0.0)
    if overlap is not None and not 0 <= overlap <= 1:
        raise ModelError(
            "nms-threshold",
            f"NonMaxSuppression has the overlap threshold {overlap:g}, outside 0..1",
            context={"network": graph.name, "node": node.name},
            note="ONNX Runtime refuses to run such a file, too",
        )


def _nodes(graph: gs.Graph) -> Iterator[gs.Node]:
    for scope in (graph, *graph.subgraphs(recursive=True)):
        yield from scope.nodes


def _number(node: gs.Node, index: int, default: float) -> float | None:
    """Return a scalar operand, ``default`` if it is omitted, None if it is computed."""
    if index >= len(node.inputs) or node.inputs[index].is_empty():
        return default
    values = _constant(node.inputs[index])
    return None if values is None or values.size != 1 else float(values.reshape(()))


def _constant(tensor: gs.Tensor) -> np.ndarray | None:
    """Return the values of a constant, also of a Constant node, as branches have."""
    if isinstance(tensor, gs.Constant):
        return np.asarray(tensor.values)
    node = tensor.inputs[0] if tensor.inputs else None
    if node is not None and node.op == "Constant" and isinstance(node.attrs.get("value"), gs.Constant):
        return np.asarray(node.attrs["value"].values)
    return None


def _selections(graph: gs.Graph, scores: gs.Variable, nms: Iterable[gs.Node]) -> tuple[list[gs.Node], list[gs.Node]]:
    """Return the nodes that pick boxes after ``scores``: those that do not depend on suppression, and the others."""
    suppressing = {id(node) for node in nms}
    after = _readers([node.outputs[0] for node in nms if node.outputs])
    reached = _readers([scores])
    late = {id(node) for node in after}
    for node in graph.nodes:  # the condition of a branch may depend on boxes alone
        inside = [inner for branch in node.subgraphs(recursive=True) for inner in branch.nodes]
        if any(id(inner) in suppressing for inner in inside):
            late |= {id(reader) for reader in _readers(node.outputs)}
            after += [reader for reader in _readers(node.outputs) if id(reader) not in {id(n) for n in after}]
    before = [node for node in reached if id(node) not in late and id(node) not in suppressing]
    return before, after


def _readers(tensors: Iterable[gs.Tensor]) -> list[gs.Node]:
    queue = list(tensors)
    nodes: dict[int, gs.Node] = {}
    for tensor in queue:  # grows while it is walked
        for node in tensor.outputs:
            if id(node) not in nodes:
                nodes[id(node)] = node
                if node.op in _PASSES_ON:
                    queue.extend(node.outputs)
    return list(nodes.values())


def _compared_with(nodes: Iterable[gs.Node]) -> set[float]:
    """Return the constants that scores must exceed."""
    values = [_constant(node.inputs[1]) for node in nodes if node.op in ("Greater", "GreaterOrEqual")]
    return {float(value.reshape(())) for value in values if value is not None and value.size == 1}


def _counts(nodes: Iterable[gs.Node]) -> set[int]:
    """Return the limits of TopK, and of slices from the first row on."""
    counts: set[int] = set()
    for node in nodes:
        if node.op == "TopK":
            counts |= _upper_bounds(node.inputs[1])
        if node.op == "Slice" and all(isinstance(operand, gs.Constant) for operand in node.inputs[1:]):
            begins, ends = (np.ravel(operand.values).tolist() for operand in node.inputs[1:3])
            axes = np.ravel(node.inputs[3].values).tolist() if len(node.inputs) > 3 else list(range(len(begins)))
            if begins == [0] and axes == [0] and 0 < ends[0] < _NO_LIMIT and not _static_rows(node.inputs[0]):
                counts.add(int(ends[0]))
    return counts


def _static_rows(tensor: gs.Tensor) -> bool:
    return bool(tensor.shape) and isinstance(tensor.shape[0], int)


def _upper_bounds(count: gs.Tensor) -> set[int]:
    """Return the constants that a count cannot exceed: itself, or operands of the minimum that computes it."""
    values = _constant(count)
    if values is not None:
        return {int(values.reshape(-1)[0])}
    node = count.inputs[0] if count.inputs else None
    if node is None:
        return set()
    if node.op in ("Cast", "Reshape", "Squeeze", "Unsqueeze", "Identity", "ReduceMin"):
        return _upper_bounds(node.inputs[0])
    if node.op in ("Min", "Concat"):
        return {bound for operand in node.inputs for bound in _upper_bounds(operand)}
    return set()
