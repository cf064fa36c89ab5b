"""The interface through which channel rules read and describe a node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import onnx_graphsurgeon as gs
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Channels:
    """One value per index of one axis: a label, or anything else that moves with the channels.

    Attributes:
        axis: of the tensor.
        values: [shape[axis]].
    """

    axis: int
    values: Array


class Site(Protocol):
    """One node, as a rule sees it; all shapes are static."""

    node: gs.Node
    opset: int

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of an operand."""

    def output_shape(self, index: int = 0) -> tuple[int, ...]:
        """Return the shape of a result."""

    def channels(self, index: int) -> Channels | None:
        """Return the channels of an operand; None for constants, missing operands and variables without channels."""

    def write(self, axis: int, values: Array, index: int = 0) -> None:
        """Set the channels of a result."""

    def fresh(self, count: int) -> Array:
        """Make new channels."""

    def fixed(self, count: int, reason: str) -> Array:
        """Make new channels that can never be removed."""

    def copies(self, values: Array) -> Array:
        """Make new channels with the contents of these."""

    def common(self, united: Sequence[Array]) -> Array:
        """Return the values that arrays of united channels have in common."""

    def unite(self, left: Array, right: Array) -> None:
        """Put channels into the same group, element by element."""

    def pin(self, values: Array, code: str, reason: str) -> None:
        """Keep these channels, with the reason."""

    def operand(self, index: int, axis: int, values: Array) -> None:
        """Declare that an axis of a constant operand has these channels."""

    def read(self, index: int) -> None:
        """Declare that the node sums over the channels of this operand, so a zero channel adds nothing."""

    def kernels(self, values: Array) -> None:
        """Declare the node a layer whose kernels make these channels."""

    def collapse(self, axes: Array) -> tuple[int, Array] | None:
        """Reduce channels that were spread over all axes to one axis.

        Args:
            axes: an array that broadcasts to the result's shape.

        Returns:
            The axis and its channels; None if they do not vary along any axis.
        """


Rule = Callable[[Site], None]


def spread(shape: Sequence[int], channels: Channels) -> Array:
    """Return the channels as an array that broadcasts to ``shape``."""
    return channels.values.reshape([-1 if axis == channels.axis else 1 for axis in range(len(shape))])
