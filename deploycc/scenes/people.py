"""Pedestrians and cyclists."""

from __future__ import annotations

import numpy as np

from deploycc.scenes.canvas import Colour, Pen
from deploycc.scenes.paint import RUBBER, paint, skin, tint


def draw_person(pen: Pen, rng: np.random.Generator, night: bool) -> None:
    """Draw a standing or walking person: legs, torso, arms, head, perhaps a coat or a bag."""
    h = rng.uniform(1.45, 1.9)
    pen = pen.derive(0, 0, 1.0 if rng.random() < 0.5 else -1.0, 0)
    coat, trousers, hair, face = paint(rng), paint(rng, 0.6, 0.1, 0.7), paint(rng, 0.5, 0.05, 0.6), skin(rng)
    swing = 0.0 if rng.random() < 0.3 else rng.uniform(0.08, 0.3)
    hip, neck = 0.5 * h, 0.83 * h
    for side in (-1, 1):
        foot = side * swing
        pen.polygon(
            [(-0.1, hip), (0.1, hip), (foot + 0.08, 0), (foot - 0.07, 0)], tint(trousers, 0.85 if side < 0 else 1)
        )
        pen.box(foot - 0.08, 0, foot + 0.15, 0.07, (30, 28, 26))
    hem = hip - (0.22 * h if rng.random() < 0.3 else 0.02 * h)
    breadth = rng.uniform(0.18, 0.25)
    pen.polygon(
        [
            (-breadth * 0.85, hem),
            (breadth * 0.85, hem),
            (breadth, neck - 0.05),
            (0.07, neck),
            (-0.07, neck),
            (-breadth, neck - 0.05),
        ],
        coat,
    )
    for side in (-1, 1):
        hand = side * (breadth + 0.03) - 0.8 * swing * side * (1 if rng.random() < 0.5 else -1)
        pen.line(
            [(side * breadth * 0.9, neck - 0.06), (side * (breadth + 0.05), 0.66 * h), (hand, 0.5 * h)],
            0.1,
            tint(coat, 0.8),
        )
    pen.disc(0, neck + 0.085 * h, 0.072 * h, face)
    pen.polygon([(-0.075 * h, neck + 0.09 * h), (-0.05 * h, h), (0.05 * h, h), (0.07 * h, neck + 0.11 * h)], hair)
    if rng.random() < 0.25:
        bag = paint(rng)
        pen.box(-breadth - 0.16, 0.55 * h, -breadth + 0.04, 0.78 * h, bag)


def draw_cyclist(pen: Pen, rng: np.random.Generator, night: bool) -> None:
    """Draw a cyclist from the side or from the front."""
    shirt, trousers, frame, helmet = paint(rng, 0.25), paint(rng, 0.6, 0.1, 0.7), paint(rng, 0.3), paint(rng, 0.4)
    mirror = 1.0 if rng.random() < 0.5 else -1.0
    if rng.random() < 0.3:
        _cyclist_front(pen, shirt, trousers, frame, helmet, skin(rng), night)
        return
    pen = pen.derive(0, 0, mirror * rng.uniform(0.65, 1.0), 0)
    radius = 0.34
    for u in (-0.52, 0.52):
        pen.ring(u, radius, radius, 0.06, RUBBER)
        pen.disc(u, radius, 0.05, (120, 120, 125))
    pen.line([(-0.52, radius), (-0.1, 0.32), (0.38, 0.78), (-0.2, 0.8), (-0.52, radius)], 0.055, frame)
    pen.line([(-0.1, 0.32), (-0.22, 0.92)], 0.055, frame)
    pen.line([(0.52, radius), (0.36, 0.95), (0.5, 1.02)], 0.055, frame)
    lean = rng.uniform(0.1, 0.4)
    knee = rng.uniform(-0.05, 0.1)
    for du, shade in ((-0.06, 0.8), (0.03, 1.0)):
        pen.line([(-0.2, 0.98), (0.16 + knee + du, 0.75), (0.0 + du, 0.22 + knee)], 0.14, tint(trousers, shade))
    shoulder = (-0.2 + lean, 1.5 - 0.25 * lean)
    pen.polygon(
        [
            (-0.34, 0.95),
            (-0.08, 0.93),
            (shoulder[0] + 0.14, shoulder[1] - 0.06),
            (shoulder[0] - 0.1, shoulder[1] + 0.02),
        ],
        shirt,
    )
    pen.line([shoulder, (0.28, 1.15), (0.48, 1.03)], 0.09, tint(shirt, 0.85))
    head = (shoulder[0] + 0.1, shoulder[1] + 0.19)
    pen.disc(*head, 0.125, skin(rng))
    pen.polygon(
        [(head[0] - 0.15, head[1] + 0.02), (head[0] - 0.05, head[1] + 0.16), (head[0] + 0.13, head[1] + 0.06)], helmet
    )
    if night and rng.random() < 0.7:
        pen.disc(0.56, 0.9, 0.05, (255, 250, 220), True)


def _cyclist_front(
    pen: Pen, shirt: Colour, trousers: Colour, frame: Colour, helmet: Colour, face: Colour, night: bool
) -> None:
    pen.box(-0.04, 0, 0.04, 0.68, RUBBER)
    pen.line([(0, 0.6), (0, 0.98)], 0.06, frame)
    pen.line([(-0.32, 1.0), (0.32, 1.0)], 0.06, frame)
    for side in (-1, 1):
        pen.line([(side * 0.12, 0.98), (side * 0.2, 0.65), (side * 0.13, 0.3 + 0.1 * side)], 0.14, trousers)
    pen.polygon([(-0.16, 0.92), (0.16, 0.92), (0.22, 1.42), (-0.22, 1.42)], shirt)
    for side in (-1, 1):
        pen.line([(side * 0.2, 1.38), (side * 0.33, 1.15), (side * 0.29, 1.0)], 0.09, tint(shirt, 0.85))
    pen.disc(0, 1.57, 0.125, face)
    pen.polygon([(-0.14, 1.6), (-0.08, 1.73), (0.08, 1.73), (0.14, 1.6)], helmet)
    if night:
        pen.disc(0, 0.9, 0.05, (255, 250, 220), True)
