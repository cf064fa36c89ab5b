"""From pictures to a network's input, and from its outputs to boxes, as ``contract.json`` describes both.

The decoder that lies beside a contract is a copy of this file. NumPy is needed where a function runs.
"""

import os
from typing import Any, Dict


def load_tables(network: "Dict[str, Any]", folder: str) -> "Any":
    """Return priors and variances of a network of the contract, [P, 4] each; None where it decodes itself."""
    import numpy

    heads = network["heads"]
    if heads is None:
        return None
    tables = [numpy.load(os.path.join(folder, heads[name])) for name in ("priors", "variances")]
    for name, table in zip(("priors", "variances"), tables):  # noqa: B905 - strict came with Python 3.10
        if table.shape != (heads["prior_count"], 4):
            raise ValueError("{} has shape {}, not [{}, 4]".format(heads[name], table.shape, heads["prior_count"]))
    return tables


def prepare(spec: "Dict[str, Any]", picture: "Any") -> "Any":
    """Return the input tensor, float32 [1, C, H, W], of a picture.

    Args:
        spec: ``input`` of the contract.
        picture: [height, width, 3] uint8, red first.
    """
    import numpy

    _, channels, height, width = spec["shape"]
    small = _resized(numpy, picture, height, width)
    if channels == 1:
        planes = numpy.rint(small @ numpy.array(spec["resize"]["grey"], numpy.float32))[None]
    else:
        planes = small.transpose(2, 0, 1)
        planes = planes if spec["colour"] == "RGB" else planes[::-1]
    mean = numpy.array(spec["mean"], numpy.float32).reshape(-1, 1, 1)
    scale = numpy.array(spec["scale"], numpy.float32).reshape(-1, 1, 1)
    return numpy.ascontiguousarray(((planes.astype(numpy.float32) - mean) * scale)[None], numpy.float32)


def _resized(numpy: "Any", picture: "Any", height: int, width: int) -> "Any":
    """Bilinear interpolation between pixel centres, without smoothing, rounded to whole grey levels."""
    if picture.shape[:2] == (height, width):
        return picture
    above, below, down = _taps(numpy, picture.shape[0], height)
    left, right, across = _taps(numpy, picture.shape[1], width)
    rows = _mixed(numpy, picture[above], picture[below], down[:, None, None])
    return (_mixed(numpy, rows[:, left], rows[:, right], across[:, None]) + numpy.float32(0.5)).astype(numpy.uint8)


def _mixed(numpy: "Any", first: "Any", second: "Any", weight: "Any") -> "Any":
    first, second = first.astype(numpy.float32), second.astype(numpy.float32)
    return (second - first) * weight + first


def _taps(numpy: "Any", source: int, target: int) -> "Any":
    """For each target pixel the two source pixels around its centre, and the weight of the second."""
    centre = numpy.clip((numpy.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    low = numpy.floor(centre).astype(numpy.intp)
    return low, numpy.minimum(low + 1, source - 1), (centre - low).astype(numpy.float32)


def read_outputs(network: "Dict[str, Any]", nms: "Dict[str, Any]", tables: "Any", outputs: "Dict[str, Any]") -> "Any":
    """Return the detections of one picture, best first; equal scores by class, then by prior.

    Args:
        network: one of ``networks`` of the contract.
        nms: ``nms`` of the contract.
        tables: priors and variances, as `load_tables` returns them.
        outputs: the engine's outputs by name, of any shape that has their elements in order.

    Returns:
        boxes: [N, 4] float32, xmin ymin xmax ymax in 0..1 of the picture; scores: [N] float32; classes: [N] int64.
    """
    import numpy

    with numpy.errstate(all="ignore"):  # an untrained network may answer anything
        if network["decoding"] == "host":
            return _from_heads(numpy, network["heads"], nms, tables, outputs)
        return _unpacked(numpy, network["detections"], outputs)


def _from_heads(
    numpy: "Any", heads: "Dict[str, Any]", nms: "Dict[str, Any]", tables: "Any", outputs: "Dict[str, Any]"
) -> "Any":
    """Decode and suppress, as Caffe's DetectionOutput does (Liu et al., SSD, 2016)."""
    count, classes = heads["prior_count"], heads["classes"]
    offsets = _floats(numpy, outputs, heads["locations"]).reshape(count, 4)
    scores = _floats(numpy, outputs, heads["scores"]).reshape(count, classes)
    threshold, overlap = numpy.float32(nms["score_threshold"]), numpy.float32(nms["iou_threshold"])
    found = []
    for label in range(classes):
        if label == heads["background"]:
            continue
        column = scores[:, label]
        rows = numpy.flatnonzero(column > threshold)
        rows = rows[numpy.argsort(-column[rows], kind="mergesort")]  # stable: equal scores by prior
        if nms["top_k"] > -1:
            rows = rows[: nms["top_k"]]
        boxes = _boxes(numpy, heads, tables[0][rows], tables[1][rows], offsets[rows])
        kept = _suppressed(numpy, boxes, overlap)
        found.append((boxes[kept], column[rows[kept]], numpy.full(len(kept), label, numpy.int64)))
    if not found:
        return numpy.zeros((0, 4), numpy.float32), numpy.zeros(0, numpy.float32), numpy.zeros(0, numpy.int64)
    boxes, best, labels = (numpy.concatenate(column) for column in zip(*found))  # noqa: B905
    order = numpy.argsort(-best, kind="mergesort")
    if nms["keep_top_k"] > -1:
        order = order[: nms["keep_top_k"]]
    return boxes[order], best[order], labels[order]


def _boxes(numpy: "Any", heads: "Dict[str, Any]", priors: "Any", variances: "Any", offsets: "Any") -> "Any":
    """Corners [N, 4] of offsets [N, 4]; ``formula`` of the contract says it in words."""
    if heads["y_first"]:
        offsets = offsets[:, [1, 0, 3, 2]]
    if not heads["variance_encoded"]:
        offsets = offsets * variances
    low, high, shift, growth = priors[:, :2], priors[:, 2:], offsets[:, :2], offsets[:, 2:]
    size = high - low
    if heads["box_coding"] == "center_size":
        centre, half = (low + high) / 2 + shift * size, numpy.exp(growth) * size / 2
        corners = centre - half, centre + half
    elif heads["box_coding"] == "corner":
        corners = low + shift, high + growth
    else:
        corners = low + shift * size, high + growth * size
    boxes = numpy.concatenate(corners, axis=1).astype(numpy.float32)
    return numpy.clip(boxes, 0, 1) if heads["clip"] else boxes


def _suppressed(numpy: "Any", boxes: "Any", overlap: "Any") -> "Any":
    """Positions of the boxes that stay: each that overlaps no better one that stays by more than ``overlap``."""
    low, high = boxes[:, :2], numpy.maximum(boxes[:, :2], boxes[:, 2:])  # reversed sides have no area
    sides = high - low
    area = sides[:, 0] * sides[:, 1]
    left, kept = numpy.arange(len(boxes)), []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        shared = numpy.minimum(high[best], high[left]) - numpy.maximum(low[best], low[left])
        common = shared[:, 0] * shared[:, 1]
        joint = area[best] + area[left] - common
        solid = (shared > 0).all(axis=1) & (area[left] > 0) & (area[best] > 0) & (joint > 0)
        left = left[~(solid & (common / joint > overlap))]
    return numpy.array(kept, numpy.intp)


def _unpacked(numpy: "Any", found: "Dict[str, Any]", outputs: "Dict[str, Any]") -> "Any":
    """The detections of a network that decodes and suppresses itself, best first."""
    if found["layout"] == "rows":
        rows = _floats(numpy, outputs, found["boxes"]).reshape(-1, 7)
        rows = rows[rows[:, 1] >= 0]  # unused rows have the class -1
        boxes, scores, classes = rows[:, 3:], rows[:, 2], rows[:, 1]
    else:
        boxes = _floats(numpy, outputs, found["boxes"]).reshape(-1, 4)
        scores = _floats(numpy, outputs, found["scores"]).reshape(-1)
        classes = _floats(numpy, outputs, found["classes"]).reshape(-1)
        if found["count"] is not None:
            count = min(max(int(_floats(numpy, outputs, found["count"]).reshape(-1)[0]), 0), len(scores))
            boxes, scores, classes = boxes[:count], scores[:count], classes[:count]
    classes = numpy.where(numpy.isfinite(classes), classes, -1)
    order = numpy.lexsort((classes, -scores))
    return boxes[order], scores[order], classes[order].astype(numpy.int64)


def _floats(numpy: "Any", outputs: "Dict[str, Any]", name: str) -> "Any":
    return numpy.asarray(outputs[name]).astype(numpy.float32)
