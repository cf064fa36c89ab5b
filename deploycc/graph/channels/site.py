"""What a channel rule sees of a node, and what it may say: the vocabulary of the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import onnx_graphsurgeon as gs
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Channels:
    """One value for each index of one axis: a label, or whatever else moves with the channels.

    Attributes:
        axis: of the tensor.
        values: [shape[axis]].
    """

    axis: int
    values: Array


class Site(Protocol):
    """One node, as a rule sees it. Shapes are static."""

    node: gs.Node
    opset: int

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of an operand."""

    def output_shape(self, index: int = 0) -> tuple[int, ...]:
        """Shape of a result."""

    def channels(self, index: int) -> Channels | None:
        """Channels of an operand; None for constants, missing operands, and variables without channels."""

    def write(self, axis: int, values: Array, index: int = 0) -> None:
        """Say which channels a result has."""

    def fresh(self, count: int) -> Array:
        """Labels of new channels."""

    def fixed(self, count: int, reason: str) -> Array:
        """Labels of new channels that can never go."""

    def copies(self, values: Array) -> Array:
        """New channels that hold what these hold."""

    def common(self, several: Sequence[Array]) -> Array:
        """What united channels have in common."""

    def unite(self, one: Array, other: Array) -> None:
        """These go together, pair by pair."""

    def pin(self, values: Array, code: str, reason: str) -> None:
        """These must stay."""

    def operand(self, index: int, axis: int, values: Array) -> None:
        """An axis of a constant operand has these channels."""

    def read(self, index: int) -> None:
        """The channels of this operand end here: the node adds them up, so that a zero channel adds nothing."""

    def kernels(self, values: Array) -> None:
        """The node is a layer, and these are the channels its kernels make."""

    def collapse(self, axes: Array) -> tuple[int, Array] | None:
        """Bring channels that were laid out over all axes back to one; None where they vary along none.

        Args:
            axes: an array that broadcasts to the result's shape.
        """


Rule = Callable[[Site], None]


def laid_out(shape: Sequence[int], channels: Channels) -> Array:
    """Channels as an array that broadcasts to ``shape``."""
    return channels.values.reshape([-1 if axis == channels.axis else 1 for axis in range(len(shape))])
