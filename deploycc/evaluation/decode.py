"""Decode a network's outputs to detections: boxes from offsets and priors (Liu et al., SSD, 2016, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from deploycc.detector import DetectionOutputs, Detector, SsdHeads
from deploycc.errors import ModelError
from deploycc.evaluation.nms import Detections, suppress_lazily


def decode_boxes(
    offsets: NDArray[np.float32], heads: SsdHeads, rows: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """Decode box offsets to corners, as Caffe's DetectionOutput does for each of its codings.

    With prior corners p, prior size s, prior centre c, variances v and offsets t (in the order x y w h):

    * ``center_size``: centre = c + v_xy t_xy s, size = s exp(v_wh t_wh)
    * ``corner``: corners = p + v t
    * ``corner_size``: corners = p + v t s

    If the offsets already include the variances, v is 1.

    Args:
        offsets: [P, 4] network output (y first if the heads say so).
        heads: priors, variances and the coding.
        rows: priors to decode; None decodes all.

    Returns:
        [P, 4] or [len(rows), 4] float32 corners, xmin ymin xmax ymax, 0..1 of the picture.
    """
    priors, variances = heads.priors, heads.variances
    if rows is not None:
        offsets, priors, variances = (array.take(rows, axis=0) for array in (offsets, priors, variances))
    if heads.y_first:
        offsets = offsets[:, [1, 0, 3, 2]]
    if not heads.variance_encoded:
        offsets = offsets * variances
    shift, growth = np.split(np.ascontiguousarray(offsets.T), 2)  # by coordinate: long rows are fast
    low, high = np.split(np.ascontiguousarray(priors.T), 2)
    size = high - low
    with np.errstate(over="ignore", invalid="ignore"):  # an untrained network may output any size
        if heads.box_coding == "center_size":
            centre = (low + high) / 2 + shift * size
            half = np.exp(growth) * size / 2
            corners = centre - half, centre + half
        elif heads.box_coding == "corner":
            corners = low + shift, high + growth
        else:
            corners = low + shift * size, high + growth * size
    boxes = np.ascontiguousarray(np.concatenate(corners).T, np.float32)
    return np.clip(boxes, 0, 1, out=boxes) if heads.clip else boxes


def read_detections(detector: Detector, outputs: Mapping[str, NDArray[np.generic]]) -> Detections:
    """Read a detector's outputs for one picture.

    Args:
        detector: with raw heads (decoded and suppressed here) or with in-graph detections (only unpacked).
        outputs: the graph's outputs by name.

    Raises:
        ModelError: the detector is opaque, or an output is missing or has the wrong size.
    """
    if detector.detections is not None:
        return _unpack(detector.detections, outputs)
    heads = detector.heads
    if heads is None:
        raise ModelError(
            "opaque-network",
            "the outputs of this network cannot be read as detections",
            context={"network": detector.name, "outputs": ", ".join(outputs)},
            note="neither SSD heads nor in-graph detections were recognised when it was imported",
        )
    priors = len(heads.priors)
    offsets = _output(outputs, heads.locations, (priors, 4))
    scores = _output(outputs, heads.scores, (priors, heads.classes))
    return suppress_lazily(lambda rows: decode_boxes(offsets, heads, rows), scores, detector.nms, heads.background)


def _output(outputs: Mapping[str, NDArray[np.generic]], name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the output as float32 in ``shape`` (one dimension may be -1)."""
    if name not in outputs:
        raise ModelError(
            "output-missing",
            f"the network has no output {name!r}",
            context={"outputs": ", ".join(outputs) or "none"},
        )
    try:
        return outputs[name].astype(np.float32, copy=False).reshape(shape)
    except ValueError:
        raise ModelError(
            "output-shape",
            f"output {name!r} has shape {list(outputs[name].shape)}, but {list(shape)} is needed",
            note="rows are the detector's priors, columns are coordinates or classes",
        ) from None


def _unpack(layout: DetectionOutputs, outputs: Mapping[str, NDArray[np.generic]]) -> Detections:
    if layout.layout == "rows":
        rows = _output(outputs, layout.boxes, (-1, 7))
        rows = rows[rows[:, 1] >= 0]  # unused rows have the class -1
        return _sorted(rows[:, 3:], rows[:, 2], rows[:, 1])
    boxes = _output(outputs, layout.boxes, (-1, 4))
    scores = _output(outputs, layout.scores, (-1,))
    classes = _output(outputs, layout.classes, (-1,))
    if layout.count is not None:
        count = int(_output(outputs, layout.count, (1,))[0])
        boxes, scores, classes = boxes[:count], scores[:count], classes[:count]
    return _sorted(boxes, scores, classes)


def _sorted(boxes: NDArray[np.float32], scores: NDArray[np.float32], classes: NDArray[np.float32]) -> Detections:
    """Sort by score, then class; equal detections keep the graph's order."""
    order = np.lexsort((classes, -scores))
    return Detections(boxes[order], scores[order], classes[order].astype(np.int64))
