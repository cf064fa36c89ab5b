"""Collecting Caffe layers with their parameters and weights, and refusing nodes that Caffe cannot express."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.errors import ModelError
from deploycc.exporters.caffe.caffemodel import LayerWeights

Rule = Callable[["Writer", gs.Node], None]
RULES: dict[str, Rule] = {}


def writes(*ops: str) -> Callable[[Rule], Rule]:
    """Register a function that writes nodes of these ONNX operators."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(ops, rule))
        return rule

    return register


class Writer:
    """The network under construction."""

    def __init__(self) -> None:
        self.layers: list[dict[str, Any]] = []
        self.weights: list[LayerWeights] = []
        self._names: set[str] = set()

    def node(self, node: gs.Node) -> None:
        """Write one node.

        Raises:
            ModelError: ``caffe-cannot-express``: Caffe has no layer for the operator or for what the node states.
        """
        rule = RULES.get(node.op)
        if rule is None:
            refuse(node, f"Caffe has no layer for the operator {node.op}")
        rule(self, node)

    def layer(
        self,
        name: str,
        type_: str,
        bottoms: Sequence[str],
        tops: Sequence[str],
        parameters: Mapping[str, Mapping[str, Any]] | None = None,
        blobs: Sequence[NDArray[np.float32]] = (),
    ) -> None:
        """Append a layer; a name in use gets a number."""
        unique, number = name, 1
        while unique in self._names:
            number += 1
            unique = f"{name}_{number}"
        self._names.add(unique)
        self.layers.append(
            {"name": unique, "type": type_, "bottom": list(bottoms), "top": list(tops), **(parameters or {})}
        )
        if blobs:
            self.weights.append(LayerWeights(unique, type_, bottoms, tops, blobs))


def refuse(node: gs.Node, reason: str) -> NoReturn:
    """Stop the export at a node."""
    raise ModelError(
        "caffe-cannot-express",
        f"the network cannot be written as Caffe: {reason}",
        context={"node": node.name, "operator": node.op},
        hint="`deploycc inspect MODEL` lists the targets that read the network as ONNX",
    )


def constant(node: gs.Node, index: int) -> NDArray[Any] | None:
    """Return an input's values; None if it is absent or computed."""
    if index >= len(node.inputs) or not isinstance(node.inputs[index], gs.Constant):
        return None
    return np.asarray(node.inputs[index].values)


def required(node: gs.Node, index: int) -> NDArray[Any]:
    """Return an input's values; refuse if they are computed."""
    values = constant(node, index)
    if values is None:
        refuse(node, f"input {index} is computed; Caffe takes it as a parameter")
    return values


def shape(node: gs.Node, tensor: gs.Tensor) -> tuple[int, ...]:
    """Return a static shape; refuse if it is unknown."""
    dims = tensor.shape
    if dims is None or not all(isinstance(dim, int) for dim in dims):
        refuse(node, f"the shape of {tensor.name} is not known")
    return tuple(dims)


def symmetric_pads(node: gs.Node) -> tuple[int, int]:
    """Return (pad_h, pad_w); refuse padding that differs between the sides."""
    if node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        refuse(node, "auto_pad is not resolved")
    top, left, bottom, right = node.attrs.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        refuse(node, f"padding {[top, left, bottom, right]} differs between the sides; Caffe pads both alike")
    return top, left
