"""Recognise SSD heads in a graph and cut the graph there.

Exported SSDs come in three forms: decoded boxes and scores as outputs, the same before an ONNX ``NonMaxSuppression``,
and raw offsets, whose priors a description must give. Decoded boxes are recognised by what their arithmetic computes
(`box_decoding`), not by how it is written. Heads that cannot be verified stay as they are, with a note.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.detector import InputSpec, Nms, SsdHeads
from deploycc.errors import Note
from deploycc.importers.box_decoding import BoxDecoding, identify
from deploycc.importers.head_rows import as_rows
from deploycc.importers.network_part import NetworkPart, elements, separators

_DESCRIBE = "give them as [heads] in a description (`describe`)"


@dataclass(frozen=True, eq=False)
class RawHeads:
    """Heads whose scores have not been examined yet.

    Attributes:
        heads: complete except for `background`, which `head_scores.resolve_scores` determines.
        nms: suppression parameters, if the graph states them.
        background_removed: the graph drops the background's scores itself.
    """

    heads: SsdHeads
    nms: Nms | None = None
    background_removed: bool = False


@dataclass(frozen=True, eq=False)
class Pair:
    """Boxes or offsets [1, P, 4] and the scores of the same P priors.

    Attributes:
        columns: the scores are stored as [C, P].
    """

    boxes: gs.Variable
    scores: gs.Variable
    priors: int
    columns: bool
    nms: Nms | None = None


def find_decoded_heads(graph: gs.Graph, spec: InputSpec) -> tuple[RawHeads | None, list[Note]]:
    """Find heads that the graph decodes to boxes itself; on success cut off the decoding, in place.

    Returns:
        The heads or None, and notes on the outcome.
    """
    notes: list[Note] = []
    pairs = [*_before_nms(graph, notes), *output_pairs(graph)]
    for pair in pairs:
        undecoded = _undecoded(graph, pair, spec)
        if undecoded is not None:
            return _cut(graph, pair, *undecoded)
    if pairs:
        boxes, scores = pairs[0].boxes, pairs[0].scores
        notes.append(
            Note(
                boxes.name,
                "ssd-decoding-unknown",
                f"{boxes.name} {boxes.shape} and {scores.name} {scores.shape} have the shapes of SSD heads, but "
                f"{boxes.name} is not computed by an SSD decoding with priors; if they are raw offsets and scores, the "
                f"file does not contain their priors: {_DESCRIBE}",
            )
        )
    else:
        outputs = ", ".join(f"{t.name} {t.shape}" for t in graph.outputs)
        notes.append(
            Note(
                "",
                "ssd-heads-unknown",
                f"no pair of outputs has the shapes [1, P, 4] and [1, P, classes] of SSD heads (outputs: {outputs}), "
                f"so the network is compiled without heads: {_DESCRIBE}",
            )
        )
    return None, notes


def output_pairs(graph: gs.Graph) -> Iterator[Pair]:
    """Yield outputs that have the shapes of SSD heads: one [1, P, 4] and exactly one other with P rows."""
    for boxes in graph.outputs:
        shape = _static(boxes)
        if len(shape) < 2 or shape[-1] != 4 or elements(boxes) < 8:
            continue
        priors = elements(boxes) // 4
        others = [t for t in graph.outputs if t is not boxes and _layout(_static(t), priors)]
        if len(others) == 1:
            yield Pair(boxes, others[0], priors, _layout(_static(others[0]), priors) == "columns")


def _before_nms(graph: gs.Graph, notes: list[Note]) -> Iterator[Pair]:
    nodes = [node for node in graph.nodes if node.op == "NonMaxSuppression"]
    if len(nodes) > 1:
        notes.append(Note(nodes[0].name, "ssd-several-nms", f"expected one NonMaxSuppression node, not {len(nodes)}"))
        return
    for node in nodes:
        boxes, scores = node.inputs[:2]
        limits = [_number(node, 3, 0.0), _number(node, 4, 0.0)]
        if None in limits or not isinstance(boxes, gs.Variable) or not isinstance(scores, gs.Variable):
            notes.append(Note(node.name, "ssd-nms-computed", "the thresholds of NonMaxSuppression are not constants"))
            continue
        priors = elements(boxes) // 4
        if not priors or len(_static(scores)) != 3 or scores.shape[2] != priors:
            continue
        nms = Nms(score_threshold=limits[1] or 0.0, iou_threshold=limits[0] or 0.0)
        turn = _producer(scores)
        if turn is not None and turn.op == "Transpose" and list(turn.attrs.get("perm", ())) == [0, 2, 1]:
            yield Pair(boxes, turn.inputs[0], priors, columns=False, nms=nms)
        else:
            yield Pair(boxes, scores, priors, columns=True, nms=nms)


def _number(node: gs.Node, index: int, default: float) -> float | None:
    """Return a scalar operand, ``default`` if it is omitted, None if it is computed."""
    if index >= len(node.inputs) or node.inputs[index].is_empty():
        return default
    tensor = node.inputs[index]
    return float(np.asarray(tensor.values).reshape(-1)[0]) if isinstance(tensor, gs.Constant) else None


def _static(tensor: gs.Tensor) -> tuple[int, ...]:
    shape = tuple(tensor.shape or ())
    return shape if all(isinstance(d, int) for d in shape) else ()


def _layout(shape: tuple[int, ...], priors: int) -> Literal["rows", "columns"] | None:
    """Return the layout of a score tensor: [1, P, C] or [P, C] is "rows", [1, C, P] "columns", others None."""
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] != 1):
        return None
    if shape[-2] == priors:
        return "rows"
    return "columns" if shape[-1] == priors and len(shape) == 3 else None


def _undecoded(graph: gs.Graph, pair: Pair, spec: InputSpec) -> tuple[gs.Variable, bool, bool, BoxDecoding] | None:
    """Find the tensor that ``pair.boxes`` is decoded from: (tensor, stored as [4, P], clips, decoding).

    The farthest tensor that verifies is taken, so that little arithmetic stays in the network; a tensor that already
    has the shape [1, P, 4] or [1, P*4] is preferred to one that needs reshaping.
    """
    end, clips = _before_clip(pair.boxes)
    count = pair.priors
    order = {id(node): index for index, node in enumerate(graph.nodes)}
    candidates = list(separators(end, 4 * count))
    candidates.sort(key=lambda t: (_static(t) not in ((1, count, 4), (1, 4 * count)), order.get(id(_producer(t)), -1)))
    for tensor in candidates:
        try:
            part = NetworkPart(graph, tensor, end)
        except Exception:  # an operator that ONNX Runtime cannot run: this cut cannot be verified
            continue
        for columns in (False, True) if _static(tensor)[-2:] == (4, count) and count != 4 else (False,):

            def decode(offsets: np.ndarray, part: NetworkPart = part, columns: bool = columns) -> np.ndarray:
                return part(np.ascontiguousarray(offsets.T) if columns else offsets).reshape(count, 4)

            decoding = identify(decode, count, (spec.height, spec.width))
            if decoding is not None:
                return tensor, columns, clips, decoding
    return None


def _producer(tensor: gs.Tensor) -> gs.Node | None:
    return tensor.inputs[0] if tensor.inputs else None


def _before_clip(boxes: gs.Variable) -> tuple[gs.Variable, bool]:
    """Return the tensor before a final clip to 0..1, which would hide the true edges of the priors."""
    unclipped, tensor = boxes, boxes
    while (node := _producer(tensor)) is not None and node.op in ("Clip", "Min", "Max", "Identity"):
        tensor = node.inputs[0]
        limits = [t.values for t in node.inputs[1:] if isinstance(t, gs.Constant) and t.values.size == 1]
        bounds = [float(value.reshape(())) for value in limits]
        if node.op != "Identity":
            if not bounds or not set(bounds) <= {0.0, 1.0}:
                break
            unclipped = tensor
    return unclipped, unclipped is not boxes


def _cut(
    graph: gs.Graph, pair: Pair, tensor: gs.Variable, columns: bool, clips: bool, decoding: BoxDecoding
) -> tuple[RawHeads, list[Note]]:
    count = pair.priors
    locations = as_rows(graph, tensor, count, 4, columns=columns)
    classes = elements(pair.scores) // count
    removed = _drops_background(pair.scores, count, classes)
    scores = as_rows(graph, pair.scores, count, classes, columns=pair.columns)
    graph.outputs = [locations, scores]
    graph.cleanup().toposort()
    heads = SsdHeads(
        locations=locations.name,
        scores=scores.name,
        priors=decoding.priors,
        variances=decoding.variances,
        classes=classes,
        box_coding=decoding.box_coding,
        y_first=decoding.y_first,
        clip=clips,
    )
    notes = [
        Note(
            tensor.name,
            "ssd-heads-recognised",
            f"the graph decodes {count} boxes from {tensor.name} ({decoding.box_coding}"
            f"{', y first' if decoding.y_first else ''}); this decoding is verified on random offsets to "
            f"{decoding.error:.1e} of the picture, and cut off",
        )
    ]
    if not decoding.axes_known:
        notes.append(
            Note(pair.boxes.name, "ssd-axes-assumed", "the boxes do not show which axis is x; x is assumed to be first")
        )
    if decoding.clamped:
        notes.append(
            Note(
                tensor.name,
                "ssd-offsets-clamped",
                "the file's own decoding limits the effect of extreme offsets; the compiled decoding does not",
            )
        )
    if pair.nms is not None:
        notes.append(
            Note("", "ssd-nms-removed", "the file's own NonMaxSuppression is cut off; its thresholds are kept")
        )
    return RawHeads(heads, pair.nms, removed), notes


def _drops_background(scores: gs.Variable, priors: int, classes: int) -> bool:
    """Return whether the scores are sliced from one class more, as in exports that drop the background."""
    tensor: gs.Tensor = scores
    while (node := _producer(tensor)) is not None and node.inputs:
        source = node.inputs[0]
        if node.op in ("Slice", "Split", "Gather") and elements(source) == priors * (classes + 1):
            return True
        if elements(source) != elements(tensor) or node.op in ("Conv", "Gemm", "MatMul"):
            return False
        tensor = source
    return False
