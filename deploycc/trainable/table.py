"""The table of operators: from an ONNX node to a function on PyTorch tensors.

An operator is a function that reads a node's attributes and constant inputs once and returns what runs it. Tensors have
batch 1, as in the graph: `TrainableNetwork` maps the network over the pictures of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.errors import ModelError

Run = Callable[..., Any]
"""Takes the node's inputs as tensors (None for one that is left out); returns a tensor, or a tuple of several."""

OPERATORS: dict[str, Callable[[gs.Node], Run]] = {}


def runs(*names: str) -> Callable[[Callable[[gs.Node], Run]], Callable[[gs.Node], Run]]:
    """Enter a function into `OPERATORS` under the names of operators."""

    def enter(make: Callable[[gs.Node], Run]) -> Callable[[gs.Node], Run]:
        for name in names:
            assert name not in OPERATORS
            OPERATORS[name] = make
        return make

    return enter


def refused(node: gs.Node, what: str) -> ModelError:
    """An error for a node that PyTorch cannot run here."""
    return ModelError(
        "training-operator",
        f"{node.op} cannot be trained: {what}",
        context={"node": node.name},
        hint="cut the network before this node, or leave its part out of training",
    )


def constant_of(node: gs.Node, index: int, attribute: str | None = None) -> np.ndarray[Any, Any] | None:
    """A constant input, or what older operator sets have as an attribute in its place; None where there is neither.

    Raises:
        ModelError: ``training-operator``: it is computed by the network.
    """
    if index < len(node.inputs) and not node.inputs[index].is_empty():
        tensor = node.inputs[index]
        if not isinstance(tensor, gs.Constant):
            raise refused(node, f"input {index} is computed by the network")
        return np.asarray(tensor.values)
    if attribute is not None and node.attrs.get(attribute) is not None:
        return np.asarray(node.attrs[attribute])
    return None


def numbers_of(node: gs.Node, index: int, attribute: str | None = None) -> list[int] | None:
    """As `constant_of`, as a list of integers."""
    values = constant_of(node, index, attribute)
    return None if values is None else [int(value) for value in values.reshape(-1)]


def shape_of(node: gs.Node, tensor: Any) -> list[int]:
    """The static shape of a tensor of the node.

    Raises:
        ModelError: ``training-operator``: it is not known.
    """
    shape = list(tensor.shape or ())
    if not shape or not all(isinstance(size, int) for size in shape):
        raise refused(node, f"the shape of {tensor.name} is not known")
    return shape
