"""Boxes drawn onto pictures, with class and score."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deploycc.documents.detections import DetectedBox

_COLOURS = (
    "#2f7ed8",
    "#d9480f",
    "#2b8a3e",
    "#ae3ec9",
    "#c2255c",
    "#0b7285",
    "#e67700",
    "#5f3dc4",
    "#5c940d",
    "#1864ab",
)
_SIDE = 480  # pixels of the longer side in the contact sheet
_QUALITY = 82


def draw_detections(picture: NDArray[np.uint8], found: Sequence[DetectedBox], *, marked: bool = False) -> Image.Image:
    """Return a picture with its detections, the best on top; no label covers another where there is room.

    Args:
        picture: [height, width, 3] uint8, red first.
        found: boxes in its pixels.
        marked: detections without a partner get a thicker, dark-rimmed line; those with one a thin line.
    """
    image = Image.fromarray(picture).convert("RGB")
    canvas = ImageDraw.Draw(image)
    unit = max(1, round(max(image.size) / 300))
    font = _font(max(11, round(max(image.size) / 38)))
    for detected in reversed(found):
        alone = marked and detected.partner is None
        colour = _COLOURS[detected.label % len(_COLOURS)]
        width = 3 * unit if alone else unit if marked else 2 * unit
        box = _inside(detected.box, image.size)
        if alone:
            canvas.rectangle(_grown(box, unit), outline="#000000", width=width + 2 * unit)
        canvas.rectangle(box, outline=colour, width=width)
    taken: list[tuple[float, float, float, float]] = []
    for detected in found:
        box = _inside(detected.box, image.size)
        text = f"{detected.name} {detected.score:.2f}"
        left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
        wide, high = right - left + 2 * unit, bottom - top + 2 * unit
        x = max(0, min(box[0], image.width - wide))
        y = _free(x, box[1] - high if box[1] >= high else box[1], wide, high, taken, image.height)
        taken.append((x, y, x + wide, y + high))
        canvas.rectangle(taken[-1], fill=_COLOURS[detected.label % len(_COLOURS)])
        canvas.text((x + unit - left, y + unit - top), text, fill="#ffffff", font=font)
    return image


def thumbnail(image: Image.Image) -> str:
    """Return a small JPEG of an image as a ``data:`` address."""
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE))
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg(small)).decode('ascii')}"


def jpeg(image: Image.Image) -> bytes:
    """Return an image as the bytes of a JPEG file."""
    written = io.BytesIO()
    image.save(written, "JPEG", quality=_QUALITY)
    return written.getvalue()


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one size
        return ImageFont.load_default()


def _inside(box: Sequence[float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    width, height = size
    left, top = min(max(box[0], 0), width - 1), min(max(box[1], 0), height - 1)
    return left, top, max(left, min(box[2], width - 1)), max(top, min(box[3], height - 1))


def _free(
    x: float, y: float, wide: float, high: float, taken: Sequence[tuple[float, float, float, float]], height: int
) -> float:
    """Return where a label covers none of those before it: at ``y``, else lower, else at ``y`` all the same."""
    lower = y
    while lower + high < height:
        under = [b for left, t, right, b in taken if left < x + wide and x < right and t < lower + high and lower < b]
        if not under:
            return lower
        lower = max(under) + 1
    return y


def _grown(box: Sequence[float], by: int) -> tuple[float, float, float, float]:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by
