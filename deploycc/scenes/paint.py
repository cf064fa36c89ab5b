"""Random colours."""

from __future__ import annotations

import colorsys

import numpy as np

from deploycc.scenes.canvas import Colour

GLASS: Colour = (52.0, 64.0, 76.0)
RUBBER: Colour = (24.0, 24.0, 26.0)


def paint(rng: np.random.Generator, grey: float = 0.45, low: float = 0.2, high: float = 0.95) -> Colour:
    """Return a colour with a value in low..high; with probability `grey` almost without hue."""
    h, s, v = rng.random(3)
    s = 0.08 * s if rng.random() < grey else 0.3 + 0.65 * s
    r, g, b = colorsys.hsv_to_rgb(h, s, low + (high - low) * v)
    return 255 * r, 255 * g, 255 * b


def tint(colour: Colour, factor: float) -> Colour:
    """Return the colour in more or less light."""
    r, g, b = colour
    return r * factor, g * factor, b * factor


def skin(rng: np.random.Generator) -> Colour:
    """Return a skin colour."""
    depth = 0.3 + 0.65 * rng.random()
    return 235 * depth, 190 * depth, 160 * depth
