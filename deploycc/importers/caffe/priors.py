"""PriorBox: the prior boxes of one feature map, computed at import."""

from __future__ import annotations

import math

import numpy as np

from deploycc.detector.prior_grid import PriorGrid, box_sizes
from deploycc.errors import Note
from deploycc.importers.caffe.layer import Emitted, Layer, emits, float32

_OPENCV_FIELDS = ("width", "height", "offset_h", "offset_w")
_MOST = 1 << 20
"""Boxes of one layer: twenty times as many as an SSD has."""


@emits(
    "PriorBox",
    param="prior_box_param",
    fields="min_size max_size aspect_ratio flip clip variance img_size img_h img_w step step_h step_w offset "
    "offset_h offset_w width height normalized_bbox",
    bottoms=(1, 2),
)
def prior_box(layer: Layer) -> Emitted:
    """Emit a constant of shape [1, 2, 4 P]: boxes in the first row, variances in the second."""
    param = layer.param
    cells = layer.image_shape()[2:]
    if "normalized_bbox" in param and not param.flag("normalized_bbox"):
        raise layer.unsupported("normalized_bbox false", "priors must be fractions of the picture")
    image = _image_size(layer)
    variances = param.numbers("variance") or [0.1]
    if len(variances) not in (1, 4) or min(variances) <= 0:
        raise layer.error("caffe-wrong-value", f"variance is {variances}, but must be 1 or 4 positive numbers")
    sizes, offsets = _sizes(layer), _offsets(layer)
    count = math.prod(cells) * len(sizes) * len(offsets)
    if count > _MOST:
        raise layer.error("caffe-too-large", f"PriorBox would write {count:,} boxes, more than {_MOST:,}")
    grid = PriorGrid(cells, image, _step(layer, cells, image), offsets, sizes, param.flag("clip"))
    with np.errstate(over="ignore", invalid="ignore"):  # `Layer.constant` refuses the result
        boxes = grid.boxes()
    rows = float32(variances * 4 if len(variances) == 1 else variances)
    values = np.stack([boxes.reshape(-1), np.tile(rows, len(boxes))])[None]
    return [layer.constant("priors", values)]


def _pair(layer: Layer, both: str, height: str, width: str) -> tuple[float, float] | None:
    """Return a positive (height, width), given as one value or as two; None if it is not given."""
    if both in layer.param and (height in layer.param or width in layer.param):
        raise layer.error("caffe-wrong-value", f"{both} and {height}/{width} are both given")
    if both in layer.param:
        values = (layer.param.number(both),) * 2
    elif height in layer.param or width in layer.param:
        values = (layer.param.number(height), layer.param.number(width))
    else:
        return None
    if min(values) <= 0:
        raise layer.error("caffe-wrong-value", f"{both} is {values}, but must be positive")
    return values


def _image_size(layer: Layer) -> tuple[int, int]:
    size = _pair(layer, "img_size", "img_h", "img_w")
    if size is not None:
        return int(size[0]), int(size[1])
    if len(layer.inputs) == 2:
        return layer.image_shape(1)[2:]
    raise layer.error("caffe-wrong-value", "neither a second input nor img_size states the size of the picture")


def _step(layer: Layer, cells: tuple[int, int], image: tuple[int, int]) -> tuple[float, float]:
    step = _pair(layer, "step", "step_h", "step_w")
    return step if step is not None else (image[0] / cells[0], image[1] / cells[1])


def _offsets(layer: Layer) -> list[tuple[float, float]]:
    vertical, horizontal = layer.param.numbers("offset_h"), layer.param.numbers("offset_w")
    if not vertical and not horizontal:
        offset = layer.param.number("offset", 0.5)
        return [(offset, offset)]
    if "offset" in layer.param or len(vertical) != len(horizontal):
        raise layer.error("caffe-wrong-value", "offset_h and offset_w must be of equal number, and without offset")
    return list(zip(vertical, horizontal, strict=True))


def _sizes(layer: Layer) -> list[tuple[float, float]]:
    param = layer.param
    widths, heights = param.numbers("width"), param.numbers("height")
    smallest, largest = param.numbers("min_size"), param.numbers("max_size")
    ratios, flip = param.numbers("aspect_ratio"), param.flag("flip", True)
    if widths or heights:
        if len(widths) != len(heights) or smallest or largest or ratios:
            raise layer.error("caffe-wrong-value", "width and height must be of equal number, and without other sizes")
        if min(*widths, *heights) <= 0:
            raise layer.error("caffe-wrong-value", f"width is {widths} and height {heights}; they must be positive")
        return list(zip(widths, heights, strict=True))
    if not smallest or min(smallest) <= 0:
        raise layer.error("caffe-wrong-value", f"min_size is {smallest or 'missing'}; it must be positive")
    if largest and (len(largest) != len(smallest) or any(b <= a for a, b in zip(smallest, largest, strict=True))):
        raise layer.error("caffe-wrong-value", f"max_size {largest} must have one larger value per min_size {smallest}")
    if any(ratio <= 0 for ratio in ratios):
        raise layer.error("caffe-wrong-value", f"aspect_ratio is {ratios}, but must be positive")
    return box_sizes(_whole(layer, "min_size", smallest), _whole(layer, "max_size", largest), ratios, flip)


def _whole(layer: Layer, name: str, sizes: list[float]) -> list[float]:
    """Return sizes without their fractions, with a note.

    Caffe's layer keeps sizes as int (PriorBoxLayer::Forward_cpu), so a detector that Caffe trained has boxes of whole
    sizes. OpenCV's own parameters are read only by OpenCV, which keeps the fractions.
    """
    whole = [float(int(size)) for size in sizes]
    if whole == sizes or any(field in layer.param for field in _OPENCV_FIELDS):
        return sizes
    if min(whole) < 1:
        raise layer.error("caffe-wrong-value", f"{name} is {sizes}; Caffe reads whole numbers, and 0 is not a size")
    read = ", ".join(f"{size:g} as {int(size)}" for size in sizes if size % 1)
    reason = f"{name} is read without its fraction, as Caffe does in training: {read}; OpenCV and TensorRT keep it"
    layer.network.notes.append(Note(layer.definition.name, "caffe-whole-sizes", reason))
    return whole
