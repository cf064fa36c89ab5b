"""Find the tensor in which a graph's decoded SSD boxes lie, and the offsets that they are decoded from.

Boxes may be outputs, or inputs of whatever follows: suppression, a selection of the best rows, loops. Two things hide a
decoding and are left out while it is identified: clipping to the picture, on whole boxes or coordinate by coordinate,
and selections of rows, which commute with arithmetic on rows. How the file clips is then measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.errors import MeasureError
from deploycc.importers.box_decoding import BoxDecoding, NotAnSsdDecoding, identify
from deploycc.importers.network_part import (
    NETWORK,
    NetworkPart,
    Skipped,
    after_network,
    elements,
    selects_rows,
    separators,
)

_CLIPS = frozenset(["Clip", "Min", "Max", "Relu"])
_ORDINARY = 3.0  # exponents within which a file must not limit the size of boxes: a factor of 20
_TRIED_CUTS = 12
_TRIED_TENSORS = 24
_ATOL = 1e-5  # of the picture: agreement of the file's clipping with clipping to the picture


@dataclass(frozen=True, eq=False)
class Offsets:
    """Offsets of some of the priors.

    Attributes:
        tensor: 4 x P elements.
        columns: they are stored as [4, P].
    """

    tensor: gs.Variable
    columns: bool

    @property
    def rows(self) -> int:
        """Return P."""
        return elements(self.tensor) // 4


@dataclass(frozen=True, eq=False)
class DecodedBoxes:
    """Boxes that a graph decodes itself.

    Attributes:
        boxes: what the graph decodes.
        offsets: what it decodes from, in the order of the priors.
        decoding: the arithmetic in between.
        clip: the graph clips boxes to the picture.
        clips_otherwise: how its clipping differs from that, or "".
        selects: the graph decodes only the best rows.
    """

    boxes: gs.Variable
    offsets: tuple[Offsets, ...]
    decoding: BoxDecoding
    clip: bool
    clips_otherwise: str = ""
    selects: bool = False

    @property
    def priors(self) -> int:
        """Return P."""
        return len(self.decoding.priors)


@dataclass(frozen=True)
class Failure:
    """Why a tensor with the shape of boxes was not taken.

    Attributes:
        tensor: its name.
        stage: how far it agreed with an SSD; -1: nothing to decode was found.
        reason: what it does instead.
    """

    tensor: str
    stage: int
    reason: str


def find_decoded_boxes(graph: gs.Graph, picture: tuple[int, int]) -> tuple[DecodedBoxes | None, list[Failure]]:
    """Return the boxes that the graph decodes, or None; and why tensors that look like boxes are none.

    Args:
        graph: unchanged.
        picture: height and width of the input, pixels.
    """
    picture = _resized_picture(graph) or picture
    failures: list[Failure] = []
    for boxes in itertools.islice(_candidates(graph), _TRIED_TENSORS):
        found = undecoded(graph, boxes, picture)
        if isinstance(found, DecodedBoxes):
            return found, failures
        failures.append(found)
    return None, failures


def undecoded(graph: gs.Graph, boxes: gs.Variable, picture: tuple[int, int]) -> DecodedBoxes | Failure:
    """Find what ``boxes`` is decoded from.

    The farthest tensor that verifies is taken, so that little arithmetic stays in the network; a tensor that already
    has the shape [1, P, 4] or [1, P*4] is preferred to one that needs reshaping.
    """
    nodes, _ = after_network(boxes)
    selections = {id(node): node.inputs[0] for node in nodes if selects_rows(node)}
    clips, limits = _clips_and_limits(nodes)
    best = Failure(boxes.name, -1, "no tensor of 4 offsets per box separates it from the network's layers")
    for cut in itertools.islice(_cuts(graph, boxes, {**selections, **clips, **limits}, bool(selections)), _TRIED_CUTS):
        for columns in (False, True) if all(_may_be_columns(tensor) for tensor in cut) else (False,):
            offsets = tuple(Offsets(tensor, columns) for tensor in cut)
            try:
                return _verify(graph, boxes, offsets, (selections, clips, limits), picture)
            except NotAnSsdDecoding as failure:
                if failure.stage > best.stage:
                    best = Failure(boxes.name, failure.stage, failure.reason)
            except MeasureError as reason:  # an operator that ONNX Runtime cannot run: this cut cannot be verified
                best = Failure(boxes.name, best.stage, reason.note or reason.message)
    return best


def _candidates(graph: gs.Graph) -> Iterator[gs.Variable]:
    """Yield tensors that may be decoded boxes: outputs and operands of suppression first, then the latest first."""
    named = [*graph.outputs]
    for scope in (graph, *graph.subgraphs(recursive=True)):
        named += [node.inputs[0] for node in scope.nodes if node.op == "NonMaxSuppression"]
    grown: set[int] = set()  # tensors that an exponential went into
    decoded = []
    for node in graph.nodes:
        if node.op == "Exp" or any(id(tensor) in grown for tensor in node.inputs):
            grown.update(id(tensor) for tensor in node.outputs)
            decoded += node.outputs
    seen: set[int] = set()
    for tensor in (*named, *reversed(decoded)):
        if id(tensor) not in seen and isinstance(tensor, gs.Variable) and _looks_like_boxes(tensor):
            seen.add(id(tensor))
            yield tensor


def _looks_like_boxes(tensor: gs.Variable) -> bool:
    """Return whether the shape is [P, 4] or [4, P], maybe among axes of 1; one box shows no SSD."""
    if not elements(tensor) or tensor.dtype != np.float32 or elements(tensor) < 8:
        return False
    sizes = [size for size in tensor.shape if size != 1]
    return len(sizes) == 2 and 4 in (sizes[0], sizes[-1])


def _may_be_columns(tensor: gs.Variable) -> bool:
    shape = tensor.shape
    return len(shape) > 1 and bool(shape[-2] == 4) and bool(shape[-1] != 4)


def _cuts(graph: gs.Graph, boxes: gs.Variable, skipped: Skipped, selects: bool) -> Iterator[tuple[gs.Variable, ...]]:
    """Yield tensors that the boxes may be decoded from: one, or one for each part of a concatenation."""
    order = {id(node): index for index, node in enumerate(graph.nodes)}

    def preference(tensor: gs.Variable) -> tuple[bool, int]:
        count = elements(tensor) // 4
        plain = tuple(tensor.shape) in ((1, count, 4), (1, 4 * count))
        return not plain, order[id(tensor.inputs[0])] if tensor.inputs else -1

    def single(end: gs.Variable) -> list[gs.Variable]:
        size = elements(end)
        sizes = [t for t in separators(end, skipped) if elements(t) == size or (selects and elements(t) % 4 == 0)]
        return sorted((tensor for tensor in sizes if elements(tensor) >= size), key=preference)

    for tensor in single(boxes):
        yield (tensor,)
    for node in after_network(boxes, skipped)[0]:
        if node.op == "Concat" and len(node.inputs) > 1 and all(_is_part(tensor) for tensor in node.inputs):
            choices = [single(tensor) for tensor in node.inputs]
            if all(choices):
                yield from itertools.islice(zip(*choices, strict=False), 3)
                return


def _is_part(tensor: gs.Tensor) -> bool:
    return isinstance(tensor, gs.Variable) and elements(tensor) >= 4 and tensor.shape[-1] == 4


def _clips_and_limits(nodes: Sequence[gs.Node]) -> tuple[dict[int, gs.Tensor], dict[int, gs.Tensor]]:
    """Return the nodes that limit their only computed operand: boxes, and exponents of sizes before the exponential."""
    before_exp: set[int] = set()
    clips: dict[int, gs.Tensor] = {}
    limits: dict[int, gs.Tensor] = {}
    for node in nodes:
        if node.op == "Exp":
            before_exp.update(id(inner) for inner in after_network(node.inputs[0])[0])
    for node in nodes:
        computed = [tensor for tensor in node.inputs if isinstance(tensor, gs.Variable) and not tensor.is_empty()]
        if node.op in _CLIPS and len(computed) == 1:
            (limits if id(node) in before_exp else clips)[id(node)] = computed[0]
    return clips, limits


def _verify(
    graph: gs.Graph,
    boxes: gs.Variable,
    offsets: Sequence[Offsets],
    left_out: tuple[Skipped, Skipped, Skipped],
    picture: tuple[int, int],
) -> DecodedBoxes:
    """Identify the decoding from ``offsets`` to ``boxes``.

    Args:
        graph: unchanged.
        boxes: what may be decoded boxes.
        offsets: what they may be decoded from.
        left_out: selections of rows, clips of boxes, limits of exponents.
        picture: height and width in pixels.

    Raises:
        NotAnSsdDecoding: it is none of SSD's.
        MeasureError: ONNX Runtime cannot run it.
    """
    selections, clips, limits = left_out
    count = sum(part.rows for part in offsets)
    starts = [part.tensor for part in offsets]

    def decode(skipped: Skipped) -> _Decode:
        return _Decode(NetworkPart(graph, starts, boxes, skipped), offsets, _is_columns(boxes))

    bare = decode({**selections, **clips, **limits})
    far = np.random.default_rng(1).uniform(-60, 60, (count, 4)).astype(np.float32)
    clip, otherwise, edges = False, "", None
    with np.errstate(all="ignore"):
        if clips:
            clipped = decode({**selections, **limits})
            edges = _edges(bare(far), clipped(far))
        decoding = identify(bare, count, picture, edges)
        if clips:
            clip, otherwise = _clipping(decoding, clipped, count)
        if limits:
            limited = decode({**selections, **clips})
            _check_limits(decoding, bare, limited)
            decoding = replace(decoding, clamped=not np.array_equal(bare(far), limited(far)))
    return DecodedBoxes(boxes, tuple(offsets), decoding, clip, otherwise, bool(selections))


def _check_limits(decoding: BoxDecoding, bare: _Decode, limited: _Decode) -> None:
    variances = decoding.variances[:, [1, 0, 3, 2]] if decoding.y_first else decoding.variances
    ordinary = np.random.default_rng(3).uniform(-_ORDINARY, _ORDINARY, variances.shape) / variances
    if not np.allclose(bare(ordinary.astype(np.float32)), limited(ordinary.astype(np.float32)), rtol=1e-5, atol=1e-5):
        raise NotAnSsdDecoding(3, "it limits the size of boxes that are not extreme")


class _Decode:
    """A part of the graph as a function from offsets [P, 4] to boxes [P, 4]."""

    def __init__(self, part: NetworkPart, offsets: Sequence[Offsets], columns: bool) -> None:
        self._part, self._offsets, self._columns = part, offsets, columns

    def __call__(self, offsets: NDArray[np.float32]) -> NDArray[np.float32]:
        ends = list(itertools.accumulate(part.rows for part in self._offsets))
        pieces = np.split(offsets, ends[:-1])
        values = [
            np.ascontiguousarray(piece.T if part.columns else piece)
            for part, piece in zip(self._offsets, pieces, strict=True)
        ]
        try:
            boxes = self._part(*values)
        except RuntimeError as reason:
            raise NotAnSsdDecoding(-1, f"it cannot be computed from {self._offsets[0].tensor.name}: {reason}") from None
        if boxes.size != offsets.size:
            raise NotAnSsdDecoding(-1, f"it has {boxes.size} elements for {offsets.size} offsets")
        return np.ascontiguousarray(boxes.reshape(4, -1).T) if self._columns else boxes.reshape(-1, 4)


def _is_columns(boxes: gs.Variable) -> bool:
    sizes = [size for size in boxes.shape if size != 1]
    return bool(sizes[-1] != 4)


def _edges(bare: NDArray[np.float32], whole: NDArray[np.float32]) -> tuple[float, float] | None:
    """Return what the first and the second coordinate are clipped to, if far boxes show limits in pixels."""
    if not np.isfinite(whole).all():
        return None
    limits = [float(whole[:, [axis, axis + 2]].max()) for axis in (0, 1)]
    beyond = [float(np.nan_to_num(bare[:, [axis, axis + 2]], posinf=np.inf).max()) for axis in (0, 1)]
    if all(2 < limit < far for limit, far in zip(limits, beyond, strict=True)):
        return limits[0], limits[1]
    return None


def _clipping(decoding: BoxDecoding, whole: _Decode, count: int) -> tuple[bool, str]:
    """Return whether the file clips to the picture, and how it clips otherwise.

    Raises:
        NotAnSsdDecoding: clipped boxes are not the decoded boxes within limits.
    """
    rng = np.random.default_rng(2)
    offsets = [rng.uniform(-reach, reach, (count, 4)) for reach in (1.0, 6.0, 6.0)]
    decoded = np.concatenate([decoding.decode(x) for x in offsets])
    own = np.concatenate([decoding.to_corners(whole(x.astype(np.float32)).astype(np.float64)) for x in offsets])
    allowed = _ATOL * np.maximum(1.0, np.abs(decoded).max(axis=1, keepdims=True))
    if (np.abs(np.clip(decoded, 0, 1) - own) <= allowed).all():
        return True, ""
    if (np.abs(decoded - own) <= allowed).all():
        return False, ""
    low = np.where(own.min(axis=0) > decoded.min(axis=0) + _ATOL, own.min(axis=0), -np.inf)
    high = np.where(own.max(axis=0) < decoded.max(axis=0) - _ATOL, own.max(axis=0), np.inf)
    if not (np.abs(np.clip(decoded, low, high) - own) <= allowed).all():
        raise NotAnSsdDecoding(3, "what it limits is not only where boxes end")
    between = f"x to {low[0]:.4g}..{high[2]:.4g} and y to {low[1]:.4g}..{high[3]:.4g} of the picture"
    return bool(np.isfinite(low[:2]).all() and np.isfinite(high[2:]).all()), between


def _resized_picture(graph: gs.Graph) -> tuple[int, int] | None:
    """Return height and width of the picture that the network resizes its input to, if it does."""
    queue: list[gs.Tensor] = list(graph.inputs)
    seen = {id(tensor) for tensor in queue}
    for tensor in queue:  # grows while it is walked
        for node in tensor.outputs:
            if node.op in ("Resize", "Upsample") and elements(node.outputs[0]) and len(node.outputs[0].shape) == 4:
                shape = node.outputs[0].shape
                return (shape[1], shape[2]) if shape[3] in (1, 3) else (shape[2], shape[3])
            if elements(tensor) and node.op not in NETWORK:
                fresh = [result for result in node.outputs if elements(result) == elements(tensor)]
                queue.extend(result for result in fresh if id(result) not in seen)
                seen.update(id(result) for result in fresh)
    return None
