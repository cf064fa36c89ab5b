"""Seeded pictures that look like photographs to a network: areas, edges and noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deploycc.detector import InputSpec
from deploycc.detector.pictures import prepare, resize

_CELL = 16  # pixels: size of an area
_NOISE = 24  # grey levels


def seeded_picture(spec: InputSpec, seed: int) -> NDArray[np.float32]:
    """Return the network's input, shape ``spec.shape``, for a picture drawn from a seed."""
    generator = np.random.default_rng(seed)
    cells = (-(-spec.height // _CELL), -(-spec.width // _CELL), 3)
    areas = resize(generator.integers(0, 256, cells, dtype=np.uint8), spec.height, spec.width).astype(np.int16)
    noise = generator.integers(-_NOISE, _NOISE + 1, areas.shape, dtype=np.int16)
    return prepare(np.clip(areas + noise, 0, 255).astype(np.uint8), spec)
