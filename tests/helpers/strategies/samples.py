"""Latency samples and pictures."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray


def latency_samples(min_size: int = 1, max_size: int = 300) -> st.SearchStrategy[NDArray[np.float64]]:
    """Latencies in ms: positive, finite, over six decades, with ties."""
    value = st.one_of(st.floats(1e-3, 1e3), st.sampled_from([1.0, 1.5, 2.0]))
    return st.lists(value, min_size=min_size, max_size=max_size).map(np.array)


@st.composite
def pictures(draw: st.DrawFn) -> tuple[NDArray[np.uint8], int, int]:
    """A picture of noise, and a height and width to resize it to."""
    side = st.integers(1, 40)
    height, width = draw(side), draw(side)
    noise = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return noise.integers(0, 256, (height, width, 3), np.uint8), draw(side), draw(side)
