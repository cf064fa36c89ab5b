"""The optimiser: its steps are relative to each weight, because layers differ by orders of magnitude.

Hidden weights that mix channels may be trained by Muon (Jordan et al., Muon: an optimizer for hidden layers in neural
networks, 2024): it makes the singular values of a step equal, so that directions with a small gradient are not left
behind. Everything else is trained by Adam, as there: the predictors too, whose kernels have meanings of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import onnx_graphsurgeon as gs
import torch
from torch import nn

from deploycc.detector import Detector
from deploycc.distillation.muon import Muon
from deploycc.graph.split import split_heads
from deploycc.trainable.network import TrainableNetwork

_BETAS = (0.9, 0.99)
_MATRIX_STEP = 1.5
"""Of a matrix, relative to `rate`. Muon's elements have a root mean square of 0.2, as Adam's often have."""


class Optimiser:
    """Adam, and Muon for some weights.

    Args:
        network: that is trained; its parameters stay where they are in memory.
        rate: peak of a step's size, relative to the root mean square of a weight.
        matrices: names of the weights to train by Muon.
    """

    def __init__(self, network: TrainableNetwork, rate: float, matrices: Collection[str] = ()) -> None:
        adam, muon = [], []
        self._flat: list[tuple[nn.Parameter, nn.Parameter]] = []
        for name, weight in zip(network.names, network.weights, strict=True):
            scale = float(weight.detach().square().mean().sqrt())
            if name in matrices and scale > 0:
                flat = nn.Parameter(weight.detach().flatten(1))  # the same memory
                self._flat.append((weight, flat))
                muon.append(_group(flat, rate * scale * _MATRIX_STEP))
            else:
                adam.append(_group(weight, rate * scale))
        self._adam = torch.optim.Adam(adam or [_group(nn.Parameter(torch.zeros(0)), 0.0)], betas=_BETAS)
        self._muon = Muon(muon) if muon else None

    def add(self, parameters: Iterable[nn.Parameter], rate: float) -> None:
        """Train other parameters too, by Adam, with steps of this size at the peak."""
        self._adam.add_param_group({"params": list(parameters), "lr": rate, "peak": rate})

    def slow_down(self, factor: float) -> None:
        """Let steps be as large as this part of the peak."""
        for one in self._all:
            for group in one.param_groups:
                group["lr"] = group["peak"] * factor

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self._adam.zero_grad(set_to_none=True)
        for weight, _ in self._flat:
            weight.grad = None

    def step(self) -> None:
        """Move all parameters that have a gradient."""
        self._adam.step()
        if self._muon is not None:
            for weight, flat in self._flat:
                flat.grad = None if weight.grad is None else weight.grad.flatten(1)
            self._muon.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the state, for `load_state_dict`."""
        return {str(number): one.state_dict() for number, one in enumerate(self._all)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        for number, one in enumerate(self._all):
            one.load_state_dict(state[str(number)])

    @property
    def _all(self) -> list[torch.optim.Optimizer]:
        return [self._adam, *([] if self._muon is None else [self._muon])]


def hidden_matrices(detector: Detector) -> frozenset[str]:
    """Return the names of the weights of the back-end that mix all channels of what they read; depthwise ones do not.

    Args:
        detector: with SSD heads.
    """
    assert detector.heads is not None
    backend = set(split_heads(detector.graph, detector.heads.locations, detector.heads.scores).backend.nodes)
    return frozenset(name for node in detector.graph.nodes if node.name in backend for name in _mixing(node))


def _mixing(node: gs.Node) -> list[str]:
    plain = node.op in ("Gemm", "MatMul") or (node.op == "Conv" and int(node.attrs.get("group", 1)) == 1)
    return [tensor.name for tensor in node.inputs[:2] if plain and isinstance(tensor, gs.Constant)]


def _group(parameter: nn.Parameter, peak: float) -> dict[str, Any]:
    return {"params": [parameter], "lr": max(peak, 1e-11), "peak": peak}
