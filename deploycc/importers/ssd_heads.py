"""Recognise SSD heads in a graph and cut the graph there.

Exported SSDs come in three forms: decoded boxes and scores as outputs, the same before suppression, and raw offsets,
whose priors a description must give. Decoded boxes are recognised by what their arithmetic computes (`box_search`),
not by how it is written. Heads that cannot be verified stay as they are, with a note. What the network computes besides
(masks, landmarks) stays an output.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.detector import InputSpec, Nms, SsdHeads
from deploycc.errors import ModelError, Note
from deploycc.importers.box_search import DecodedBoxes, Failure, find_decoded_boxes, undecoded
from deploycc.importers.description import Description
from deploycc.importers.head_rows import as_rows, concatenated
from deploycc.importers.network_part import elements
from deploycc.importers.nms_parameters import stated_nms, unlike_ssd
from deploycc.importers.score_search import Kind, Scores, find_scores, scores_of, unused_class

_DESCRIBE = "give them as [heads] in a description (`describe`)"
_LISTED = 6


@dataclass(frozen=True, eq=False)
class RawHeads:
    """Heads whose scores have not been examined yet.

    Attributes:
        heads: complete except for `background`, which `head_scores.resolve_scores` determines.
        kind: what the scores can be.
        nms: suppression parameters, if the graph states them.
        background_removed: the graph drops the background's scores itself.
        unused_class: the only class that the graph itself does not use after the scores, or None.
    """

    heads: SsdHeads
    kind: Kind
    nms: Nms | None = None
    background_removed: bool = False
    unused_class: int | None = None


def find_decoded_heads(
    graph: gs.Graph, spec: InputSpec, description: Description
) -> tuple[RawHeads | None, list[Note]]:
    """Find heads that the graph decodes to boxes itself; on success cut off the decoding, in place.

    Args:
        graph: static shapes where they are known.
        spec: the picture.
        description: may name the tensors of decoded boxes and of scores.

    Returns:
        The heads or None, and notes on the outcome.

    Raises:
        ModelError: the description names a tensor that the graph does not decode, or that does not exist.
    """
    picture = (spec.height, spec.width)
    named = description.heads.locations
    if named is not None:
        found = undecoded(graph, named_tensor(graph, named, "locations", description), picture)
        if isinstance(found, Failure):
            raise ModelError(
                "description-no-priors",
                f"the description gives no priors, and the network does not decode {named} itself: {found.reason}",
                context={"file": description.path, "key": "heads.locations"},
                hint="give priors = 'file.npy' or one [[heads.prior_box]] per feature map",
            )
        failures: list[Failure] = []
    else:
        boxes, failures = find_decoded_boxes(graph, picture)
        if boxes is None:
            return None, [_not_found(graph, failures)]
        found = boxes
    scores = _scores(graph, found, description)
    if isinstance(scores, Note):
        return None, [scores]
    unlike = unlike_ssd(graph, found.boxes, found.decoding.centred, found.selects)
    return (None, [unlike]) if unlike else _cut(graph, found, scores)


def output_pairs(graph: gs.Graph) -> Iterator[tuple[gs.Variable, gs.Variable]]:
    """Yield outputs that have the shapes of raw heads: P x 4 offsets and exactly one other output with P rows."""
    for boxes in graph.outputs:
        shape = tuple(boxes.shape or ())
        if elements(boxes) < 8 or len(shape) < 2 or 4 not in shape[-2:]:
            continue
        priors = elements(boxes) // 4
        others = [t for t in graph.outputs if t is not boxes and _has_rows(t, priors)]
        if len(others) == 1 and shape[-2:] in ((priors, 4), (4, priors)):
            yield boxes, others[0]


def named_tensor(graph: gs.Graph, name: str, key: str, description: Description) -> gs.Variable:
    """Return the tensor that a description names.

    Raises:
        ModelError: it does not exist.
    """
    known = {name: t for name, t in graph.tensors().items() if isinstance(t, gs.Variable)}
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise ModelError(
            "description-unknown-tensor",
            f"the network has no tensor {name}",
            context={"file": description.path, "key": f"heads.{key}"},
            hint=f"did you mean {close[0]}?" if close else f"outputs: {', '.join(t.name for t in graph.outputs)}",
        )
    return known[name]


def set_outputs(graph: gs.Graph, heads: Sequence[gs.Variable], cut_off: Sequence[gs.Tensor]) -> list[Note]:
    """Make ``heads`` the graph's outputs, and keep what else the network computes; in place.

    Outputs made of the detections are replaced by the heads. What such an output took from elsewhere (landmarks of the
    kept boxes) becomes an output as it was before.

    Args:
        graph: loses what leads to no output.
        heads: offsets and scores.
        cut_off: decoded boxes and scores.

    Returns:
        Notes on the outputs that stay and on those that were replaced.
    """
    made = _made_of([*cut_off, *heads])
    extra = [tensor for tensor in graph.outputs if id(tensor) not in made]
    replaced = [tensor for tensor in graph.outputs if id(tensor) in made and tensor not in heads]
    known = {id(tensor) for tensor in (*extra, *heads, *cut_off)}
    for tensor in _taken_along(replaced, made, [*heads, *cut_off]):
        if id(tensor) not in known:
            extra.append(tensor)
    graph.outputs = [*heads, *extra]
    graph.cleanup().toposort()
    notes = []
    if extra:
        listed = ", ".join(f"{tensor.name} {tensor.shape}" for tensor in extra)
        notes.append(Note("", "ssd-extra-outputs", f"the network has further outputs, which are kept: {listed}"))
    if replaced:
        listed = ", ".join(tensor.name for tensor in replaced)
        reason = f"the heads replace the outputs that are made of the boxes and scores: {listed}"
        notes.append(Note("", "ssd-outputs-replaced", reason))
    return notes


def _taken_along(outputs: Sequence[gs.Tensor], made: set[int], heads: Sequence[gs.Tensor]) -> list[gs.Variable]:
    """Return what the outputs are made of besides the detections: tensors of numbers that the network computes."""
    before = {id(tensor) for head in heads for tensor in _makers(head)}
    found: dict[int, gs.Variable] = {}
    queue = list(outputs)
    seen = {id(tensor) for tensor in queue}
    for tensor in queue:  # grows while it is walked
        for node in tensor.inputs:
            inside = [inner for branch in node.subgraphs(recursive=True) for inner in branch.nodes]
            for operand in [operand for reader in (node, *inside) for operand in reader.inputs]:
                if id(operand) in seen or not isinstance(operand, gs.Variable):
                    continue
                seen.add(id(operand))
                if id(operand) in made:
                    queue.append(operand)
                elif id(operand) not in before and elements(operand) > 1 and operand.dtype == np.float32:
                    found[id(operand)] = operand
    return list(found.values())


def _makers(tensor: gs.Tensor) -> list[gs.Tensor]:
    """Return everything that the tensor is made of."""
    queue = [tensor]
    seen = {id(tensor)}
    for result in queue:  # grows while it is walked
        fresh = [operand for node in result.inputs for operand in node.inputs if id(operand) not in seen]
        queue.extend(fresh)
        seen.update(map(id, fresh))
    return queue


def _made_of(tensors: Sequence[gs.Tensor]) -> set[int]:
    queue = list(tensors)
    seen = {id(tensor) for tensor in queue}
    for tensor in queue:  # grows while it is walked
        fresh = [result for node in tensor.outputs for result in node.outputs if id(result) not in seen]
        queue.extend(fresh)
        seen.update(map(id, fresh))
    return seen


def _has_rows(tensor: gs.Tensor, priors: int) -> bool:
    shape = tuple(tensor.shape or ())
    if not elements(tensor) or len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] != 1):
        return False
    return shape[-2] == priors or (len(shape) == 3 and shape[-1] == priors)


def _not_found(graph: gs.Graph, failures: Sequence[Failure]) -> Note:
    """Say in a few lines what was tried."""
    outputs = ", ".join(f"{t.name} {t.shape}" for t in graph.outputs[:_LISTED])
    if len(graph.outputs) > _LISTED:
        outputs += f" and {len(graph.outputs) - _LISTED} more"
    if not failures:
        reason = (
            f"no tensor has the shape [1, P, 4] of an SSD's boxes (outputs: {outputs}), so the network is compiled "
            f"without heads: if some tensors are raw offsets and scores, {_DESCRIBE}"
        )
        return Note("", "ssd-heads-unknown", reason)
    closest = sorted(failures, key=lambda failure: -failure.stage)[:_LISTED]
    tried = "; ".join(f"{failure.tensor}: {failure.reason}" for failure in closest)
    more = f" ({len(failures) - len(closest)} more tried)" if len(failures) > len(closest) else ""
    pair = next(output_pairs(graph), None)
    raw = (
        f"{pair[0].name} and {pair[1].name} may be raw offsets and scores, whose priors the file does not contain"
        if pair
        else "if some tensors are raw offsets and scores, their priors are needed"
    )
    reason = f"no tensor is computed by an SSD decoding with priors: {tried}{more}; {raw}: {_DESCRIBE}"
    return Note(closest[0].tensor, "ssd-decoding-unknown", reason)


def _scores(graph: gs.Graph, found: DecodedBoxes, description: Description) -> Scores | Note:
    """Return the scores of decoded boxes, or why they are not known.

    Raises:
        ModelError: the description names a tensor that cannot be the scores.
    """
    named = description.heads.scores
    if named is not None:
        tensor = named_tensor(graph, named, "scores", description)
        scores = scores_of(tensor, graph, found.priors)
        if scores is None:
            raise ModelError(
                "description-shape",
                f"{named} {tensor.shape} does not fit: scores have one row for each of {found.priors} priors",
                context={"file": description.path, "tensor": named},
            )
        return scores
    candidates = find_scores(graph, found.boxes, [part.tensor for part in found.offsets], found.priors)
    if len(candidates) == 1:
        return candidates[0]
    listed = ", ".join(f"{scores.tensor.name} {scores.tensor.shape}" for scores in candidates[:_LISTED])
    what = f"several tensors may hold their scores ({listed})" if candidates else "no tensor has one row per box"
    reason = (
        f"{found.boxes.name} holds an SSD's boxes, decoded from {found.offsets[0].tensor.name}, but {what}, so the "
        'network is compiled without heads: name the scores as [heads] scores = "..." in a description (`describe`)'
    )
    return Note(found.boxes.name, "ssd-scores-unknown", reason)


def _cut(graph: gs.Graph, found: DecodedBoxes, scores: Scores) -> tuple[RawHeads, list[Note]]:
    count, decoding = found.priors, found.decoding
    removed = _drops_background(scores.tensor, count, scores.classes)
    unused = unused_class(scores)
    nms, nms_notes = stated_nms(graph, scores.tensor)
    rows = [as_rows(graph, part.tensor, part.rows, 4, columns=part.columns) for part in found.offsets]
    locations = rows[0] if len(rows) == 1 else concatenated(graph, rows, [part.rows for part in found.offsets], 4)
    score_rows = as_rows(graph, scores.tensor, count, scores.classes, columns=scores.columns)
    output_notes = set_outputs(graph, [locations, score_rows], [found.boxes, scores.tensor])
    heads = SsdHeads(
        locations=locations.name,
        scores=score_rows.name,
        priors=decoding.priors,
        variances=decoding.variances,
        classes=scores.classes,
        box_coding=decoding.box_coding,
        y_first=decoding.y_first,
        clip=found.clip,
    )
    notes = [*_decoding_notes(found), *nms_notes, *output_notes]
    return RawHeads(heads, scores.kind, nms, removed, unused), notes


def _decoding_notes(found: DecodedBoxes) -> list[Note]:
    decoding, tensor = found.decoding, found.offsets[0].tensor.name
    source = tensor if len(found.offsets) == 1 else f"{tensor} and {len(found.offsets) - 1} more"
    notes = [
        Note(
            tensor,
            "ssd-heads-recognised",
            f"the graph decodes {found.priors} boxes from {source} ({decoding.box_coding}"
            f"{', y first' if decoding.y_first else ''}); this decoding is verified on random offsets to "
            f"{decoding.error:.1e} of the picture, and cut off",
        )
    ]
    if not decoding.axes_known:
        reason = "the boxes do not show which axis is x; x is assumed to be first"
        notes.append(Note(found.boxes.name, "ssd-axes-assumed", reason))
    if decoding.clamped:
        reason = "the file's own decoding limits the effect of extreme offsets; the compiled decoding does not"
        notes.append(Note(tensor, "ssd-offsets-clamped", reason))
    if found.clips_otherwise:
        ours = "to the picture" if found.clip else "nothing"
        reason = f"the file clips {found.clips_otherwise}; the compiled decoding clips {ours}"
        notes.append(Note(found.boxes.name, "ssd-clip-differs", reason))
    if found.selects:
        reason = "the file decodes only the boxes with the best scores; the compiled decoding decodes all"
        notes.append(Note(found.boxes.name, "ssd-selection-removed", reason))
    return notes


def _drops_background(scores: gs.Variable, priors: int, classes: int) -> bool:
    """Return whether the scores are sliced from one class more, as in exports that drop the background."""
    tensor: gs.Tensor = scores
    while tensor.inputs and tensor.inputs[0].inputs:
        node = tensor.inputs[0]
        source = node.inputs[0]
        if node.op in ("Slice", "Split", "Gather") and elements(source) == priors * (classes + 1):
            return True
        if elements(source) != elements(tensor) or node.op in ("Conv", "Gemm", "MatMul"):
            return False
        tensor = source
    return False
