"""Constants that replace a gate, against numpy and a worked example."""

from __future__ import annotations

import numpy as np
import pytest
from utilisation_profiles import VECTORS, profile

from deploycc.pruning.gate_constants import least_squares_coefficients, response_error

KERNELS = 8


def test_the_error_of_coefficients_agrees_with_numpy() -> None:
    generator = np.random.default_rng(0)
    y, g = generator.normal(size=(50, KERNELS)), generator.random((50, KERNELS)) < 0.4
    squares, used = (y**2).sum(0), (g * y**2).sum(0)
    for c in (g.mean(0), used / squares, np.zeros(KERNELS), np.ones(KERNELS)):
        want = (((g - c) * y) ** 2).sum() / ((g * y) ** 2).sum()
        np.testing.assert_allclose(response_error(squares, used, c), want, rtol=1e-9, atol=0)
    assert response_error(squares, used, used / squares) < response_error(squares, used, g.mean(0))
    assert response_error(squares, np.zeros(KERNELS), np.zeros(KERNELS)) == 0.0


def test_the_worked_coefficients() -> None:
    layer = profile(VECTORS).layers[0].model_copy(update={"squares": (2.0, 0.0) + (1.0,) * 7})
    np.testing.assert_array_equal(least_squares_coefficients(layer), [0.25, 0.0] + [0.5] * 7)


def test_coefficients_need_a_gate() -> None:
    layer = profile(VECTORS).layers[0].model_copy(update={"gate": None})
    with pytest.raises(ValueError, match="conv0 has no gate"):
        least_squares_coefficients(layer)
