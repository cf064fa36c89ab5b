"""Operators that keep the shape of their input, or broadcast two."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import onnx_graphsurgeon as gs
import torch
from torch import Tensor
from torch.nn import functional

from deploycc.trainable.table import Run, constant_of, refused, runs

_PLAIN: dict[str, Callable[..., Tensor]] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "And": torch.logical_and,
    "Ceil": torch.ceil,
    "Div": torch.div,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "GreaterOrEqual": torch.ge,
    "HardSwish": functional.hardswish,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "Mish": functional.mish,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "Pow": torch.pow,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Tanh": torch.tanh,
    "Where": torch.where,
}


@runs(*_PLAIN)
def plain(node: gs.Node) -> Run:
    """Operators that PyTorch has with the same meaning."""
    return _PLAIN[node.op]


@runs("Identity", "Dropout")
def unchanged(node: gs.Node) -> Run:
    """At inference, dropout changes nothing; nor does it here, where the teacher says what is right."""
    return lambda x, *rest: x


@runs("Max", "Min", "Sum")
def several(node: gs.Node) -> Run:
    """Operators on any number of tensors."""
    steps: dict[str, Callable[[Tensor, Tensor], Tensor]]
    steps = {"Max": torch.maximum, "Min": torch.minimum, "Sum": torch.add}
    return lambda *values: reduce(steps[node.op], values)


@runs("Clip")
def clip(node: gs.Node) -> Run:
    """Limits are constants, or attributes up to operator set 10."""
    low, high = constant_of(node, 1, "min"), constant_of(node, 2, "max")
    if low is None and high is None:
        return lambda x, *rest: x
    limits = (-math.inf if low is None else float(low), math.inf if high is None else float(high))

    def limited(x: Tensor, *_: Tensor) -> Tensor:
        if x.is_floating_point() and limits[0] < limits[1]:
            return functional.hardtanh(x, *limits)  # the backward pass of `torch.clamp` takes several times as long
        return torch.clamp(x, *limits)

    return limited


@runs("LeakyRelu", "Elu", "ThresholdedRelu")
def with_alpha(node: gs.Node) -> Run:
    """Activations with one parameter; ONNX's defaults."""
    alpha = float(node.attrs.get("alpha", 0.01 if node.op == "LeakyRelu" else 1.0))
    if node.op == "LeakyRelu":
        return lambda x: functional.leaky_relu(x, alpha)
    if node.op == "Elu":
        return lambda x: functional.elu(x, alpha)
    return lambda x: functional.threshold(x, alpha, 0.0)


@runs("Selu")
def selu(node: gs.Node) -> Run:
    """Not PyTorch's own: its two constants cannot be changed."""
    alpha = float(node.attrs.get("alpha", 1.67326319217681884765625))
    gamma = float(node.attrs.get("gamma", 1.05070102214813232421875))
    return lambda x: gamma * (torch.relu(x) + alpha * torch.expm1(-torch.relu(-x)))


@runs("PRelu")
def prelu(node: gs.Node) -> Run:
    """The slope broadcasts to the input."""
    return lambda x, slope: torch.relu(x) - slope * torch.relu(-x)


@runs("HardSigmoid")
def hard_sigmoid(node: gs.Node) -> Run:
    """Clip of ``alpha x + beta`` to 0..1."""
    alpha, beta = float(node.attrs.get("alpha", 0.2)), float(node.attrs.get("beta", 0.5))
    return lambda x: torch.clamp(alpha * x + beta, 0.0, 1.0)


@runs("Gelu")
def gelu(node: gs.Node) -> Run:
    """Exact, or with tanh."""
    how = node.attrs.get("approximate", "none")
    return lambda x: functional.gelu(x, approximate=how)


class _Step(torch.autograd.Function):
    """1 where ``a > b``. Backwards the gradient passes as if the step were ``a - b`` (straight-through)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        return (a > b).to(a.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.shapes = [value.shape for value in inputs]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        [gradient] = gradients
        return gradient.sum_to_size(ctx.shapes[0]), -gradient.sum_to_size(ctx.shapes[1])


@runs("Greater")
def greater(node: gs.Node) -> Run:
    """A number, not a truth value, so that what a gate decides has a gradient; every later use takes both alike."""
    return lambda a, b: _Step.apply(a, b) if a.dtype.is_floating_point else torch.gt(a, b)


@runs("Cast")
def cast(node: gs.Node) -> Run:
    """To floating point, tensors keep the precision that they are computed in."""
    kind = int(node.attrs["to"])
    if kind in (1, 10, 11, 16):  # FLOAT, FLOAT16, DOUBLE, BFLOAT16
        return lambda x: x if x.dtype.is_floating_point else x.to(torch.float32)
    types = {6: torch.int32, 7: torch.int64, 9: torch.bool, 2: torch.uint8, 3: torch.int8}
    if kind not in types:
        raise refused(node, f"it casts to type {kind}")
    return lambda x: x.to(types[kind])
