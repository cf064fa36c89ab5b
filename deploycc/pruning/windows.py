"""Extract the input windows of a convolution at some output positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.graph.edit import constant_values, static_shape


@dataclass(frozen=True)
class Windows:
    """The windows of a two-dimensional convolution.

    Attributes:
        tensor: name of the input.
        groups: number of groups of the convolution.
        kernel, strides, dilations: rows, columns.
        pads: top, left, bottom, right.
        width: columns of the output.
    """

    tensor: str
    groups: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    width: int

    @classmethod
    def of(cls, node: gs.Node) -> Windows | str:
        """Return the windows of a node, or the reason why it cannot be refitted."""
        if node.op != "Conv":
            return f"only Conv is refitted, not {node.op}"
        weight, result = constant_values(node.inputs[1]), static_shape(node.outputs[0])
        if weight is None or weight.ndim != 4 or result is None:
            return "it is not a two-dimensional convolution with constant weights and a fixed shape"
        if node.attrs.get("auto_pad", "NOTSET") != "NOTSET":
            return f"its padding is {node.attrs['auto_pad']}, not given in pixels"
        if len(node.inputs) > 2 and not node.inputs[2].is_empty() and constant_values(node.inputs[2]) is None:
            return "its bias is not constant"
        rows, columns = weight.shape[2:]
        top, left, bottom, right = node.attrs.get("pads", (0, 0, 0, 0))
        strides, dilations = node.attrs.get("strides", (1, 1)), node.attrs.get("dilations", (1, 1))
        return cls(
            tensor=node.inputs[0].name,
            groups=int(node.attrs.get("group", 1)),
            kernel=(rows, columns),
            strides=(int(strides[0]), int(strides[1])),
            dilations=(int(dilations[0]), int(dilations[1])),
            pads=(top, left, bottom, right),
            width=result[3],
        )

    def at(self, values: NDArray[np.float32], positions: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the input values read at output positions, in the order of a kernel's weights.

        Args:
            values: of `tensor`, [1, channels, height, width].
            positions: row times `width` plus column.

        Returns:
            [groups, positions, channels of a group * kernel rows * kernel columns].
        """
        top, left, bottom, right = self.pads
        padded = np.pad(values[0], ((0, 0), (top, bottom), (left, right)))
        row, column = np.divmod(positions, self.width)
        rows = (row * self.strides[0])[:, None] + np.arange(self.kernel[0]) * self.dilations[0]
        columns = (column * self.strides[1])[:, None] + np.arange(self.kernel[1]) * self.dilations[1]
        windows = padded[:, rows[:, :, None], columns[:, None, :]]  # [channels, positions, rows, columns]
        grouped = windows.reshape(self.groups, -1, *windows.shape[1:])
        return grouped.transpose(0, 2, 1, 3, 4).reshape(self.groups, len(positions), -1).astype(np.float64)
