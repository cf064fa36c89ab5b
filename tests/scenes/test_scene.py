"""The generator: the same numbers give the same picture, and boxes are what is visible."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from deploycc.scenes import CLASS_NAMES, draw_scene
from deploycc.scenes.canvas import Canvas, Pen
from deploycc.scenes.people import draw_cyclist, draw_person
from deploycc.scenes.scene import Draw

SIZE = 96


def test_a_scene_depends_on_nothing_but_its_numbers() -> None:
    first = [draw_scene(7, index, SIZE) for index in range(4)]
    again = [draw_scene(7, index, SIZE) for index in reversed(range(4))][::-1]
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert np.array_equal(one.boxes, other.boxes)
        assert np.array_equal(one.classes, other.classes)


@pytest.mark.parametrize(("seed", "index"), [(8, 0), (7, 1)])
def test_another_seed_or_index_is_another_picture(seed: int, index: int) -> None:
    assert not np.array_equal(draw_scene(7, 0, SIZE).pixels, draw_scene(seed, index, SIZE).pixels)


def test_pictures_of_a_stream_differ() -> None:
    digests = {hashlib.sha256(draw_scene(3, index, 64).pixels.tobytes()).digest() for index in range(40)}
    assert len(digests) == 40


def test_boxes_lie_inside_and_have_an_area() -> None:
    scenes = [draw_scene(11, index, SIZE) for index in range(60)]
    for scene in scenes:
        assert scene.pixels.shape == (SIZE, SIZE, 3)
        assert scene.pixels.dtype == np.uint8
        assert len(scene.boxes) == len(scene.classes) == len(scene.difficult)
        assert (scene.boxes[:, :2] >= 0).all()
        assert (scene.boxes[:, 2:] <= SIZE).all()
        assert (scene.boxes[:, 2:] - scene.boxes[:, :2] >= 3).all()
    seen = np.concatenate([scene.classes for scene in scenes])
    assert set(seen.tolist()) == set(range(len(CLASS_NAMES)))


def test_content_ranges_from_nothing_to_a_crowd() -> None:
    counts = [len(draw_scene(12, index, 64).classes) for index in range(80)]
    assert min(counts) == 0
    assert max(counts) >= 8
    assert np.std(counts) > 2


@pytest.mark.parametrize("draw", [draw_person, draw_cyclist])
@pytest.mark.parametrize("seed", range(6))
def test_the_owned_pixels_are_the_drawn_ones(draw: Draw, seed: int) -> None:
    """What an object changes in the picture is what its owner plane says, so the box of the plane is exact."""
    canvas = Canvas(SIZE, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    canvas.rectangle(0, 0, canvas.side, canvas.side, (1, 2, 3))
    before = np.array(canvas.image)
    canvas.owner = 1
    draw(Pen(canvas, 0.5 * canvas.side, 0.9 * canvas.side, 60.0), np.random.default_rng(seed), False)
    changed = (np.array(canvas.image) != before).any(2)
    assert changed.sum() > 200
    assert np.array_equal(changed, canvas.owned(1))


def test_nearer_objects_hide_pixels() -> None:
    canvas = Canvas(32, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    canvas.owner = 1
    canvas.rectangle(10, 10, 29, 29, (200, 0, 0))
    canvas.owner = 2
    canvas.rectangle(10, 10, 19, 29, (0, 200, 0))
    assert np.flatnonzero(canvas.owned(1).any(0)).tolist() == list(range(20, 30))
