"""Samples for least squares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class FitCase:
    """Inputs [groups, samples, inputs], wanted changes [groups, samples, outputs], and a relative ridge."""

    inputs: NDArray[np.float64]
    wanted: NDArray[np.float64]
    ridge: float


@st.composite
def fit_cases(draw: st.DrawFn) -> FitCase:
    """Also fewer samples than weights, inputs of any scale, copies of one another, or always zero."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups, count, inputs, outputs = (draw(st.integers(1, most)) for most in (3, 12, 6, 3))
    x = random.normal(size=(groups, count, inputs)) + 0.3
    x *= 10.0 ** np.array(draw(st.lists(st.integers(-4, 4), min_size=inputs, max_size=inputs)))
    if draw(st.booleans()):
        x[:, :, -1] = x[:, :, 0]
    if draw(st.booleans()):
        x[:, :, 0] = 0
    return FitCase(x, random.normal(size=(groups, count, outputs)), draw(st.sampled_from([1e-5, 1e-2, 1.0])))
