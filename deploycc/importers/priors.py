"""Prior boxes of one feature map, as Caffe's PriorBox layer lays them (Liu et al., SSD, 2016, section 2.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def prior_boxes(
    feature: tuple[int, int],
    picture: tuple[int, int],
    *,
    min_sizes: Sequence[float],
    max_sizes: Sequence[float] = (),
    aspect_ratios: Sequence[float] = (),
    flip: bool = True,
    clip: bool = False,
    variances: Sequence[float] = (0.1,),
    step: tuple[float, float] | None = None,
    offset: float = 0.5,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lay priors over a feature map, row by row; in each cell by min size: square, sqrt(min * max), aspect ratios.

    Args:
        feature: height and width of the feature map.
        picture: height and width in pixels.
        min_sizes: sides of the square priors, pixels.
        max_sizes: none, or one a min size, each larger than it.
        aspect_ratios: width / height beside 1; repeated ones count once.
        flip: also lay 1 / ratio.
        clip: keep corners within the picture.
        variances: one for all coordinates, or four for x y w h.
        step: height and width of a cell in pixels; default: picture / feature.
        offset: centre of a prior within its cell, in cells.

    Returns:
        Priors and variances, each [P, 4] float32; priors as xmin ymin xmax ymax, 0..1 of the picture.

    Raises:
        ValueError: the parameters contradict one another.
    """
    if min(*feature, *picture) < 1 or not min_sizes or min(min_sizes) <= 0:
        raise ValueError("feature, picture and min_size must be positive")
    if max_sizes and len(max_sizes) != len(min_sizes):
        raise ValueError(f"{len(max_sizes)} max_size for {len(min_sizes)} min_size")
    if any(large <= small for small, large in zip(min_sizes, max_sizes, strict=False)):
        raise ValueError("max_size must be larger than its min_size")
    if any(ratio <= 0 for ratio in aspect_ratios):
        raise ValueError("aspect_ratio must be positive")
    if len(variances) not in (1, 4) or min(variances) <= 0:
        raise ValueError("variance is one or four positive numbers")
    if step is not None and min(step) <= 0:
        raise ValueError("step must be positive")
    shapes = np.array(_cell_shapes(min_sizes, max_sizes, _distinct(aspect_ratios, flip)))
    height, width = picture
    step_h, step_w = step or (height / feature[0], width / feature[1])
    y, x = np.meshgrid(
        (np.arange(feature[0]) + offset) * step_h, (np.arange(feature[1]) + offset) * step_w, indexing="ij"
    )
    centres = np.stack([x, y], axis=-1).reshape(-1, 1, 2)
    boxes = np.concatenate([centres - shapes / 2, centres + shapes / 2], axis=-1).reshape(-1, 4)
    boxes /= [width, height, width, height]
    if clip:
        boxes = boxes.clip(0.0, 1.0)
    spread = np.broadcast_to(np.asarray(variances, dtype=np.float32), boxes.shape)
    return boxes.astype(np.float32), spread.copy()


def _distinct(aspect_ratios: Sequence[float], flip: bool) -> list[float]:
    """Ratios other than 1, in order, each once, each followed by its inverse where flipped."""
    ratios = [1.0]
    for ratio in aspect_ratios:
        if all(abs(ratio - known) >= 1e-6 for known in ratios):
            ratios += [ratio, 1.0 / ratio] if flip else [ratio]
    return ratios[1:]


def _cell_shapes(
    min_sizes: Sequence[float], max_sizes: Sequence[float], ratios: Sequence[float]
) -> list[tuple[float, float]]:
    """Width and height in pixels of the priors of one cell."""
    shapes: list[tuple[float, float]] = []
    for index, small in enumerate(min_sizes):
        shapes.append((small, small))
        if max_sizes:
            side = math.sqrt(small * max_sizes[index])
            shapes.append((side, side))
        shapes += [(small * math.sqrt(ratio), small / math.sqrt(ratio)) for ratio in ratios]
    return shapes
