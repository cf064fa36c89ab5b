"""Boxes go where the pixels go, whatever is changed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

from deploycc.distillation.views import Example, Labels, collage, cropped, vary, zoom
from deploycc.trainable.matching import IGNORED

SIDE = 64


def painted(rng: np.random.Generator) -> Example:
    """A white object on black, in a picture that is wider than high."""
    low = rng.uniform(0.05, 0.6, 2)
    high = low + rng.uniform(0.2, 0.35, 2)
    height, width = SIDE, 3 * SIDE // 2
    x0, x1 = (round(x * width) for x in (low[0], high[0]))
    y0, y1 = (round(y * height) for y in (low[1], high[1]))
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[y0:y1, x0:x1] = 255
    box = np.array([[x0 / width, y0 / height, x1 / width, y1 / height]], np.float32)
    return Example(pixels, Labels(box, np.array([2])))


def white_box(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The bounds of what is bright, in pixels."""
    bright = pixels.mean(2) > (float(pixels.min()) + float(pixels.max())) / 2
    rows, columns = (np.flatnonzero(bright.any(axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


@pytest.mark.parametrize("seed", range(12))
def test_a_varied_picture_has_its_object_in_its_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    view = vary(painted(rng), rng)
    height, width = view.pixels.shape[:2]
    assert view.pixels.dtype == np.uint8
    if not len(view.labels.boxes):
        assert int(view.pixels.max()) - int(view.pixels.min()) < 64  # the object was cut away
        return
    found = view.labels.boxes[0] * np.array([width, height] * 2)
    np.testing.assert_allclose(found, white_box(view.pixels), rtol=0, atol=0.01)


@pytest.mark.parametrize("seed", range(12))
def test_a_zoom_shows_the_whole_of_its_box_larger(seed: int) -> None:
    rng = np.random.default_rng(seed)
    example = painted(rng)
    box = example.labels.boxes[0]
    view = zoom(example, box, rng)
    height, width = view.pixels.shape[:2]
    assert view.labels.classes.tolist() == [2]
    seen = view.labels.boxes[0]
    np.testing.assert_allclose(seen * np.array([width, height] * 2), white_box(view.pixels), rtol=0, atol=0.01)
    sides = (seen[2:] - seen[:2]) * (width, height)
    whole = np.array(example.pixels.shape[1::-1])
    np.testing.assert_allclose(sides, (box[2:] - box[:2]) * whole, rtol=0, atol=1.01)  # nothing is cut off
    assert 0.3 <= max(seen[2:] - seen[:2]) <= 1.0


def test_a_zoom_takes_any_box_of_any_picture() -> None:
    rng = np.random.default_rng(3)
    for shape in ((1, 1, 3), (5, 200, 3), (64, 64, 3)):
        for box in ([0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5], [0.99, 0, 1, 0.01], [0, 0, 0, 1]):
            view = zoom(Example(np.zeros(shape, np.uint8)), np.array(box, np.float32), rng)
            assert view.pixels.dtype == np.uint8
            assert view.pixels.size > 0
            assert view.pixels.shape[0] >= shape[0] // 4


def test_the_views_differ_from_the_pictures() -> None:
    """Or the test above would show nothing: crops and mirrors move boxes."""
    moved = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        example = painted(rng)
        view = vary(example, rng)
        if view.pixels.shape == example.pixels.shape:
            moved.add("mirrored" if not np.array_equal(view.labels.boxes, example.labels.boxes) else "kept")
        else:
            moved.add("cropped" if len(view.labels.boxes) else "cut away")
    assert moved >= {"mirrored", "kept", "cropped"}


@pytest.mark.parametrize("quarter", range(4))
def test_a_collage_has_each_object_in_its_box(quarter: int) -> None:
    rng = np.random.default_rng(quarter)
    black = Example(np.zeros((SIDE, SIDE, 3), np.uint8))
    parts = [black] * 4
    parts[quarter] = painted(rng)
    view = collage(parts, (2 * SIDE, 2 * SIDE), rng)
    assert view.pixels.shape == (2 * SIDE, 2 * SIDE, 3)
    assert view.labels.classes.tolist() == [2]
    np.testing.assert_allclose(view.labels.boxes[0] * 2 * SIDE, white_box(view.pixels), rtol=0, atol=1.5)


def test_what_a_patch_cuts_off_is_ignored_and_what_it_does_not_show_is_gone() -> None:
    boxes = np.array([[0.1, 0.1, 0.5, 0.5], [0.6, 0.1, 1.0, 0.5], [0.8, 0.8, 0.9, 0.9]], np.float32)
    seen = cropped(Labels(boxes, np.array([1, 2, 3])), np.array([0.0, 0.0, 0.7, 0.7], np.float32))
    assert seen.classes.tolist() == [1, IGNORED]
    np.testing.assert_allclose(seen.boxes * 0.7, [[0.1, 0.1, 0.5, 0.5], [0.6, 0.1, 0.7, 0.5]], rtol=0, atol=1e-6)


def test_pictures_of_any_size_can_be_varied() -> None:
    for shape in ((1, 1, 3), (5, 200, 3)):
        assert vary(Example(np.zeros(shape, np.uint8)), np.random.default_rng(0)).pixels.dtype == np.uint8
