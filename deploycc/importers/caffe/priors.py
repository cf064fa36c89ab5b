"""PriorBox: the default boxes of one feature map (Liu et al., SSD, 2016, section 2.2), computed once, here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploycc.importers.caffe.layer import Emitted, Layer, emits


@dataclass(frozen=True)
class PriorGrid:
    """Where the boxes of a feature map stand.

    Attributes:
        cells: height and width of the feature map.
        image: height and width of the picture, pixels.
        step: pixels from cell to cell, vertically and horizontally.
        offsets: centre within a cell, as (vertical, horizontal) shares of the step; several give several boxes.
        sizes: (width, height) of the boxes at every centre, pixels.
        clip: corners are clipped to the picture.
    """

    cells: tuple[int, int]
    image: tuple[int, int]
    step: tuple[float, float]
    offsets: Sequence[tuple[float, float]]
    sizes: Sequence[tuple[float, float]]
    clip: bool = False

    def boxes(self) -> NDArray[np.float32]:
        """Return [P, 4]: xmin ymin xmax ymax, 0..1 of the picture; rows, columns, sizes, offsets in this nesting."""
        rows, columns = self.cells
        offsets = np.array(self.offsets, np.float64)
        sizes = np.array(self.sizes, np.float64)
        grid = (rows, columns, len(sizes), len(offsets))
        y = (np.arange(rows)[:, None] + offsets[:, 0]) * self.step[0]
        x = (np.arange(columns)[:, None] + offsets[:, 1]) * self.step[1]
        centre_y = np.broadcast_to(y[:, None, None, :], grid)
        centre_x = np.broadcast_to(x[None, :, None, :], grid)
        half_width = np.broadcast_to(sizes[:, 0, None] / 2, grid)
        half_height = np.broadcast_to(sizes[:, 1, None] / 2, grid)
        height, width = self.image
        corners = np.stack(
            [
                (centre_x - half_width) / width,
                (centre_y - half_height) / height,
                (centre_x + half_width) / width,
                (centre_y + half_height) / height,
            ],
            axis=-1,
        ).reshape(-1, 4)
        if self.clip:
            corners = corners.clip(0.0, 1.0)
        return corners.astype(np.float32)


def box_sizes(
    min_sizes: Sequence[float], max_sizes: Sequence[float], ratios: Sequence[float], flip: bool
) -> list[tuple[float, float]]:
    """Widths and heights in Caffe's order: for each minimum its square, the mean square, then the other ratios.

    Args:
        min_sizes: side of the first square, pixels.
        max_sizes: none, or one for each minimum; adds the square of side sqrt(min max).
        ratios: width over height; 1 is always there, repeated ones count once.
        flip: adds the inverse of every ratio behind it.
    """
    different: list[float] = []
    for ratio in ratios:
        if all(abs(ratio - known) >= 1e-6 for known in (1.0, *different)):
            different += [ratio, 1.0 / ratio] if flip else [ratio]
    sizes = []
    for index, smallest in enumerate(min_sizes):
        sizes.append((smallest, smallest))
        if max_sizes:
            middle = math.sqrt(smallest * max_sizes[index])
            sizes.append((middle, middle))
        sizes += [(smallest * math.sqrt(ratio), smallest / math.sqrt(ratio)) for ratio in different]
    return sizes


@emits("PriorBox", param="prior_box_param", bottoms=(1, 2))
def prior_box(layer: Layer) -> Emitted:
    """A constant of shape [1, 2, 4 P]: boxes in the first row, variances in the second."""
    param = layer.param
    cells = layer.image_shape()[2:]
    if "normalized_bbox" in param and not param.flag("normalized_bbox"):
        raise layer.unsupported("normalized_bbox false", "priors are given as shares of the picture")
    image = _image_size(layer)
    variances = param.numbers("variance") or [0.1]
    if len(variances) not in (1, 4) or min(variances) <= 0:
        raise layer.error("caffe-wrong-value", f"variance is {variances}, but must be 1 or 4 positive numbers")
    grid = PriorGrid(cells, image, _step(layer, cells, image), _offsets(layer), _sizes(layer), param.flag("clip"))
    boxes = grid.boxes()
    rows = np.array(variances * 4 if len(variances) == 1 else variances, np.float32)
    values = np.stack([boxes.reshape(-1), np.tile(rows, len(boxes))])[None]
    return [layer.constant("priors", values)]


def _pair(layer: Layer, both: str, height: str, width: str) -> tuple[float, float] | None:
    """(height, width) of a positive number given once or as a pair; None where it is not given."""
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
    given = _pair(layer, "img_size", "img_h", "img_w")
    if given is not None:
        return int(given[0]), int(given[1])
    if len(layer.inputs) == 2:
        return layer.image_shape(1)[2:]
    raise layer.error("caffe-wrong-value", "neither a second input nor img_size states the size of the picture")


def _step(layer: Layer, cells: tuple[int, int], image: tuple[int, int]) -> tuple[float, float]:
    given = _pair(layer, "step", "step_h", "step_w")
    return given if given is not None else (image[0] / cells[0], image[1] / cells[1])


def _offsets(layer: Layer) -> list[tuple[float, float]]:
    vertical, horizontal = layer.param.numbers("offset_h"), layer.param.numbers("offset_w")  # OpenCV's fields
    if not vertical and not horizontal:
        offset = layer.param.number("offset", 0.5)
        return [(offset, offset)]
    if "offset" in layer.param or len(vertical) != len(horizontal):
        raise layer.error("caffe-wrong-value", "offset_h and offset_w come in equal numbers, and without offset")
    return list(zip(vertical, horizontal, strict=True))


def _sizes(layer: Layer) -> list[tuple[float, float]]:
    param = layer.param
    widths, heights = param.numbers("width"), param.numbers("height")  # OpenCV's fields
    smallest, largest = param.numbers("min_size"), param.numbers("max_size")
    ratios, flip = param.numbers("aspect_ratio"), param.flag("flip", True)
    if widths or heights:
        if len(widths) != len(heights) or smallest or largest or ratios:
            raise layer.error("caffe-wrong-value", "width and height come in equal numbers, and without other sizes")
        return list(zip(widths, heights, strict=True))
    if not smallest or min(smallest) <= 0:
        raise layer.error("caffe-wrong-value", f"min_size is {smallest or 'missing'}; it must be positive")
    if largest and (
        len(largest) != len(smallest) or any(b <= a for a, b in zip(smallest, largest, strict=True))
    ):
        raise layer.error(
            "caffe-wrong-value", f"max_size {largest} must hold one larger value for each min_size {smallest}"
        )
    if any(ratio <= 0 for ratio in ratios):
        raise layer.error("caffe-wrong-value", f"aspect_ratio is {ratios}, but must be positive")
    return box_sizes(smallest, largest, ratios, flip)
