"""Changes that make several views of a picture: boxes of labelled objects go where the pixels go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploycc.trainable.augmentation import boxes_in_patch, centres_inside, mirrored_boxes, relight
from deploycc.trainable.matching import IGNORED


@dataclass(frozen=True, eq=False)
class Labels:
    """The labelled objects of a picture.

    Attributes:
        boxes: [N, 4] float32 corners, xmin ymin xmax ymax, 0..1 of the picture.
        classes: [N] int64, the object's class counted from 1 without the background, or `IGNORED`.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]


_LEAST_FILLED = 1 / 3
_LEAST_PATCH = 0.25  # of a picture's sides: smaller ones hardly have more pixels than details
NO_LABELS = Labels(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


@dataclass(frozen=True, eq=False)
class Example:
    """A picture, [H, W, 3] uint8, red first, and what is labelled in it."""

    pixels: NDArray[np.uint8]
    labels: Labels = NO_LABELS


def collage(examples: Sequence[Example], size: tuple[int, int], rng: np.random.Generator) -> Example:
    """Put four pictures into the quarters of one, which meet at a random point.

    Patches show objects larger than the picture does; this shows them smaller, and several of them (the mosaics of
    Bochkovskiy et al., YOLOv4, 2020).

    Args:
        examples: four.
        size: height and width of the result.
        rng: of the point.
    """
    height, width = size
    y, x = (int(side * rng.uniform(0.3, 0.7)) for side in size)
    result = np.zeros((height, width, 3), np.uint8)
    quarters = ((0, y, 0, x), (0, y, x, width), (y, height, 0, x), (y, height, x, width))
    boxes = []
    for example, (top, bottom, left, right) in zip(examples, quarters, strict=True):
        part = Image.fromarray(np.ascontiguousarray(example.pixels))
        result[top:bottom, left:right] = np.asarray(
            part.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
        )
        corner = np.array([left, top, left, top], np.float32)
        scale = np.array([right - left, bottom - top] * 2, np.float32)
        boxes.append((example.labels.boxes * scale + corner) / np.array([width, height] * 2, np.float32))
    classes = np.concatenate([example.labels.classes for example in examples])
    return Example(result, Labels(np.concatenate(boxes), classes))


def vary(example: Example, rng: np.random.Generator) -> Example:
    """Crop a patch, mirror and relight, as SSD's training does (Liu et al., 2016, section 2.2); no label limits it."""
    height, width = example.pixels.shape[:2]
    if rng.random() < 0.5:
        h, w = (max(1, int(side * rng.uniform(0.4, 1.0))) for side in (height, width))
        top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        example = _patch(example, top, left, h, w)
    return _mirrored_and_relit(example, rng)


def zoom(example: Example, box: NDArray[np.float32], rng: np.random.Generator) -> Example:
    """Crop a patch that has the whole of a box, mirror and relight.

    The box fills a third to all of the patch, less where that is small.

    Args:
        example: a picture.
        box: xmin ymin xmax ymax, 0..1 of the picture.
        rng: of the patch and the changes.
    """
    height, width = example.pixels.shape[:2]
    x0, y0, x1, y1 = (float(value) for value in box)
    side = min(1.0, max(_LEAST_PATCH, max(x1 - x0, y1 - y0) / rng.uniform(_LEAST_FILLED, 1.0)))
    left, w = _span(x0, x1, side, width, rng)
    top, h = _span(y0, y1, side, height, rng)
    return _mirrored_and_relit(_patch(example, top, left, h, w), rng)


def _span(low: float, high: float, share: float, pixels: int, rng: np.random.Generator) -> tuple[int, int]:
    """Choose the first pixel of a patch that has the whole of a box along one side, and the number of pixels."""
    last = min(low, 1 - share)
    first = min(last, max(0.0, high - share))
    count = max(1, min(pixels, round(share * pixels)))
    return min(round(rng.uniform(first, last) * pixels), pixels - count), count


def _patch(example: Example, top: int, left: int, h: int, w: int) -> Example:
    height, width = example.pixels.shape[:2]
    place = np.array([left / width, top / height, (left + w) / width, (top + h) / height], np.float32)
    return Example(example.pixels[top : top + h, left : left + w], cropped(example.labels, place))


def _mirrored_and_relit(example: Example, rng: np.random.Generator) -> Example:
    picture, labels = example.pixels, example.labels
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
        labels = Labels(mirrored_boxes(labels.boxes), labels.classes)
    return Example(relight(picture, rng, cast=False), labels)


def cropped(labels: Labels, patch: NDArray[np.float32]) -> Labels:
    """Return what a patch of a picture shows of its objects.

    An object whose centre lies outside is neither an object nor background any more: it is ignored.

    Args:
        labels: of the picture.
        patch: xmin ymin xmax ymax, 0..1 of the picture.
    """
    boxes = boxes_in_patch(labels.boxes, patch)
    seen = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return Labels(boxes[seen], np.where(centres_inside(labels.boxes, patch), labels.classes, IGNORED)[seen])
