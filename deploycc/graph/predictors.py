"""Which predictor kernel every box offset and every class score of an SSD comes from.

The predictors are the last convolutions. Between them and the heads numbers are only moved, joined and activated, which
is followed number by number; anything else is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.graph.edit import constant_values, producer, static_shape

Array = NDArray[Any]

_MOVES = ("Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Concat")
_ACTIVATIONS = ("Sigmoid", "Softmax")


class Untraceable(Exception):  # noqa: N818 - no fault of anybody: the caller leaves the network as it is
    """A head is not made of moved and activated convolutions.

    Attributes:
        node: name of the node where the way ends.
        reason: why.
    """

    def __init__(self, node: str, reason: str) -> None:
        super().__init__(reason)
        self.node, self.reason = node, reason


@dataclass(frozen=True, eq=False)
class Predictor:
    """One convolution at the end of the way.

    Attributes:
        node: the Conv; its weights and bias are constants.
        shape: channels, rows and columns of what it writes.
        first_element, first_channel: its numbers among all predictors of the head.
    """

    node: gs.Node
    shape: tuple[int, int, int]
    first_element: int
    first_channel: int


@dataclass(frozen=True, eq=False)
class HeadTrace:
    """Where the numbers of one head come from.

    Attributes:
        head: its name.
        predictors: in the order in which the head first meets them.
        nodes: everything between the predictors and the head, writers before readers.
        elements: for each variable from the predictors' outputs to the head, by name, an array of its shape: the
            element of the predictors' outputs, counted over all of them, that each number comes from.
        channels: [head's shape] likewise the channel, counted over all predictors.
        values: [head's shape] the number itself where no picture changes it, because its kernel is all zero; else NaN.
    """

    head: str
    predictors: tuple[Predictor, ...]
    nodes: tuple[gs.Node, ...]
    elements: Mapping[str, Array]
    channels: Array
    values: Array


def trace_head(head: gs.Tensor) -> HeadTrace:
    """Follow a head back to its predictors. Shapes are static, batch 1.

    Raises:
        Untraceable: something stands between that does more than move or activate numbers.
    """
    way = _Way()
    elements, values = way.follow(head)
    each = np.array([one.first_element for one in way.predictors])
    which = np.searchsorted(each, elements, side="right") - 1
    area = np.array([one.shape[1] * one.shape[2] for one in way.predictors])
    first = np.array([one.first_channel for one in way.predictors])
    channels = first[which] + (elements - each[which]) // area[which]
    return HeadTrace(
        head=str(head.name),
        predictors=tuple(way.predictors),
        nodes=tuple(way.nodes),
        elements={name: found[0] for name, found in way.found.items()},
        channels=channels,
        values=values,
    )


class _Way:
    """The walk back; ``found`` holds (elements, values) for each tensor."""

    def __init__(self) -> None:
        self.predictors: list[Predictor] = []
        self.nodes: list[gs.Node] = []
        self.found: dict[str, tuple[Array, Array]] = {}
        self._elements = self._channels = 0

    def follow(self, tensor: gs.Tensor) -> tuple[Array, Array]:
        if tensor.name not in self.found:
            node, shape = producer(tensor), static_shape(tensor)
            if node is None:
                raise Untraceable(str(tensor.name), f"{tensor.name} is written by no convolution")
            if shape is None:
                raise Untraceable(str(node.name), f"the shape of {tensor.name} is not static")
            if node.op == "Conv":
                self.found[tensor.name] = self._predictor(node, shape)
            else:
                self.found[tensor.name] = self._through(node, shape)
                self.nodes.append(node)
        return self.found[tensor.name]

    def _predictor(self, node: gs.Node, shape: tuple[int, ...]) -> tuple[Array, Array]:
        weight = constant_values(node.inputs[1])
        has_bias = len(node.inputs) > 2 and not node.inputs[2].is_empty()
        bias = constant_values(node.inputs[2]) if has_bias else np.zeros(1)
        if weight is None or bias is None:
            raise Untraceable(str(node.name), "its weights are computed")
        if len(shape) != 4 or shape[0] != 1:
            raise Untraceable(str(node.name), f"it writes {list(shape)}, no map of one picture")
        size = int(np.prod(shape))
        self.predictors.append(Predictor(node, (shape[1], shape[2], shape[3]), self._elements, self._channels))
        elements = np.arange(self._elements, self._elements + size, dtype=np.int64).reshape(shape)
        self._elements, self._channels = self._elements + size, self._channels + shape[1]
        held = np.where(weight.reshape(shape[1], -1).any(axis=1), np.nan, bias.astype(np.float64))
        return elements, np.broadcast_to(held[:, None, None], shape)

    def _through(self, node: gs.Node, shape: tuple[int, ...]) -> tuple[Array, Array]:
        if node.domain not in (None, "", "ai.onnx") or node.op not in _MOVES + _ACTIVATIONS:
            raise Untraceable(str(node.name), f"{node.op} stands between the predictors and the head")
        sources = [self.follow(tensor) for tensor in (node.inputs if node.op == "Concat" else node.inputs[:1])]
        if node.op == "Concat":
            axis = int(node.attrs["axis"])
            return np.concatenate([e for e, _ in sources], axis), np.concatenate([v for _, v in sources], axis)
        elements, values = sources[0]
        if node.op == "Transpose":
            perm = node.attrs.get("perm")
            return elements.transpose(perm), values.transpose(perm)
        if node.op in _ACTIVATIONS:
            return elements, _activate(node, values)
        return elements.reshape(shape), values.reshape(shape)


def softmax_axis(node: gs.Node, rank: int) -> int:
    """The one axis that a Softmax adds up over.

    Raises:
        Untraceable: it adds up over several, as those of operator sets before 13 may.
    """
    axis = int(node.attrs.get("axis", -1)) % rank
    shape = static_shape(node.outputs[0]) or ()
    if any(size != 1 for size in shape[axis + 1 :]):
        raise Untraceable(str(node.name), f"its axis {axis} is not the last")
    return axis


def _activate(node: gs.Node, values: Array) -> Array:
    """NaN, where a number varies, makes everything NaN that it is added to."""
    with np.errstate(over="ignore"):
        if node.op == "Sigmoid":
            return np.asarray(1.0 / (1.0 + np.exp(-values)))
        axis = softmax_axis(node, values.ndim)
        powers = np.exp(values - values.max(axis=axis, keepdims=True))
        return np.asarray(powers / powers.sum(axis=axis, keepdims=True))
