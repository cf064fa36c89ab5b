"""Surroundings of the objects: sky, skyline, buildings, road, trees, and things that resemble objects."""

from __future__ import annotations

import numpy as np

from deploycc.scenes.canvas import Canvas, Pen
from deploycc.scenes.paint import GLASS, paint, tint
from deploycc.scenes.signs import draw_false_sign


def draw_sky(canvas: Canvas, rng: np.random.Generator, horizon: float, night: bool) -> None:
    """Draw the sky, with clouds by day; `horizon` in canvas pixels."""
    side = canvas.side
    top, low = ((15, 18, 38), (45, 45, 62)) if night else ((90, 140, 215), (200, 215, 230))
    grey = rng.random() * 0.9
    steps = 12
    for k in range(steps):
        t = k / (steps - 1)
        mix = [a + (b - a) * t for a, b in zip(top, low, strict=True)]
        mean = sum(mix) / 3
        r, g, b = (c * (1 - grey) + mean * grey for c in mix)
        canvas.rectangle(0, horizon * k / steps, side, horizon * (k + 1) / steps + 1, (r, g, b), emits=night)
    if not night:
        for _ in range(int(rng.integers(0, 6))):
            x, y, w = rng.uniform(0, side), rng.uniform(0, horizon), rng.uniform(20, 90)
            canvas.ellipse(x, y, w, w * 0.2, (228, 230, 234))


def draw_ground(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    """Draw the verge, a road with markings towards a vanishing point, and sometimes a crossing."""
    side = canvas.side
    verge = (95, 125, 70) if rng.random() < 0.5 else (140, 135, 128)
    canvas.rectangle(0, horizon, side, side, tint(verge, rng.uniform(0.7, 1.15)))
    vanish = side * rng.uniform(0.25, 0.75)
    left, right = vanish - side * rng.uniform(0.7, 1.8), vanish + side * rng.uniform(0.7, 1.8)
    road = rng.uniform(60, 125)
    canvas.polygon(
        [(vanish - 4, horizon), (vanish + 4, horizon), (right, side), (left, side)], (road, road, road * 1.03)
    )
    for _ in range(int(rng.integers(2, 10))):
        t = rng.uniform(0.15, 1.0) ** 1.5
        y = horizon + t * (side - horizon)
        x = vanish + (rng.uniform(left, right) - vanish) * t
        shade = road * rng.uniform(0.75, 1.15)
        canvas.ellipse(x, y, rng.uniform(8, 60) * t, rng.uniform(1, 8) * t, (shade, shade, shade))
    mark = (225, 225, 218) if rng.random() < 0.8 else (225, 185, 60)
    lanes = int(rng.integers(1, 4))
    for lane in range(1, lanes + 1):
        end = left + (right - left) * lane / (lanes + 1)
        dashed = rng.random() < 0.7
        for k in range(7):
            a, b = (k / 7) ** 2, ((k + (0.5 if dashed else 1.0)) / 7) ** 2
            xa, xb = vanish + (end - vanish) * a, vanish + (end - vanish) * b
            ya, yb = horizon + (side - horizon) * a, horizon + (side - horizon) * b
            canvas.polygon([(xa - 4 * a, ya), (xa + 4 * a, ya), (xb + 4 * b, yb), (xb - 4 * b, yb)], mark)
    if rng.random() < 0.25:
        t = rng.uniform(0.3, 0.8)
        y0, y1 = horizon + (side - horizon) * t, horizon + (side - horizon) * min(1.0, t + 0.15)
        for k in range(-8, 9):
            x = side / 2 + k * side * 0.09
            canvas.polygon([(x, y0), (x + 0.045 * side, y0), (x + 0.05 * side, y1), (x, y1)], (220, 220, 215))


def draw_skyline(canvas: Canvas, rng: np.random.Generator, horizon: float, town: bool, night: bool) -> None:
    """Draw distant hills and, in town, house fronts with windows and shop signs."""
    side = canvas.side
    canvas.haze = min(0.9, canvas.haze + 0.25)
    x = -20.0
    hill = tint((80, 105, 85), rng.uniform(0.7, 1.2))
    while x < side + 20:
        w = rng.uniform(40, 120)
        canvas.ellipse(x, horizon, w, rng.uniform(5, 28), hill)
        x += w
    canvas.rectangle(0, horizon, side, horizon + 2, hill)
    canvas.haze = max(0.0, canvas.haze - 0.35)
    if town:
        x = -rng.uniform(0, 40)
        while x < side:
            w = rng.uniform(35, 110)
            if rng.random() < 0.85:
                _draw_house(canvas, rng, x, horizon, w, night)
            x += w * rng.uniform(0.95, 1.2)


def _draw_house(canvas: Canvas, rng: np.random.Generator, x: float, horizon: float, w: float, night: bool) -> None:
    h, wall = rng.uniform(40, 140), paint(rng, 0.6, 0.35, 0.9)
    base = horizon + rng.uniform(2, 14)
    canvas.rectangle(x, base - h, x + w, base, wall)
    if rng.random() < 0.4:
        canvas.polygon(
            [(x - 3, base - h), (x + w / 2, base - h - w * 0.3), (x + w + 3, base - h)], paint(rng, 0.3, 0.2, 0.6)
        )
    columns, rows = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    lit = rng.random()
    for i in range(columns):
        for j in range(rows):
            wx, wy = x + w * (i + 0.25) / columns, base - h + h * (j + 0.25) / (rows + 0.6)
            on = night and rng.random() < 0.5 * lit
            canvas.rectangle(wx, wy, wx + 0.5 * w / columns, wy + 0.5 * h / rows, (240, 210, 130) if on else GLASS, on)
    if rng.random() < 0.5:
        sx = x + w * rng.uniform(0.1, 0.5)
        canvas.rectangle(sx, base - h * 0.22, sx + w * 0.4, base - h * 0.14, paint(rng, 0.1), emits=night)
        canvas.ellipse(sx + w * 0.2, base - h * 0.3, w * 0.07, w * 0.07, paint(rng, 0.1))


def draw_clutter(pen: Pen, rng: np.random.Generator) -> None:
    """Draw something in the street that does not belong to any class."""
    kinds = (
        _tree,
        _bush,
        _container,
        _kiosk,
        _bollard,
        _board,
        _hydrant,
        _tyres,
        _barrier,
        draw_false_sign,
        draw_false_sign,
    )
    kinds[int(rng.integers(len(kinds)))](pen, rng)


def _tree(pen: Pen, rng: np.random.Generator) -> None:
    h = rng.uniform(3, 7)
    pen.box(-0.15, 0, 0.15, h * 0.6, (80, 60, 45))
    leaf = tint((70, 115, 55), rng.uniform(0.5, 1.2))
    for _ in range(6):
        pen.disc(
            rng.uniform(-1, 1), h * rng.uniform(0.55, 1.0), rng.uniform(0.5, 1.1), tint(leaf, rng.uniform(0.8, 1.15))
        )


def _bush(pen: Pen, rng: np.random.Generator) -> None:
    for _ in range(4):
        pen.disc(
            rng.uniform(-0.9, 0.9),
            rng.uniform(0.2, 0.7),
            rng.uniform(0.3, 0.6),
            tint((65, 105, 55), rng.uniform(0.6, 1.2)),
        )


def _container(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a box with the size and colour of a truck, without wheels and cab."""
    n, h, colour = rng.uniform(2.0, 6.5), rng.uniform(1.2, 2.6), paint(rng, 0.3)
    pen.box(-n / 2, 0, n / 2, h, colour)
    for k in range(1, 8):
        u = -n / 2 + n * k / 8
        pen.line([(u, 0.05 * h), (u, 0.95 * h)], 0.06, tint(colour, 0.75))


def _kiosk(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a kiosk with an awning and a row of windows, like a bus without wheels."""
    n, h, colour = rng.uniform(2.5, 6.0), rng.uniform(2.3, 3.0), paint(rng)
    pen.box(-n / 2, 0, n / 2, h, colour)
    count = int(rng.integers(2, 6))
    for k in range(count):
        u = -n / 2 + n * (k + 0.12) / count
        pen.box(u, 0.42 * h, u + 0.76 * n / count, 0.8 * h, GLASS)
    pen.polygon([(-n / 2 - 0.3, 0.84 * h), (n / 2 + 0.3, 0.84 * h), (n / 2, h), (-n / 2, h)], paint(rng, 0.1))


def _bollard(pen: Pen, rng: np.random.Generator) -> None:
    """Draw a bollard of a person's shape."""
    h, colour = rng.uniform(0.8, 1.9), paint(rng)
    pen.box(-0.2, 0, 0.2, h, colour)
    pen.box(-0.2, 0.6 * h, 0.2, 0.75 * h, paint(rng))
    pen.disc(0, h, 0.2, tint(colour, rng.uniform(0.7, 1.3)))


def _board(pen: Pen, rng: np.random.Generator) -> None:
    """Draw an advertisement of coloured shapes."""
    n, h, low = rng.uniform(1.2, 4.0), rng.uniform(1.0, 2.4), rng.uniform(0.4, 1.6)
    pen.box(-0.35 * n - 0.06, 0, -0.35 * n + 0.06, low, (90, 90, 92))
    pen.box(0.35 * n - 0.06, 0, 0.35 * n + 0.06, low, (90, 90, 92))
    pen.box(-n / 2, low, n / 2, low + h, paint(rng))
    for _ in range(4):
        u, v, r = rng.uniform(-0.4, 0.25) * n, low + h * rng.uniform(0.1, 0.7), rng.uniform(0.1, 0.3)
        if rng.random() < 0.4:
            pen.disc(u + r, v + r, r * min(1.0, h), paint(rng, 0.2))
        else:
            pen.box(u, v, u + r * n, v + 0.4 * r * h, paint(rng, 0.2))


def _hydrant(pen: Pen, rng: np.random.Generator) -> None:
    colour = paint(rng, 0.1)
    pen.box(-0.16, 0, 0.16, 0.6, colour)
    pen.box(-0.28, 0.32, 0.28, 0.45, tint(colour, 0.8))
    pen.disc(0, 0.62, 0.17, colour)


def _tyres(pen: Pen, rng: np.random.Generator) -> None:
    """Draw rings on the ground, like the wheels of a bicycle."""
    for u in rng.uniform(-1.2, 1.2, 2):
        pen.ring(u, 0.34, 0.34, rng.uniform(0.05, 0.16), (30, 30, 32))


def _barrier(pen: Pen, rng: np.random.Generator) -> None:
    n = rng.uniform(1.5, 3.5)
    for k in range(6):
        u = -n / 2 + n * k / 6
        pen.box(u, 0.6, u + n / 6, 0.95, (205, 45, 40) if k % 2 else (230, 230, 228))
    for u in (-0.4 * n, 0.4 * n):
        pen.box(u - 0.05, 0, u + 0.05, 0.6, (110, 110, 112))
