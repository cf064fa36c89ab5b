"""Caffe's layers written down number by number, from the definitions in its sources and papers.

They judge what OpenCV's importer leaves out or does otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def pooling(
    x: Array, *, method: str, kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int], round_up: bool
) -> Array:
    """Max or average over windows; ceil rule and divisor as PoolingLayer's Reshape and Forward_cpu state them."""
    size = x.shape[2:]
    out = []
    for s, k, t, p in zip(size, kernel, stride, pad, strict=True):
        count = (math.ceil if round_up else math.floor)((s + 2 * p - k) / t) + 1
        if any(pad) and (count - 1) * t >= s + p:
            count -= 1
        out.append(count)
    result = np.empty((*x.shape[:2], *out), np.float32)
    for row in range(out[0]):
        for column in range(out[1]):
            begin = [index * t - p for index, t, p in zip((row, column), stride, pad, strict=True)]
            end = [min(b + k, s + p) for b, k, s, p in zip(begin, kernel, size, pad, strict=True)]
            divisor = (end[0] - begin[0]) * (end[1] - begin[1])
            window = x[:, :, max(begin[0], 0) : min(end[0], size[0]), max(begin[1], 0) : min(end[1], size[1])]
            result[:, :, row, column] = window.max((2, 3)) if method == "MAX" else window.sum((2, 3)) / divisor
    return result


def normalise_within_channel(x: Array, size: int, alpha: float, beta: float) -> Array:
    """LRN WITHIN_CHANNEL: x (1 + alpha mean x^2)^-beta, the mean over a window that counts zeros around the picture."""
    pad = size // 2
    mean = pooling(x * x, method="AVE", kernel=(size, size), stride=(1, 1), pad=(pad, pad), round_up=True)
    return x * (1 + alpha * mean) ** -beta


def priors(
    cells: tuple[int, int],
    image: tuple[int, int],
    min_sizes: Sequence[float],
    max_sizes: Sequence[float],
    ratios: Sequence[float],
    *,
    flip: bool,
    step: tuple[float, float] | None,
    offset: float,
    clip: bool,
    truncated: bool = True,
) -> NDArray[np.float64]:
    """PriorBoxLayer::Forward_cpu of the SSD fork, box by box; [P, 4], (height, width) everywhere.

    Its ``int min_size_`` and ``int max_size_`` drop fractions; OpenCV's layer does not (``truncated=False``).
    """
    if truncated:
        min_sizes, max_sizes = [int(size) for size in min_sizes], [int(size) for size in max_sizes]
    known = [1.0]
    for ratio in ratios:
        if any(abs(ratio - one) < 1e-6 for one in known):
            continue
        known.append(ratio)
        if flip:
            known.append(1 / ratio)
    step = step or (image[0] / cells[0], image[1] / cells[1])
    boxes = []
    for row in range(cells[0]):
        for column in range(cells[1]):
            x, y = (column + offset) * step[1], (row + offset) * step[0]
            sides = []
            for index, smallest in enumerate(min_sizes):
                sides.append((smallest, smallest))
                if max_sizes:
                    sides.append((math.sqrt(smallest * max_sizes[index]),) * 2)
                for ratio in known[1:]:
                    sides.append((smallest * math.sqrt(ratio), smallest / math.sqrt(ratio)))
            for width, height in sides:
                box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
                boxes.append([value / image[1 - index % 2] for index, value in enumerate(box)])
    return np.clip(boxes, 0, 1) if clip else np.array(boxes)


def interpolate(x: Array, height: int, width: int) -> NDArray[np.float64]:
    """Bilinear with aligned corners, as caffe_cpu_interp2: source = target (in - 1) / (out - 1)."""

    def matrix(source: int, target: int) -> NDArray[np.float64]:
        rows = np.zeros((target, source))
        for index in range(target):
            position = index * (source - 1) / (target - 1) if target > 1 else 0.0
            low = min(int(position), source - 1)
            high = min(low + 1, source - 1)
            rows[index, low] += 1 - (position - low)
            rows[index, high] += position - low
        return rows

    return np.einsum("ih,bchw,jw->bcij", matrix(x.shape[2], height), x, matrix(x.shape[3], width))
