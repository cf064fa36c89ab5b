"""The outputs of a compiled network in words: what each tensor holds, and what was applied to the scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from deploycc.documents.contract import Meaning, OutputContract
from deploycc.graph.edit import producer

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from deploycc.detector import Detector, SsdHeads

Activation = Literal["softmax", "sigmoid"]

_MOVES = frozenset(
    ("Identity", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Gather", "Slice")
)
_APPLIED: dict[str, Activation] = {"Softmax": "softmax", "Sigmoid": "sigmoid"}

_TEXTS: dict[Meaning, str] = {
    "boxes": "corners of each detection: xmin ymin xmax ymax, 0..1 of the picture",
    "scores": "score of each detection",
    "classes": "class index of each detection, background included in the numbering",
    "count": "number of detections: later rows of the other outputs hold nothing",
    "rows": "one detection per row: picture, class (-1: unused), score, xmin ymin xmax ymax in 0..1 of the picture",
    "other": "not described",
}


def describe_outputs(detector: Detector) -> tuple[OutputContract, ...]:
    """Describe every output of a network, in its order."""
    return tuple(_describe(detector, tensor) for tensor in detector.graph.outputs)


def _describe(detector: Detector, tensor: gs.Variable) -> OutputContract:
    meaning, text = _meaning(detector, tensor.name)
    shape = tuple(size if isinstance(size, int) and size >= 0 else None for size in tensor.shape or ())
    kind = np.dtype(tensor.dtype).name if tensor.dtype is not None else "unknown"
    return OutputContract(name=tensor.name, shape=shape, type=kind, meaning=meaning, text=text)


def _meaning(detector: Detector, name: str) -> tuple[Meaning, str]:
    if (found := detector.detections) is not None:
        if found.layout == "rows" and name == found.boxes:
            return "rows", _TEXTS["rows"]
        roles: dict[str | None, Meaning] = {
            found.boxes: "boxes",
            found.scores: "scores",
            found.classes: "classes",
            found.count: "count",
        }
        meaning = roles.get(name, "other")
        return meaning, _TEXTS[meaning]
    if (heads := detector.heads) is not None:
        priors = len(heads.priors)
        if name == heads.locations:
            return "locations", f"box offsets, {priors} rows (one per prior) of 4: {_order(heads)}"
        if name == heads.scores:
            applied = activation(detector)
            how = "final" if applied is None else f"{applied} is applied already"
            return "scores", f"class scores ({how}), {priors} rows (one per prior) of {heads.classes} classes"
    return "other", _TEXTS["other"]


def _order(heads: SsdHeads) -> str:
    return "y x h w" if heads.y_first else "x y w h"


def box_formula(heads: SsdHeads) -> str:
    """Say how offsets t become corners, from prior corners p, centre c and size s, and variances v."""
    v = "" if heads.variance_encoded else "v * "
    formula = {
        "center_size": f"centre = c + {v}t_xy * s; size = s * exp({v}t_wh); corners = centre -+ size / 2",
        "corner": f"corners = p + {v}t",
        "corner_size": f"corners = p + {v}t * s",
    }[heads.box_coding]
    return formula + ("; clipped to 0..1" if heads.clip else "")


def activation(detector: Detector) -> Activation | None:
    """Return what the network applies to its scores last; None where the graph does not show one function for all."""
    if detector.heads is None:
        return None
    scores = next((each for each in detector.graph.outputs if each.name == detector.heads.scores), None)
    return None if scores is None else _applied(scores)


def _applied(tensor: gs.Tensor) -> Activation | None:
    maker = producer(tensor)
    if maker is None:
        return None
    if maker.op in _MOVES:
        sources = maker.inputs if maker.op == "Concat" else maker.inputs[:1]
        found = {_applied(source) for source in sources}
        return found.pop() if len(found) == 1 else None
    return _APPLIED.get(maker.op)
