"""Changes of training pictures: what they do to pixels, and to the boxes of labelled objects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MIRROR = np.array([-1, 1, -1, 1], np.float32)
_MIRROR_SHIFT = np.array([1, 0, 1, 0], np.float32)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def mirrored_boxes(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return where boxes, [N, 4] corners, 0..1 of the picture, are when left and right are swapped."""
    result: NDArray[np.float32] = boxes[:, [2, 1, 0, 3]] * _MIRROR + _MIRROR_SHIFT
    return result


def centres_inside(boxes: NDArray[np.float32], patch: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return for each box, [N, 4] corners, whether its centre lies in a patch, xmin ymin xmax ymax."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside: NDArray[np.bool_] = (centres > patch[:2]) & (centres < patch[2:])
    return inside[:, 0] & inside[:, 1]


def boxes_in_patch(boxes: NDArray[np.float32], patch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the part of each box that a patch shows, in 0..1 of the patch; a box outside gets no area.

    Args:
        boxes: [N, 4] corners, 0..1 of the picture.
        patch: xmin ymin xmax ymax, 0..1 of the picture.
    """
    low, size = np.tile(patch[:2], 2), np.tile(patch[2:] - patch[:2], 2)
    clipped = np.clip(boxes, low, np.tile(patch[2:], 2))
    return ((clipped - low) / size).astype(np.float32)


def relight(pixels: NDArray[np.uint8], rng: np.random.Generator, *, cast: bool) -> NDArray[np.uint8]:
    """Change contrast, brightness and saturation (Liu et al., SSD, 2016, section 2.2).

    Args:
        pixels: [H, W, 3] picture.
        rng: source of the random choices.
        cast: scale each colour a little as well.
    """
    contrast, shift, saturation = rng.uniform(0.7, 1.3), rng.uniform(-24, 24), rng.uniform(0.6, 1.4)
    colour = rng.uniform(0.93, 1.07, 3) if cast else 1.0
    # A single 3x3 matrix: saturation mixes with the luma, then contrast and colour cast scale each channel.
    mix = (saturation * np.eye(3) + (1 - saturation) * np.outer(_LUMA, np.ones(3))) * (contrast * colour)
    changed = pixels.astype(np.float32) @ mix.astype(np.float32) + np.float32(shift + 128 * (1 - contrast))
    result: NDArray[np.uint8] = np.clip(changed, 0, 255).astype(np.uint8)
    return result
