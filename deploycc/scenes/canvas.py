"""Drawing surface of a scene: a colour and an owner per pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[float, float, float]
Point = tuple[float, float]

OVERSAMPLING = 2  # draw at twice the size and average, since Pillow does not anti-alias shapes


class Canvas:
    """An RGB picture and an owner plane, both `OVERSAMPLING` times the final size.

    Everything is drawn from far to near. `owner` is the number of the object being drawn (0: not an object), `haze`
    the share of the fog's colour in it, `light` a factor per colour channel.
    """

    def __init__(self, size: int, light: Colour, fog: Colour) -> None:
        self.side = size * OVERSAMPLING
        self.image = Image.new("RGB", (self.side, self.side))
        self.owners = Image.new("L", (self.side, self.side))
        self._ink = ImageDraw.Draw(self.image)
        self._owner_plane = ImageDraw.Draw(self.owners)
        self.light = light
        self.fog = fog
        self.haze = 0.0
        self.owner = 0

    def ink(self, colour: Colour, emits: bool = False) -> tuple[int, int, int]:
        """Return the colour under this scene's light and haze; light sources (`emits`) are not dimmed."""
        keep = 1.0 - self.haze * (0.5 if emits else 1.0)
        (r, g, b), (fog_r, fog_g, fog_b), rest = colour, self.fog, 1 - keep
        if not emits:
            light_r, light_g, light_b = self.light
            r, g, b = r * light_r, g * light_g, b * light_b
        return _level(r * keep + fog_r * rest), _level(g * keep + fog_g * rest), _level(b * keep + fog_b * rest)

    def polygon(self, points: Sequence[Point], colour: Colour, emits: bool = False) -> None:
        """Fill a polygon."""
        self._ink.polygon(points, fill=self.ink(colour, emits))
        self._owner_plane.polygon(points, fill=self.owner)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, emits: bool = False) -> None:
        """Fill an upright rectangle; corners in any order."""
        box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        self._ink.rectangle(box, fill=self.ink(colour, emits))
        self._owner_plane.rectangle(box, fill=self.owner)

    def ellipse(self, cx: float, cy: float, rx: float, ry: float, colour: Colour, emits: bool = False) -> None:
        """Fill an upright ellipse."""
        rx, ry = abs(rx), abs(ry)
        box = (cx - rx, cy - ry, cx + rx, cy + ry)
        self._ink.ellipse(box, fill=self.ink(colour, emits))
        self._owner_plane.ellipse(box, fill=self.owner)

    def ring(self, cx: float, cy: float, rx: float, ry: float, width: float, colour: Colour) -> None:
        """Draw an upright ellipse's outline, `width` pixels wide."""
        rx, ry = abs(rx), abs(ry)
        box = (cx - rx, cy - ry, cx + rx, cy + ry)
        line = max(1, round(width))
        self._ink.ellipse(box, outline=self.ink(colour), width=line)
        self._owner_plane.ellipse(box, outline=self.owner, width=line)

    def line(self, points: Sequence[Point], width: float, colour: Colour, emits: bool = False) -> None:
        """Draw a polyline, `width` pixels wide."""
        thick = max(1, round(width))
        self._ink.line(points, fill=self.ink(colour, emits), width=thick)
        self._owner_plane.line(points, fill=self.owner, width=thick)

    def owned(self, owner: int) -> NDArray[np.bool_]:
        """Return a mask [side, side] of the pixels that show an object."""
        plane: NDArray[np.uint8] = np.asarray(self.owners)
        mask: NDArray[np.bool_] = plane == owner
        return mask


def _level(value: float) -> int:
    return 255 if value >= 255.0 else int(value) if value > 0.0 else 0


@dataclass
class Pen:
    """Draws in metres around a point on the ground.

    (u, v) is u metres towards the object's front and v metres up; the picture's x grows with `u * stretch` and its y
    with `-(v + slope * u)`, which is enough perspective for a vehicle seen at an angle.

    Attributes:
        canvas: the canvas to draw on.
        x, y: the point on the ground, canvas pixels.
        scale: canvas pixels per metre.
        stretch: horizontal factor; negative mirrors.
        slope: rise of the ground along u, metres per metre.
        extent: bounding box of everything drawn, canvas pixels: xmin, ymin, xmax, ymax; shared by derived pens.
    """

    canvas: Canvas
    x: float
    y: float
    scale: float
    stretch: float = 1.0
    slope: float = 0.0
    extent: list[float] | None = None

    def __post_init__(self) -> None:
        if self.extent is None:
            self.extent = [np.inf, np.inf, -np.inf, -np.inf]

    def at(self, u: float, v: float) -> Point:
        """Return the picture point of (u, v)."""
        return self.x + self.scale * self.stretch * u, self.y - self.scale * (v + self.slope * u)

    def derive(self, u: float, v: float, stretch: float, slope: float) -> Pen:
        """Return a pen at (u, v) with its own stretch and slope."""
        x, y = self.at(u, v)
        return Pen(self.canvas, x, y, self.scale, stretch, slope, self.extent)

    def polygon(self, points: Sequence[Point], colour: Colour, emits: bool = False) -> None:
        """Fill a polygon."""
        mapped = [self.at(u, v) for u, v in points]
        self._grow(mapped)
        self.canvas.polygon(mapped, colour, emits)

    def box(self, u0: float, v0: float, u1: float, v1: float, colour: Colour, emits: bool = False) -> None:
        """Fill a rectangle."""
        self.polygon([(u0, v0), (u1, v0), (u1, v1), (u0, v1)], colour, emits)

    def disc(self, u: float, v: float, radius: float, colour: Colour, emits: bool = False) -> None:
        """Fill a circle; it is foreshortened with `stretch`."""
        x, y = self.at(u, v)
        rx, ry = radius * self.scale * abs(self.stretch), radius * self.scale
        self._grow([(x - rx, y - ry), (x + rx, y + ry)])
        self.canvas.ellipse(x, y, rx, ry, colour, emits)

    def ring(self, u: float, v: float, radius: float, width: float, colour: Colour) -> None:
        """Draw a circle's outline, `width` metres wide."""
        x, y = self.at(u, v)
        rx, ry = radius * self.scale * abs(self.stretch), radius * self.scale
        self._grow([(x - rx, y - ry), (x + rx, y + ry)])
        self.canvas.ring(x, y, rx, ry, width * self.scale, colour)

    def line(self, points: Sequence[Point], width: float, colour: Colour, emits: bool = False) -> None:
        """Draw a polyline, `width` metres wide."""
        mapped = [self.at(u, v) for u, v in points]
        self._grow(mapped)
        self.canvas.line(mapped, width * self.scale, colour, emits)

    def _grow(self, points: Sequence[Point]) -> None:
        assert self.extent is not None
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        box = self.extent
        box[:] = [min(box[0], *xs), min(box[1], *ys), max(box[2], *xs), max(box[3], *ys)]
