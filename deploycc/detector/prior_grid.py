"""Default boxes of a feature map (Liu et al., SSD, 2016, section 2.2), in the layout of Caffe's PriorBox layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PriorGrid:
    """The grid of boxes of a feature map.

    Attributes:
        cells: height and width of the feature map.
        image: height and width of the picture, pixels.
        step: pixels from cell to cell, vertical and horizontal.
        offsets: centre within a cell, as (vertical, horizontal) shares of the step; one set of boxes per offset.
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
        """Return [P, 4]: xmin ymin xmax ymax, 0..1 of the picture; ordered by row, column, size, offset."""
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
    """Return widths and heights in Caffe's order: per minimum its square, the mean square, then the other ratios.

    Args:
        min_sizes: sides of the first squares, pixels.
        max_sizes: none, or one per minimum; adds the square of side sqrt(min max).
        ratios: width over height; 1 is implied, and repeated ratios count once.
        flip: adds the inverse after every ratio.
    """
    distinct: list[float] = []
    for ratio in ratios:
        if all(abs(ratio - known) >= 1e-6 for known in (1.0, *distinct)):
            distinct += [ratio, 1.0 / ratio] if flip else [ratio]
    sizes = []
    for index, smallest in enumerate(min_sizes):
        sizes.append((smallest, smallest))
        if max_sizes:
            middle = math.sqrt(smallest * max_sizes[index])
            sizes.append((middle, middle))
        sizes += [(smallest * math.sqrt(ratio), smallest / math.sqrt(ratio)) for ratio in distinct]
    return sizes
