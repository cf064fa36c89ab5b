"""Tracing every box offset and class score of an SSD to the predictor kernel that computes it.

The predictors are the last convolutions. Between them and the heads, numbers are only moved, concatenated and
activated, and are followed one by one; anything else is refused.
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


class Untraceable(Exception):  # noqa: N818 - not an error of the user: the caller leaves the network as it is
    """A head is not made of moved and activated convolutions.

    Attributes:
        node: name of the node where tracing stopped.
        reason: why it stopped.
    """

    def __init__(self, node: str, reason: str) -> None:
        super().__init__(reason)
        self.node, self.reason = node, reason


@dataclass(frozen=True, eq=False)
class Predictor:
    """One predictor of a head.

    Attributes:
        node: the Conv; its weights and bias are constants.
        shape: channels, rows and columns of its output.
        first_element, first_channel: index of its first element and channel, counted over all predictors of the head.
    """

    node: gs.Node
    shape: tuple[int, int, int]
    first_element: int
    first_channel: int


@dataclass(frozen=True, eq=False)
class HeadTrace:
    """The origin of every number of one head.

    Attributes:
        head: its name.
        predictors: in the order in which the head first meets them.
        nodes: everything between the predictors and the head, writers before readers.
        elements: for each variable from the predictors' outputs to the head, by name, an array of its shape: the
            element of the predictors' outputs, counted over all of them, that each number comes from.
        channels: [head's shape] likewise the channel, counted over all predictors.
        values: [head's shape] the number itself if its kernel is all zeros, so that no picture changes it; else NaN.
    """

    head: str
    predictors: tuple[Predictor, ...]
    nodes: tuple[gs.Node, ...]
    elements: Mapping[str, Array]
    channels: Array
    values: Array


def trace_head(head: gs.Tensor) -> HeadTrace:
    """Trace a head back to its predictors. Shapes are static, batch 1.

    Raises:
        Untraceable: a node between them does more than move or activate numbers.
    """
    tracer = _Tracer()
    elements, values = tracer.follow(head)
    first_element = np.array([predictor.first_element for predictor in tracer.predictors])
    area = np.array([predictor.shape[1] * predictor.shape[2] for predictor in tracer.predictors])
    first_channel = np.array([predictor.first_channel for predictor in tracer.predictors])
    which = np.searchsorted(first_element, elements, side="right") - 1
    channels = first_channel[which] + (elements - first_element[which]) // area[which]
    return HeadTrace(
        head=str(head.name),
        predictors=tuple(tracer.predictors),
        nodes=tuple(tracer.nodes),
        elements={name: origins for name, (origins, _) in tracer.traced.items()},
        channels=channels,
        values=values,
    )


class _Tracer:
    """Walks from a head back to its predictors; ``traced`` holds (elements, values) by tensor."""

    def __init__(self) -> None:
        self.predictors: list[Predictor] = []
        self.nodes: list[gs.Node] = []
        self.traced: dict[str, tuple[Array, Array]] = {}
        self._elements = self._channels = 0

    def follow(self, tensor: gs.Tensor) -> tuple[Array, Array]:
        if tensor.name not in self.traced:
            node, shape = producer(tensor), static_shape(tensor)
            if node is None:
                raise Untraceable(str(tensor.name), f"{tensor.name} does not come from a convolution")
            if shape is None:
                raise Untraceable(str(node.name), f"the shape of {tensor.name} is not static")
            if node.op == "Conv":
                self.traced[tensor.name] = self._predictor(node, shape)
            else:
                self.traced[tensor.name] = self._through(node, shape)
                self.nodes.append(node)
        return self.traced[tensor.name]

    def _predictor(self, node: gs.Node, shape: tuple[int, ...]) -> tuple[Array, Array]:
        weight = constant_values(node.inputs[1])
        has_bias = len(node.inputs) > 2 and not node.inputs[2].is_empty()
        bias = constant_values(node.inputs[2]) if has_bias else np.zeros(1)
        if weight is None or bias is None:
            raise Untraceable(str(node.name), "its weights are computed")
        if len(shape) != 4 or shape[0] != 1:
            raise Untraceable(str(node.name), f"its output {list(shape)} is not the map of one picture")
        size = int(np.prod(shape))
        self.predictors.append(Predictor(node, (shape[1], shape[2], shape[3]), self._elements, self._channels))
        elements = np.arange(self._elements, self._elements + size, dtype=np.int64).reshape(shape)
        self._elements, self._channels = self._elements + size, self._channels + shape[1]
        held = np.where(weight.reshape(shape[1], -1).any(axis=1), np.nan, bias.astype(np.float64))
        return elements, np.broadcast_to(held[:, None, None], shape)

    def _through(self, node: gs.Node, shape: tuple[int, ...]) -> tuple[Array, Array]:
        if node.domain not in (None, "", "ai.onnx") or node.op not in _MOVES + _ACTIVATIONS:
            raise Untraceable(str(node.name), f"{node.op} lies between the predictors and the head")
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
        if elements.size != np.prod(shape):
            raise Untraceable(str(node.name), f"its output {list(shape)} does not hold the values of its input")
        return elements.reshape(shape), values.reshape(shape)


def softmax_axis(node: gs.Node, rank: int) -> int:
    """Return the axis over which a Softmax sums.

    Raises:
        Untraceable: it sums over several, as a Softmax of an operator set before 13 may.
    """
    axis = int(node.attrs.get("axis", -1)) % rank
    shape = static_shape(node.outputs[0]) or ()
    if any(size != 1 for size in shape[axis + 1 :]):
        raise Untraceable(str(node.name), f"its axis {axis} is not the last")
    return axis


def _activate(node: gs.Node, values: Array) -> Array:
    """Apply an activation; a number that varies (NaN) makes every sum that contains it NaN."""
    with np.errstate(over="ignore"):
        if node.op == "Sigmoid":
            return np.asarray(1.0 / (1.0 + np.exp(-values)))
        axis = softmax_axis(node, values.ndim)
        powers = np.exp(values - values.max(axis=axis, keepdims=True))
        return np.asarray(powers / powers.sum(axis=axis, keepdims=True))
