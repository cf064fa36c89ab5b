"""Least squares from moments: the change of a linear layer's weights that changes its response by a given amount.

A fit only needs the second moments of its samples, so memory does not grow with their number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class NormalEquations:
    """Moments of inputs x and residuals r for ``min ||D x + t - r||^2`` over many samples, in groups.

    A convolution with g groups is g problems of the same size. A one is appended to each x for the shift t.

    Attributes:
        samples: number of samples added.
        energy: sum of r^2 over the samples, [groups, outputs]: the error without a change.
    """

    def __init__(self, groups: int, inputs: int, outputs: int) -> None:
        """Start without samples; ``inputs`` and ``outputs`` are counted per group."""
        self.samples = 0
        self.energy = np.zeros((groups, outputs))
        self._inputs = np.zeros((groups, inputs + 1, inputs + 1))
        self._products = np.zeros((groups, inputs + 1, outputs))

    def add(self, inputs: Array, residuals: Array) -> None:
        """Add samples.

        Args:
            inputs: [groups, samples, inputs].
            residuals: [groups, samples, outputs], by which the response should change.
        """
        ones = np.ones((*inputs.shape[:2], 1))
        extended = np.concatenate([inputs, ones], axis=2)
        self._inputs += extended.transpose(0, 2, 1) @ extended
        self._products += extended.transpose(0, 2, 1) @ residuals
        self.energy += np.einsum("gso,gso->go", residuals, residuals)
        self.samples += inputs.shape[1]

    def solve(self, ridge: float) -> Array:
        """Return the change of weights and shift that minimises error plus penalty, [groups, inputs + 1, outputs].

        ``min ||D x + t - r||^2 + ridge * sum_j D_j^2 sum x_j^2``: the penalty of a change is proportional to its effect
        on the response, whatever the scale of its input; the shift has no penalty. No change costs `energy`, so the
        error of the solution on these samples never exceeds it, for any output. A group whose inputs are all zero keeps
        its constant: it may get inputs later.

        Args:
            ridge: relative, more than 0.
        """
        moments = np.diagonal(self._inputs, axis1=1, axis2=2).copy()
        reads = np.asarray(moments[:, :-1].any(axis=1))
        moments[moments <= 0] = 1.0  # an input that is always zero appears in no equation: its weights stay
        penalty = np.full(moments.shape[1], ridge)
        penalty[-1] = 0.0
        scale = 1.0 / np.sqrt(moments * (1.0 + penalty))
        system = self._inputs * scale[:, :, None] * scale[:, None, :]
        diagonal = np.arange(system.shape[1])
        system[:, diagonal, diagonal] = 1.0  # (moment + penalty * moment) * scale^2
        solution = scale[:, :, None] * np.linalg.solve(system, scale[:, :, None] * self._products)
        return np.where(reads[:, None, None], solution, 0.0)

    def error(self, change: Array) -> Array:
        """Return the squared error after a change, [groups, outputs].

        ``||D x - r||^2 = r'r - 2 D'(x r) + D'(x x')D``
        """
        gain = np.einsum("gio,gio->go", change, self._inputs @ change - 2 * self._products)
        error: Array = np.maximum(0.0, self.energy + gain)
        return error
