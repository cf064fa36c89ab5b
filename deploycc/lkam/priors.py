"""Prior boxes (Liu et al., SSD, 2016, section 2.2): four maps, six shapes per cell."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

STRIDES = (8, 16, 32, 64)
SCALES = (0.09, 0.2, 0.4, 0.65, 0.9)  # of the picture's side; one per map, and one beyond the last
ASPECTS = (1.0, 1.0, 2.0, 0.5, 3.0, 1 / 3)  # the second square has the geometric mean of this and the next map's scale
VARIANCES = (0.1, 0.1, 0.2, 0.2)


def make_priors(size: int) -> NDArray[np.float32]:
    """Compute the prior boxes of a square input.

    Args:
        size: pixels, a multiple of 32.

    Returns:
        [P, 4] float32, xmin ymin xmax ymax as fractions of the picture, not clipped.
    """
    boxes = []
    for level, stride in enumerate(STRIDES):
        cells = math.ceil(size / stride)
        centres = (np.arange(cells) + 0.5) * stride / size
        cy, cx = np.meshgrid(centres, centres, indexing="ij")
        scale, between = SCALES[level], math.sqrt(SCALES[level] * SCALES[level + 1])
        shapes = []
        for index, aspect in enumerate(ASPECTS):
            side = between if index == 1 else scale
            shapes.append((side * math.sqrt(aspect), side / math.sqrt(aspect)))
        half = np.array(shapes) / 2
        centre = np.stack([cx, cy], -1)[:, :, None, :]
        boxes.append(np.concatenate([centre - half, centre + half], -1).reshape(-1, 4))
    return np.concatenate(boxes).astype(np.float32)
