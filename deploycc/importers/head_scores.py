"""Complete the scores of SSD heads: append the activation that is described, and determine the background class.

The background is the class that the file itself leaves out of its detections, or else the class that scores highest
nearly everywhere on a picture of the mean colour (an input of zeros).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.detector import InputSpec, SsdHeads
from deploycc.errors import ModelError, Note
from deploycc.importers.description import Description
from deploycc.importers.network_part import session
from deploycc.importers.score_search import Kind
from deploycc.importers.ssd_heads import RawHeads

_DOMINATES = 0.9  # share of the priors at which the background scores highest on an empty picture


def resolve_scores(
    graph: gs.Graph, raw_heads: RawHeads, spec: InputSpec, description: Description
) -> tuple[SsdHeads | None, list[Note]]:
    """Append the described activation if it is missing, in place, and determine the background class.

    Returns:
        The heads, or None if the scores are logits and the description names no activation; and notes.

    Raises:
        ModelError: the description contradicts the network.
    """
    heads, activation, kind = raw_heads.heads, description.heads.activation, raw_heads.kind
    notes: list[Note] = []
    if activation in ("softmax", "sigmoid"):
        if kind == "softmax" and activation == "sigmoid":
            raise ModelError(
                "description-activation",
                "the description asks for a sigmoid, but the network already ends in a softmax",
                context={"file": description.path, "key": "heads.activation", "tensor": heads.scores},
            )
        if kind in ("logits", "unknown"):
            heads = _activate(graph, heads, activation)
            kind = activation
    elif activation is None and kind == "logits":
        notes.append(
            Note(
                heads.scores,
                "ssd-scores-logits",
                f"nothing limits {heads.scores} to 0..1, so it holds logits; the file does not say whether a softmax "
                'or a sigmoid follows: set [heads] activation = "softmax" or "sigmoid" in a description (`describe`)',
            )
        )
        return None, notes
    elif activation is None and kind == "unknown":
        notes.append(
            Note(
                heads.scores,
                "ssd-scores-unchecked",
                f"ONNX Runtime cannot run what makes {heads.scores}, so it is assumed to be activated",
            )
        )
    background, background_notes = _background(graph, raw_heads, heads, kind, spec, description)
    return replace(heads, background=background), [*notes, *background_notes]


def _run(graph: gs.Graph, heads: SsdHeads, spec: InputSpec) -> NDArray[np.float32] | None:
    """Return the scores [P, C] on the mean colour, or None if ONNX Runtime cannot run the network."""
    try:
        runner = session(graph)
        scores = runner.run([heads.scores], {spec.name: np.zeros(spec.shape, dtype=np.float32)})[0]
    except Exception:  # custom operators: the board's parser may know them even if ONNX Runtime does not
        return None
    rows: NDArray[np.float32] = np.asarray(scores, dtype=np.float32).reshape(-1, heads.classes)
    return rows


def _activate(graph: gs.Graph, heads: SsdHeads, activation: str) -> SsdHeads:
    """Append a softmax over the classes or a sigmoid to the scores."""
    tensor = next(t for t in graph.outputs if t.name == heads.scores)
    shape = [1, len(heads.priors), heads.classes]
    if list(tensor.shape) != shape:
        rows = gs.Variable(f"{tensor.name}_rows", dtype=np.float32, shape=shape)
        target = gs.Constant(f"{tensor.name}_rows_shape", np.array(shape, dtype=np.int64))
        graph.nodes.append(gs.Node("Reshape", rows.name, {}, [tensor, target], [rows]))
        tensor = rows
    result = gs.Variable(f"{heads.scores}_{activation}", dtype=np.float32, shape=shape)
    op, attrs = ("Softmax", {"axis": 2}) if activation == "softmax" else ("Sigmoid", {})
    graph.nodes.append(gs.Node(op, result.name, attrs, [tensor], [result]))
    graph.outputs = [result if t.name == heads.scores else t for t in graph.outputs]
    return replace(heads, scores=result.name)


def _background(
    graph: gs.Graph, raw_heads: RawHeads, heads: SsdHeads, kind: Kind, spec: InputSpec, description: Description
) -> tuple[int | None, list[Note]]:
    described = description.heads.background
    if described == "none":
        return None, []
    if described is not None:
        if not 0 <= described < heads.classes:
            raise ModelError(
                "description-background",
                f"the background class {described} does not exist: there are {heads.classes} classes",
                context={"file": description.path, "key": "heads.background"},
                hint=f'0 to {heads.classes - 1}, or "none"',
            )
        return described, []
    if heads.classes == 1:
        return None, []
    if raw_heads.background_removed:
        return None, [Note(heads.scores, "ssd-no-background", "the network itself drops the background's scores")]
    if raw_heads.unused_class is not None:
        reason = f"class {raw_heads.unused_class} is the background: it is the only class that the file never detects"
        return raw_heads.unused_class, [Note(heads.scores, "ssd-background-found", reason)]
    rows = _run(graph, heads, spec) if kind == "softmax" else None
    if rows is not None:
        highest = np.sort(rows, axis=1)
        clear = highest[:, -1] > highest[:, -2]  # an untrained network may score all classes alike
        wins = np.bincount(rows.argmax(axis=1)[clear], minlength=heads.classes) / len(rows)
        best = int(wins.argmax())
        if wins[best] >= _DOMINATES:
            reason = f"class {best} is the background: it scores highest at {wins[best]:.0%} of the priors of an empty "
            reason += "picture"
            return best, [Note(heads.scores, "ssd-background-found", reason)]
    return 0, [
        Note(
            heads.scores,
            "ssd-background-assumed",
            "class 0 is assumed to be the background, as is usual for SSDs; for a network without one set "
            '[heads] background = "none" in a description (`describe`)',
        )
    ]
