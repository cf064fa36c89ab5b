"""Muon (Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024), in a precision that is fast.

PyTorch's own computes in bfloat16 everywhere. A processor without units for it takes twenty times as long as in
float32, which is most processors: on them its steps took far longer than the whole network's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from deploycc.distillation.precision import fast_type

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the Newton-Schulz iteration that steepens most at 0 and ends between 0.7 and 1.2 (Jordan et al.)."""
_ITERATIONS = 5
_LIKE_ADAM = 0.2  # root mean square of Adam's steps (Liu et al., Muon is scalable for LLM training, 2025)


class Muon(torch.optim.Optimizer):
    """Steps along the momentum with all its singular values made equal.

    Args:
        groups: of matrices, with their learning rates ``lr``: the root mean square of a step's elements, times 5.
        momentum: of the gradients, as Nesterov's.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], momentum: float = 0.95) -> None:
        super().__init__(groups, {"lr": 0.0, "momentum": momentum})

    def step(self, closure: Any = None) -> Any:
        """Move all matrices that have a gradient; no closure is called."""
        with torch.no_grad():
            for group in self.param_groups:
                for matrix in group["params"]:
                    if matrix.grad is not None:
                        self._move(matrix, group["lr"], group["momentum"])

    def _move(self, matrix: Tensor, rate: float, momentum: float) -> None:
        gradient, state = matrix.grad, self.state[matrix]
        assert gradient is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        past = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        step = orthogonal(gradient.lerp(past, momentum))
        matrix.add_(step, alpha=-rate * _LIKE_ADAM * max(matrix.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """Return a matrix with the same singular vectors, whose singular values are all about 1."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(fast_type(matrix.device))
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)
