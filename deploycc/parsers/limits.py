"""Limits of a parser, and reading what rules ask of a node: its constants, ranks and shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray


@dataclass(frozen=True)
class Limit:
    """One thing that a parser does not accept.

    Attributes:
        reason: a sentence whose subject is the node.
        first_release: the first release without this limit; None if the newest still has it.
        source: the document or source file that states it; empty: the one that its group of rules comes from.
    """

    reason: str
    first_release: str | None = None
    source: str = ""


def constant(node: gs.Node, index: int) -> NDArray[np.generic] | None:
    """Return the values of an input; None if it is absent or computed."""
    tensor = operand(node, index)
    if isinstance(tensor, gs.Variable) and tensor.inputs and tensor.inputs[0].op == "Constant":
        tensor = tensor.inputs[0].attrs.get("value")
    return np.asarray(tensor.values) if isinstance(tensor, gs.Constant) else None


def operand(node: gs.Node, index: int) -> gs.Tensor | None:
    """Return an input tensor; None if it is absent."""
    if index >= len(node.inputs) or node.inputs[index].is_empty():
        return None
    return node.inputs[index]


def computed(node: gs.Node, index: int) -> bool:
    """Return whether an input is present and not constant."""
    return operand(node, index) is not None and constant(node, index) is None


def rank(node: gs.Node, index: int = 0) -> int | None:
    """Return the rank of an input; None if unknown."""
    tensor = operand(node, index)
    return None if tensor is None or tensor.shape is None else len(tensor.shape)


def shape_of(tensor: gs.Tensor | None) -> tuple[int, ...] | None:
    """Return a static shape; None if the tensor is absent or a dimension is unknown."""
    if tensor is None or tensor.shape is None or not all(isinstance(dim, int) for dim in tensor.shape):
        return None
    return tuple(tensor.shape)
