"""What a constant in place of a gate gets wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def response_error(
    squares: NDArray[np.float64], used_squares: NDArray[np.float64], coefficients: NDArray[np.float64]
) -> float:
    """Share of the gated response's energy that constant coefficients get wrong, over all kernels of a layer.

    ``E[(g y - c y)^2] / E[(g y)^2]`` with g of zeros and ones: ``E[(g - c)^2 y^2] = (1 - 2 c) E[g y^2] + c^2 E[y^2]``.

    Args:
        squares: E[y^2] of each kernel, or a sum in its place, [kernels].
        used_squares: E[g y^2], likewise.
        coefficients: c; 0 for a kernel that is removed.

    Returns:
        0 where the gates make no response at all.
    """
    wrong = (1 - 2 * coefficients) * used_squares + coefficients**2 * squares
    total = float(used_squares.sum())
    return float(wrong.sum()) / total if total else 0.0
