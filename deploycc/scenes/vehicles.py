"""Cars, trucks and buses, seen from the side, from the front or rear, or at an angle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deploycc.scenes.canvas import Colour, Pen
from deploycc.scenes.paint import GLASS, RUBBER, paint, tint


@dataclass(frozen=True)
class Body:
    """Properties common to the two visible faces of a vehicle; metres.

    Attributes:
        length, width, height: outer size.
        colour: of the body.
        second: colour of the load, stripe or roof.
        rear: the end face is the rear, with tail lights instead of headlights.
        lights: lamps are on.
        style: 0..1, selects a variant.
    """

    length: float
    width: float
    height: float
    colour: Colour
    second: Colour
    rear: bool
    lights: bool
    style: float


Face = Callable[[Pen, Body], None]


def draw_car(pen: Pen, rng: np.random.Generator, night: bool) -> None:
    """Draw a hatchback, saloon, estate or van."""
    body = _body(rng, night, (3.6, 4.8), (1.65, 1.9), (1.35, 1.75))
    _pose(pen, rng, body, _car_side, _car_end)


def draw_truck(pen: Pen, rng: np.random.Generator, night: bool) -> None:
    """Draw a truck: cab and box, tank or flat load."""
    body = _body(rng, night, (6.5, 9.5), (2.3, 2.6), (2.8, 3.6))
    _pose(pen, rng, body, _truck_side, _truck_end)


def draw_bus(pen: Pen, rng: np.random.Generator, night: bool) -> None:
    """Draw a city bus or coach, sometimes with two decks."""
    body = _body(rng, night, (8.0, 11.5), (2.4, 2.6), (2.8, 3.4))
    if body.style > 0.85:
        body = Body(**{**body.__dict__, "height": 4.2})
    _pose(pen, rng, body, _bus_side, _bus_end)


def _body(
    rng: np.random.Generator,
    night: bool,
    length: tuple[float, float],
    width: tuple[float, float],
    height: tuple[float, float],
) -> Body:
    lights = rng.random() < (0.9 if night else 0.15)
    return Body(
        rng.uniform(*length),
        rng.uniform(*width),
        rng.uniform(*height),
        paint(rng),
        paint(rng, 0.6),
        rng.random() < 0.5,
        lights,
        rng.random(),
    )


def _pose(pen: Pen, rng: np.random.Generator, body: Body, side: Face, end: Face) -> None:
    view = rng.random()
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    _shadow(pen, body.length / 2 if view < 0.35 else body.width * 0.7)
    if view < 0.35:
        side(pen.derive(-mirror * body.length / 2, 0, mirror, 0), body)
    elif view < 0.65:
        end(pen.derive(-body.width / 2, 0, 1, 0), body)
    else:
        angle = rng.uniform(0.35, 1.1)
        across, along = body.width * np.sin(angle), body.length * np.cos(angle) * 0.7
        total = across + along
        # The side face runs from its far (left, or right when mirrored) end to the corner; the end face follows it.
        slope = -0.05 - 0.06 * rng.random()
        far = pen.derive(-mirror * total / 2, -slope * body.length, mirror * along / body.length, slope)
        corner = pen.derive(mirror * (along - total / 2), 0, mirror * across / body.width, 0.07)
        side(far, body)
        end(corner, body)


def _shadow(pen: Pen, half: float) -> None:
    owner, pen.canvas.owner = pen.canvas.owner, 0
    pen.canvas.ellipse(pen.x, pen.y - 0.05 * pen.scale, half * 1.1 * pen.scale, 0.28 * pen.scale, (38, 38, 42))
    pen.canvas.owner = owner


def _wheel(pen: Pen, u: float, radius: float) -> None:
    pen.disc(u, radius, radius, RUBBER)
    pen.disc(u, radius, radius * 0.55, (150, 150, 155))


def _lamps(pen: Pen, body: Body, level: float, radius: float) -> None:
    for u in (0.17 * body.width, 0.83 * body.width):
        if body.rear:
            pen.box(u - radius, level - radius, u + radius, level + radius, (220, 25, 20), body.lights)
        else:
            pen.disc(u, level, radius, (255, 250, 225) if body.lights else (215, 215, 205), body.lights)


def _car_side(pen: Pen, body: Body) -> None:
    n, h = body.length, body.height
    belt, floor = 0.58 * h, 0.2 * h
    nose = 0.28 if body.style < 0.75 else 0.14
    tail = 0.02 if body.style > 0.45 else 0.16
    roof = [
        (tail * n + 0.03 * n, belt),
        (tail * n + 0.09 * n, h),
        ((1 - nose) * n - 0.14 * n, h),
        ((1 - nose) * n, belt),
    ]
    pen.polygon(roof, tint(body.colour, 0.93))
    glass = [(u + (0.04 * n if i < 2 else -0.035 * n), min(v, h * 0.95)) for i, (u, v) in enumerate(roof)]
    pen.polygon(glass, GLASS)
    pen.box(0.47 * n, belt, 0.5 * n, h * 0.97, body.colour)
    hull = [(0, floor), (0, belt * 0.95), (0.04 * n, belt), ((1 - nose) * n, belt), (0.97 * n, 0.46 * h), (n, floor)]
    pen.polygon(hull, body.colour)
    pen.box(0.02 * n, floor, 0.98 * n, floor + 0.06 * h, tint(body.colour, 0.55))
    pen.box(0.94 * n, 0.36 * h, 0.99 * n, 0.43 * h, (255, 250, 225) if body.lights else (210, 210, 200), body.lights)
    pen.box(0, 0.42 * h, 0.035 * n, 0.52 * h, (200, 25, 20), body.lights)
    for u in (0.19 * n, 0.8 * n):
        _wheel(pen, u, 0.215 * h)


def _car_end(pen: Pen, body: Body) -> None:
    w, h = body.width, body.height
    pen.box(0.06 * w, 0, 0.2 * w, 0.3 * h, RUBBER)
    pen.box(0.8 * w, 0, 0.94 * w, 0.3 * h, RUBBER)
    pen.polygon([(0.05 * w, 0.55 * h), (0.18 * w, h), (0.82 * w, h), (0.95 * w, 0.55 * h)], tint(body.colour, 0.85))
    pen.polygon([(0.13 * w, 0.6 * h), (0.22 * w, 0.95 * h), (0.78 * w, 0.95 * h), (0.87 * w, 0.6 * h)], GLASS)
    pen.box(0, 0.16 * h, w, 0.58 * h, tint(body.colour, 0.8))
    pen.box(0.02 * w, 0.14 * h, 0.98 * w, 0.22 * h, (45, 45, 48))
    if body.rear:
        pen.box(0.36 * w, 0.26 * h, 0.64 * w, 0.34 * h, (225, 225, 215))
    else:
        pen.box(0.3 * w, 0.28 * h, 0.7 * w, 0.4 * h, (40, 40, 44))
    _lamps(pen, body, 0.44 * h, 0.06 * w)


def _truck_side(pen: Pen, body: Body) -> None:
    n, h = body.length, body.height
    cab = 0.22 * n
    pen.box(0.02 * n, 0.16 * h, 0.98 * n, 0.26 * h, (48, 48, 50))
    if body.style < 0.6:
        pen.box(0, 0.24 * h, 0.74 * n, h, body.second)
        for k in range(1, 5):
            pen.line([(0.148 * k * n, 0.26 * h), (0.148 * k * n, h)], 0.04, tint(body.second, 0.8))
    elif body.style < 0.8:
        pen.box(0.07 * n, 0.26 * h, 0.66 * n, 0.86 * h, body.second)
        pen.disc(0.09 * n, 0.56 * h, 0.3 * h, tint(body.second, 0.9))
        pen.disc(0.64 * n, 0.56 * h, 0.3 * h, tint(body.second, 0.9))
    else:
        pen.box(0, 0.24 * h, 0.74 * n, 0.42 * h, body.second)
        pen.polygon(
            [(0.06 * n, 0.42 * h), (0.2 * n, 0.68 * h), (0.6 * n, 0.62 * h), (0.7 * n, 0.42 * h)], (120, 100, 75)
        )
    pen.polygon(
        [(n - cab, 0.16 * h), (n - cab, 0.86 * h), (n - 0.25 * cab, 0.86 * h), (n, 0.5 * h), (n, 0.16 * h)], body.colour
    )
    pen.polygon(
        [(n - 0.7 * cab, 0.52 * h), (n - 0.7 * cab, 0.8 * h), (n - 0.3 * cab, 0.8 * h), (n - 0.1 * cab, 0.52 * h)],
        GLASS,
    )
    pen.box(n - 0.06 * cab, 0.22 * h, n, 0.28 * h, (255, 250, 225), body.lights)
    for u in (0.1, 0.21, 0.86):
        _wheel(pen, u * n, 0.15 * h)


def _truck_end(pen: Pen, body: Body) -> None:
    w, h = body.width, body.height
    pen.box(0.05 * w, 0, 0.22 * w, 0.3 * h, RUBBER)
    pen.box(0.78 * w, 0, 0.95 * w, 0.3 * h, RUBBER)
    pen.box(0, 0.2 * h, w, h, tint(body.second, 0.85))
    if body.rear:
        pen.line([(0.5 * w, 0.24 * h), (0.5 * w, 0.97 * h)], 0.05, tint(body.second, 0.55))
        pen.box(0, 0.14 * h, w, 0.23 * h, (60, 60, 62))
    else:
        pen.box(0.04 * w, 0.14 * h, 0.96 * w, 0.8 * h, tint(body.colour, 0.85))
        pen.box(0.12 * w, 0.5 * h, 0.88 * w, 0.74 * h, GLASS)
        for k in range(3):
            pen.box(0.25 * w, (0.26 + 0.06 * k) * h, 0.75 * w, (0.29 + 0.06 * k) * h, (45, 45, 48))
    _lamps(pen, body, 0.19 * h if body.rear else 0.24 * h, 0.06 * w)


def _bus_side(pen: Pen, body: Body) -> None:
    n, h = body.length, body.height
    pen.box(0, 0.12 * h, n, h, body.colour)
    pen.box(0, 0.3 * h, n, 0.38 * h, body.second)
    decks = ((0.5, 0.82),) if h < 4 else ((0.36, 0.58), (0.68, 0.88))
    count = 6 if body.style < 0.5 else 8
    warm = (235.0, 215.0, 150.0)
    for low, high in decks:
        for k in range(count):
            u = (0.03 + 0.95 * k / count) * n
            glow = body.lights and body.style < 0.6
            pen.box(u, low * h, u + 0.78 * n / count, high * h, warm if glow else GLASS, glow)
    pen.box(0.82 * n, 0.16 * h, 0.92 * n, 0.8 * h, tint(GLASS, 0.8))
    pen.box(0.97 * n, 0.2 * h, n, 0.27 * h, (255, 250, 225), body.lights)
    for u in (0.2, 0.74):
        _wheel(pen, u * n, 0.48)


def _bus_end(pen: Pen, body: Body) -> None:
    w, h = body.width, body.height
    pen.box(0.06 * w, 0, 0.2 * w, 0.2 * h, RUBBER)
    pen.box(0.8 * w, 0, 0.94 * w, 0.2 * h, RUBBER)
    pen.box(0, 0.1 * h, w, h, tint(body.colour, 0.85))
    pen.box(0.06 * w, (0.5 if body.rear else 0.36) * h, 0.94 * w, 0.8 * h, GLASS)
    pen.box(
        0.2 * w, 0.84 * h, 0.8 * w, 0.94 * h, (245, 190, 60) if not body.rear else tint(body.second, 0.8), body.lights
    )
    pen.box(0, 0.22 * h, w, 0.3 * h, tint(body.second, 0.85))
    _lamps(pen, body, 0.19 * h, 0.06 * w)
