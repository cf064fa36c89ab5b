"""Pictures without labels, changed a little each time that they are seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploycc.detector import InputSpec
from deploycc.detector.picture_list import PictureList
from deploycc.detector.pictures import prepare
from deploycc.errors import InputError

LEAST_PICTURES = 20
_HELD_OUT = 0.1
_MOST_HELD_OUT = 100
_LEAST_VIEWS = 4096
_LEAST_PER_PICTURE = 4
_COLLAGES = 0.5  # share of the views
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Samples:
    """Pictures to train on, and pictures that are never trained on.

    Args:
        pictures: where they come from.
        spec: of the network's input.
        seed: of the choice, the order and the changes.

    Attributes:
        held_out, trained_on: numbers of pictures.

    Raises:
        InputError: ``distillation-few-pictures``.
        PictureError: a picture cannot be read.
    """

    def __init__(self, pictures: PictureList, spec: InputSpec, seed: int) -> None:
        count = len(pictures.names)
        if count < LEAST_PICTURES:
            raise InputError(
                "distillation-few-pictures",
                f"{count} pictures are too few to learn from",
                context={"pictures": pictures.source},
                note=f"at least {LEAST_PICTURES} are needed, and a thousand are better",
            )
        order = np.random.default_rng([seed, count]).permutation(count)
        held = max(1, min(_MOST_HELD_OUT, round(count * _HELD_OUT)))
        self.held_out = tuple(int(number) for number in sorted(order[:held]))
        self.trained_on = tuple(int(number) for number in sorted(order[held:]))
        self._spec, self._seed = spec, seed
        self._per_picture = max(_LEAST_PER_PICTURE, -(-_LEAST_VIEWS // len(self.trained_on)))
        # All are read before the first step: one that is damaged is named now, and no step waits for a disk.
        self._small = [self._shrunk(pictures.read(number)) for number in range(count)]

    def picture(self, number: int) -> NDArray[np.uint8]:
        """A picture as it is, [H, W, 3] uint8, red first, not much larger than the network's input."""
        return self._small[number]

    def views(self, step: int, size: int) -> tuple[int, ...]:
        """Return the views of a step's batch, the same for the same seed and step.

        A view is a picture with changes of its own. Views come again, so that the teacher's answers can be remembered.
        """
        count = len(self.trained_on) * self._per_picture
        epoch, place = divmod(step * size, count)
        order = np.random.default_rng([self._seed, 2, epoch]).permutation(count)
        return tuple(int(order[(place + k) % count]) for k in range(size))

    def view(self, number: int) -> NDArray[np.float32]:
        """Return a view as the network's input, [1, C, H, W]."""
        rng = np.random.default_rng([self._seed, 1, number])
        first = self.trained_on[number % len(self.trained_on)]
        if rng.random() >= _COLLAGES:
            return prepare(vary(self._small[first], rng), self._spec)
        others = rng.choice(self.trained_on, 3)
        parts = [vary(self._small[picture], rng) for picture in (first, *others)]
        return prepare(collage(parts, (self._spec.height, self._spec.width), rng), self._spec)

    def _shrunk(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """At most half as large again as the input: patches of it still fill the input, and memory suffices."""
        height, width = picture.shape[:2]
        most_h, most_w = round(self._spec.height * 1.5), round(self._spec.width * 1.5)
        if height <= most_h and width <= most_w:
            return picture
        target = (min(width, most_w), min(height, most_h))
        return np.asarray(Image.fromarray(picture).resize(target, Image.Resampling.BILINEAR))


def collage(
    pictures: Sequence[NDArray[np.uint8]], size: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Put four pictures into the quarters of one, which meet at a random point.

    Patches show objects larger than the picture does; this shows them smaller, and several of them (the mosaics of
    Bochkovskiy et al., YOLOv4, 2020).

    Args:
        pictures: four, [H, W, 3] uint8 each.
        size: height and width of the result.
        rng: of the point.
    """
    height, width = size
    y, x = (int(side * rng.uniform(0.3, 0.7)) for side in size)
    result = np.zeros((height, width, 3), np.uint8)
    quarters = ((0, y, 0, x), (0, y, x, width), (y, height, 0, x), (y, height, x, width))
    for picture, (top, bottom, left, right) in zip(pictures, quarters, strict=True):
        part = Image.fromarray(np.ascontiguousarray(picture))
        result[top:bottom, left:right] = np.asarray(
            part.resize((right - left, bottom - top), Image.Resampling.BILINEAR)
        )
    return result


def vary(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Crop a patch, mirror and relight, as SSD's training does (Liu et al., 2016, section 2.2); no label limits it."""
    height, width = picture.shape[:2]
    if rng.random() < 0.5:
        h, w = (max(1, int(side * rng.uniform(0.4, 1.0))) for side in (height, width))
        top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        picture = picture[top : top + h, left : left + w]
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    contrast, shift, saturation = rng.uniform(0.7, 1.3), rng.uniform(-24, 24), rng.uniform(0.6, 1.4)
    mix = (saturation * np.eye(3) + (1 - saturation) * np.outer(_LUMA, np.ones(3))) * contrast
    changed = picture.astype(np.float32) @ mix.astype(np.float32) + np.float32(shift + 128 * (1 - contrast))
    result: NDArray[np.uint8] = np.clip(changed, 0, 255).astype(np.uint8)
    return result
