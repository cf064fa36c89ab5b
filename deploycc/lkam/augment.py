"""Augment training pictures (Liu et al., SSD, 2016, section 2.2 and figure 6)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploycc.trainable.augmentation import boxes_in_patch, centres_inside, mirrored_boxes, relight

_PATCH_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
_TRIES = 20
_FILL = 128  # grey level around a zoomed-out picture


def augment(
    pixels: NDArray[np.uint8],
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    size: int,
    rng: np.random.Generator,
    mirror_only: bool = False,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    """Zoom out or crop a patch, mirror, and change the lighting.

    Args:
        pixels: [H, W, 3] picture.
        boxes: [N, 4] corners, 0..1 of the picture.
        labels: [N].
        size: height and width of the result.
        rng: source of the random choices.
        mirror_only: only mirror, for pictures that vary enough.

    Returns:
        [size, size, 3] picture, the remaining boxes (0..1) and their labels.
    """
    choice = 1.0 if mirror_only else rng.random()
    if choice < 0.25:
        pixels, boxes = _zoom_out(pixels, boxes, size, rng)
    elif choice < 0.65:
        pixels, boxes, labels = _patch(pixels, boxes, labels, size, rng)
    else:
        pixels = _resize(pixels, size, None)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
        boxes = mirrored_boxes(boxes)
    return pixels if mirror_only else relight(pixels, rng, cast=True), boxes, labels


def fit(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize without augmentation."""
    return pixels if pixels.shape[:2] == (size, size) else _resize(pixels, size, None)


def _resize(pixels: NDArray[np.uint8], size: int, box: tuple[float, float, float, float] | None) -> NDArray[np.uint8]:
    if box is None and pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box))


def _zoom_out(
    pixels: NDArray[np.uint8], boxes: NDArray[np.float32], size: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    inner = round(size / rng.uniform(1.0, 2.0))
    x, y = (int(v) for v in rng.integers(0, size - inner + 1, 2))
    result = np.full((size, size, 3), _FILL, np.uint8)
    result[y : y + inner, x : x + inner] = _resize(pixels, inner, None)
    return result, (boxes * inner + np.array([x, y, x, y], np.float32)) / np.float32(size)


def _patch(
    pixels: NDArray[np.uint8],
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
    size: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    """Crop a patch that contains at least a random share of some object; keep objects whose centre lies in it."""
    height, width = pixels.shape[:2]
    least = _PATCH_SHARES[int(rng.integers(len(_PATCH_SHARES)))]
    for _ in range(_TRIES):
        w, h = rng.uniform(0.4, 1.0, 2)
        if not 0.5 <= w / h <= 2:
            continue
        x, y = rng.uniform(0, 1 - w), rng.uniform(0, 1 - h)
        patch: NDArray[np.float32] = np.array([x, y, x + w, y + h], np.float32)
        inside = centres_inside(boxes, patch)
        if len(boxes) and not (inside.any() and _share_inside(boxes[inside], patch).max() >= least):
            continue
        region = (float(x * width), float(y * height), float((x + w) * width), float((y + h) * height))
        return _resize(pixels, size, region), boxes_in_patch(boxes[inside], patch), labels[inside]
    return _resize(pixels, size, None), boxes, labels


def _share_inside(boxes: NDArray[np.float32], patch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the share of each box that lies in the patch."""
    common = np.clip(np.minimum(boxes[:, 2:], patch[2:]) - np.maximum(boxes[:, :2], patch[:2]), 0, None).prod(1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    result: NDArray[np.float32] = common / np.maximum(area, np.float32(1e-9))
    return result
