"""Camera and weather effects: exposure, colour cast, bloom, blur, rain, noise, compression."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter


def photograph(image: Image.Image, rng: np.random.Generator, night: bool, rain: bool) -> NDArray[np.uint8]:
    """Make a clean picture look as if taken by a cheap camera.

    Returns:
        [H, W, 3] uint8, RGB.
    """
    if rain:
        _draw_rain(image, rng)
    if night:
        image = _bloom(image)
    if rng.random() < 0.35:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    gain = np.float32(rng.uniform(0.8, 1.2)) * rng.uniform(0.92, 1.08, 3).astype(np.float32)
    gamma = np.float32(rng.uniform(0.8, 1.25))
    pixels = np.clip(pixels * gain, 0, 1) ** gamma
    contrast, lift = np.float32(rng.uniform(0.75, 1.1)), np.float32(rng.uniform(0.0, 0.08))
    noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    pixels = pixels * contrast + lift + noise * np.float32(rng.uniform(0.005, 0.045 if night else 0.03))
    result: NDArray[np.uint8] = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < 0.3:
        buffer = io.BytesIO()
        Image.fromarray(result).save(buffer, "JPEG", quality=int(rng.integers(25, 80)))
        return np.array(Image.open(buffer).convert("RGB"))
    return result


def _draw_rain(image: Image.Image, rng: np.random.Generator) -> None:
    draw, (w, h) = ImageDraw.Draw(image), image.size
    slant, length = rng.uniform(-0.4, 0.4), rng.uniform(4, 12)
    for x, y in rng.random((int(rng.integers(25, 90)), 2)).tolist():
        tone = int(120 + 110 * ((x * 7.3 + y * 3.1) % 1.0))
        draw.line([(x * w, y * h), (x * w + slant * length, y * h + length)], fill=(tone, tone, tone + 10))


def _bloom(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    bright = Image.fromarray(np.where(pixels > 215, pixels, 0).astype(np.uint8))
    glow = np.asarray(bright.filter(ImageFilter.GaussianBlur(4)), dtype=np.float32)
    return Image.fromarray(np.minimum(pixels + 1.6 * glow, 255).astype(np.uint8))
