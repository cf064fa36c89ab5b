"""Traffic signs: the plate is the object, the pole is not."""

from __future__ import annotations

import math

import numpy as np

from deploycc.scenes.canvas import Colour, Pen
from deploycc.scenes.paint import paint

RED: Colour = (205.0, 30.0, 35.0)
BLUE: Colour = (30.0, 80.0, 190.0)
WHITE: Colour = (238.0, 238.0, 235.0)
YELLOW: Colour = (245.0, 195.0, 40.0)
BLACK: Colour = (25.0, 25.0, 28.0)


def draw_sign(pen: Pen, rng: np.random.Generator, night: bool) -> None:
    """Draw a round, triangular, octagonal, square or diamond plate with a glyph."""
    height = rng.uniform(1.7, 2.6)
    owner, pen.canvas.owner = pen.canvas.owner, 0
    pen.canvas.line([pen.at(0, 0), pen.at(0, height)], 0.08 * pen.scale, (125, 128, 130))
    pen.canvas.owner = owner
    plate = pen.derive(0, height, rng.uniform(0.75, 1.0), 0)
    r, turn = rng.uniform(0.36, 0.5), rng.normal(0, 0.06)
    worn = rng.uniform(0.75, 1.0)
    red, blue, white, yellow = (_worn(c, worn) for c in (RED, BLUE, WHITE, YELLOW))
    kind = int(rng.integers(6))
    if kind == 0:
        plate.disc(0, 0, r, red)
        plate.disc(0, 0, 0.74 * r, white)
        _digits(plate, rng, r)
    elif kind == 1:
        plate.polygon(_ring(3, 1.12 * r, math.pi / 2 + turn), red)
        plate.polygon(_ring(3, 0.7 * r, math.pi / 2 + turn), white)
        plate.box(-0.06 * r, -0.2 * r, 0.06 * r, 0.3 * r, BLACK)
    elif kind == 2:
        plate.polygon(_ring(8, r, math.pi / 8 + turn), red)
        plate.box(-0.6 * r, -0.14 * r, 0.6 * r, 0.14 * r, white)
    elif kind == 3:
        plate.disc(0, 0, r, blue)
        plate.polygon(
            [
                (-0.55 * r, -0.1 * r),
                (0.1 * r, -0.1 * r),
                (0.1 * r, -0.4 * r),
                (0.6 * r, 0),
                (0.1 * r, 0.4 * r),
                (0.1 * r, 0.1 * r),
                (-0.55 * r, 0.1 * r),
            ],
            white,
        )
    elif kind == 4:
        plate.polygon(_ring(4, 1.15 * r, math.pi / 4 + turn), blue)
        plate.box(-0.35 * r, -0.5 * r, -0.15 * r, 0.5 * r, white)
        plate.ring(0.05 * r, 0.22 * r, 0.3 * r, 0.16 * r, white)
    else:
        plate.polygon(_ring(4, 1.1 * r, turn), white)
        plate.polygon(_ring(4, 0.82 * r, turn), yellow)


def _digits(plate: Pen, rng: np.random.Generator, r: float) -> None:
    for u in (-0.3, 0.1):
        if rng.random() < 0.5:
            plate.ring((u + 0.1) * r, 0, 0.26 * r, 0.12 * r, BLACK)
        else:
            plate.box(u * r, -0.35 * r, (u + 0.13) * r, 0.35 * r, BLACK)


def _ring(corners: int, radius: float, start: float) -> list[tuple[float, float]]:
    step = 2 * math.pi / corners
    return [(radius * math.cos(start + k * step), radius * math.sin(start + k * step)) for k in range(corners)]


def _worn(colour: Colour, keep: float) -> Colour:
    grey = sum(colour) / 3
    r, g, b = (c * keep + grey * (1 - keep) for c in colour)
    return r, g, b


def draw_false_sign(pen: Pen, rng: np.random.Generator) -> None:
    """Draw something on a pole that is not a traffic sign: a lamp, a clock, a plain board, a flag, a bin."""
    height = rng.uniform(1.6, 2.8)
    pen.line([(0, 0), (0, height)], 0.08, (110, 112, 115))
    kind, r = int(rng.integers(5)), rng.uniform(0.25, 0.5)
    colour = paint(rng, 0.3)
    if kind == 0:
        pen.disc(0, height, r * 0.7, (250, 240, 205), True)
    elif kind == 1:
        pen.disc(0, height, r, (95, 90, 80))
        pen.disc(0, height, 0.85 * r, (225, 222, 210))
        pen.line([(0, height + 0.5 * r), (0, height), (0.4 * r, height - 0.2 * r)], 0.05, BLACK)
    elif kind == 2:
        pen.box(-1.3 * r, height - r, 1.3 * r, height + r, colour)
        for k in range(3):
            pen.box(
                -1.0 * r,
                height + (0.5 - 0.5 * k) * r,
                r * rng.uniform(0.1, 1.0),
                height + (0.3 - 0.5 * k) * r,
                paint(rng, 0.8),
            )
    elif kind == 3:
        pen.polygon([(0, height), (2.4 * r, height - 0.3 * r), (0, height - 0.8 * r)], colour)
    else:
        pen.box(-0.7 * r, height * 0.4, 0.7 * r, height * 0.4 + 1.7 * r, colour)
