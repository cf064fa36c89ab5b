"""Draw one scene: choose and place its objects, and annotate them with exact boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploycc.scenes.canvas import OVERSAMPLING, Canvas, Pen
from deploycc.scenes.lens import photograph
from deploycc.scenes.people import draw_cyclist, draw_person
from deploycc.scenes.signs import draw_sign
from deploycc.scenes.surroundings import draw_clutter, draw_ground, draw_sky, draw_skyline
from deploycc.scenes.vehicles import draw_bus, draw_car, draw_truck

CLASS_NAMES = ("car", "truck", "bus", "person", "cyclist", "sign")

Draw = Callable[[Pen, np.random.Generator, bool], None]
_DRAW: tuple[Draw, ...] = (draw_car, draw_truck, draw_bus, draw_person, draw_cyclist, draw_sign)

# Setting: share of all pictures, objects (from, to), weights of the classes, clutter (from, to), in town.
_SETTINGS = (
    ("empty road", 0.15, (0, 1), (3, 1, 1, 1, 1, 2), (0, 4), False),
    ("motorway", 0.25, (2, 7), (6, 4, 1, 0, 0, 2), (0, 4), False),
    ("street", 0.35, (2, 7), (4, 1, 2, 3, 2, 3), (2, 7), True),
    ("crossing", 0.25, (5, 10), (2, 1, 1, 6, 3, 2), (2, 7), True),
)
_HIDDEN = 0.1  # objects with a smaller visible share are not annotated
_DIFFICULT = 0.6  # objects with a smaller visible share, and small ones, are annotated as difficult, as in VOC
_SMALL_PX = 9.0
_CAMERA_M = 2.0  # height of the camera above the road
# Pixels per metre at 160 x 160, from far to near, of each class and of clutter (last).
_SCALES = ((10, 30), (8, 21), (8, 20), (17, 48), (16, 46), (17, 46), (10, 34))


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and its annotated objects.

    Attributes:
        pixels: [size, size, 3] uint8, RGB.
        boxes: [N, 4] float32, xmin ymin xmax ymax, pixels, of the visible parts.
        classes: [N] index into `CLASS_NAMES`.
        difficult: [N] hardly visible or very small: detecting it counts neither as right nor as wrong.
        setting: name of the kind of street.
    """

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    setting: str


def draw_scene(seed: int, index: int, size: int) -> Scene:
    """Draw picture number `index` of the stream `seed`; the same three numbers always give the same scene.

    Args:
        seed: the stream.
        index: the picture's number in the stream; pictures are independent, so any order is possible.
        size: height and width in pixels.
    """
    rng = np.random.default_rng([seed, index])
    setting, _, objects, weights, clutter, town = _SETTINGS[
        int(rng.choice(len(_SETTINGS), p=[s[1] for s in _SETTINGS]))
    ]
    night, fog, rain = rng.random() < 0.25, rng.random() < 0.15, rng.random() < 0.15
    canvas = _open_canvas(rng, size, night)
    side = canvas.side
    horizon = rng.uniform(0.28, 0.48) * side
    thickness = rng.uniform(0.3, 0.65) if fog else rng.uniform(0.0, 0.2)

    canvas.haze = 0.8 * thickness
    draw_sky(canvas, rng, horizon, night)
    canvas.haze = 0.3 * thickness
    draw_ground(canvas, rng, horizon)
    canvas.haze = thickness
    draw_skyline(canvas, rng, horizon, town, night)

    count, extra = int(rng.integers(*objects, endpoint=True)), int(rng.integers(*clutter, endpoint=True))
    share = np.array(weights) / sum(weights)
    kinds = [int(k) for k in rng.choice(len(weights), count, p=share)] + [-1] * extra
    ranges = np.log(np.array([_SCALES[k] for k in kinds], np.float64).reshape(-1, 2))
    near = np.exp(rng.uniform(ranges[:, 0], ranges[:, 1])) * size / 160
    drawn: list[tuple[int, Pen, float]] = []
    for place in np.argsort(near, kind="stable"):
        kind, scale = kinds[int(place)], float(near[place]) * OVERSAMPLING
        ground = horizon + scale * _CAMERA_M * rng.uniform(0.8, 1.2)
        pen = Pen(canvas, rng.uniform(0.02, 0.98) * side, ground, scale)
        canvas.haze = thickness * float(np.clip(1.1 - near[place] * 160 / size / 40, 0, 1))
        if kind < 0:
            canvas.owner = 0
            draw_clutter(pen, rng)
            continue
        canvas.owner = len(drawn) + 1
        _DRAW[kind](pen, rng, night)
        drawn.append((kind, pen, float(np.count_nonzero(canvas.owned(canvas.owner)))))
    image = canvas.image.reduce(OVERSAMPLING)
    return _annotate(photograph(image, rng, night, rain), canvas, drawn, setting)


def _open_canvas(rng: np.random.Generator, size: int, night: bool) -> Canvas:
    level = rng.uniform(0.38, 0.6) if night else rng.uniform(0.6, 1.05)
    light = (level * rng.uniform(0.9, 1.0), level * rng.uniform(0.93, 1.0), level * rng.uniform(0.9, 1.15))
    tone = rng.uniform(45, 85) if night else rng.uniform(170, 215)
    return Canvas(size, light, (tone, tone, tone * 1.04))


def _annotate(pixels: NDArray[np.uint8], canvas: Canvas, drawn: list[tuple[int, Pen, float]], setting: str) -> Scene:
    boxes, classes, difficult = [], [], []
    for number, (kind, pen, area) in enumerate(drawn, start=1):
        mask = canvas.owned(number)
        visible = int(np.count_nonzero(mask))
        if not visible:
            continue
        columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32) / OVERSAMPLING
        share = visible / area * _share_inside(pen, canvas.side)
        small = float(min(box[2] - box[0], box[3] - box[1]))
        if share < _HIDDEN or small < 3:
            continue
        boxes.append(box)
        classes.append(kind)
        difficult.append(share < _DIFFICULT or small < 5 or float(max(box[2] - box[0], box[3] - box[1])) < _SMALL_PX)
    return Scene(
        pixels,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes, np.int64),
        np.array(difficult, np.bool_),
        setting,
    )


def _share_inside(pen: Pen, side: int) -> float:
    """Return the share of an object's extent that lies inside the picture."""
    assert pen.extent is not None
    x0, y0, x1, y1 = pen.extent
    inside = max(0.0, min(x1, side) - max(x0, 0.0)) * max(0.0, min(y1, side) - max(y0, 0.0))
    return float(inside / max((x1 - x0) * (y1 - y0), 1e-9))
