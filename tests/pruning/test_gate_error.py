"""The error of constants in place of a gate."""

from __future__ import annotations

import numpy as np

from deploycc.pruning.gate_error import response_error

KERNELS = 8


def test_the_error_of_coefficients_is_what_numpy_says() -> None:
    generator = np.random.default_rng(0)
    y, g = generator.normal(size=(50, KERNELS)), generator.random((50, KERNELS)) < 0.4
    squares, used = (y**2).sum(0), (g * y**2).sum(0)
    for c in (g.mean(0), used / squares, np.zeros(KERNELS), np.ones(KERNELS)):
        want = (((g - c) * y) ** 2).sum() / ((g * y) ** 2).sum()
        np.testing.assert_allclose(response_error(squares, used, c), want, rtol=1e-9, atol=0)
    assert response_error(squares, used, used / squares) < response_error(squares, used, g.mean(0))
    assert response_error(squares, np.zeros(KERNELS), np.zeros(KERNELS)) == 0.0
