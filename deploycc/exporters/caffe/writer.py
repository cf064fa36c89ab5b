"""Collecting Caffe layers with their parameters and weights.

`Writer.node` refuses what `deploycc.parsers.caffe_layers` says that Caffe cannot express, so the functions that write a
node need not ask again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.errors import ModelError
from deploycc.exporters.caffe.caffemodel import LayerWeights
from deploycc.parsers import caffe_layers

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

    def __init__(self, outputs: Collection[str] = ()) -> None:
        """Start with nothing; ``outputs`` are blobs that must be written although no layer reads them."""
        self.outputs = frozenset(outputs)
        self.layers: list[dict[str, Any]] = []
        self.weights: list[LayerWeights] = []
        self._names: set[str] = set()

    def node(self, node: gs.Node) -> None:
        """Write one node.

        Raises:
            ModelError: ``caffe-cannot-express``: Caffe has no layer for the operator or for what the node states.
        """
        for limit in caffe_layers.limits(node):
            refuse(node, limit.reason)
        RULES[node.op](self, node)

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
    """Return the values of an input that the rules know to be constant."""
    values = constant(node, index)
    assert values is not None, (node.name, index)
    return values


def shape(tensor: gs.Tensor) -> tuple[int, ...]:
    """Return the static shape of a tensor."""
    return tuple(tensor.shape)


def symmetric_pads(node: gs.Node) -> tuple[int, int]:
    """Return (pad_h, pad_w) of a node that pads both sides alike."""
    top, left, _, _ = node.attrs.get("pads", [0, 0, 0, 0])
    return top, left
