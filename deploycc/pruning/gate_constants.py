"""Constants that replace a gate, and the error they cause."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deploycc.documents.utilisation import LayerUse

Array = NDArray[np.float64]


def least_squares_coefficients(layer: LayerUse) -> Array:
    """Return the constant c per kernel that minimises E[(g y - c y)^2]: E[g y^2] / E[y^2], or 0 if y is always 0.

    Args:
        layer: of a profile of gates.

    Raises:
        ValueError: the layer has no gate.
    """
    if layer.gate is None:
        raise ValueError(f"layer {layer.name} has no gate")
    squares, used = np.array(layer.squares), np.array(layer.gate.used_squares)
    coefficients: Array = np.divide(used, squares, out=np.zeros_like(squares), where=squares > 0)
    return coefficients


def response_error(squares: Array, used_squares: Array, coefficients: Array) -> float:
    """Return the error of constant coefficients as a share of the gated response's energy, over a layer's kernels.

    ``E[(g y - c y)^2] / E[(g y)^2]`` with g of zeros and ones: ``E[(g - c)^2 y^2] = (1 - 2 c) E[g y^2] + c^2 E[y^2]``.

    Args:
        squares: E[y^2] of each kernel, or a sum over pictures, [kernels].
        used_squares: E[g y^2], in the same form.
        coefficients: c; 0 for a kernel that is removed.

    Returns:
        The error, or 0 if the gated response is zero everywhere.
    """
    wrong = (1 - 2 * coefficients) * used_squares + coefficients**2 * squares
    total = float(used_squares.sum())
    return float(wrong.sum()) / total if total else 0.0
