"""Estimate how large the values in a network with random weights are, without running it.

A kernel drawn with variance 1 / (fan_in E[x^2]) gives values of mean square 1, whatever its input (He et al., "Delving
Deep into Rectifiers", 2015, equation 5). Their factor of 2 for rectified inputs is wrong for inputs that are not
rectified, or are sums: values then double with every block of a residual network, and with every layer of a linear
bottleneck. So E[x^2] is propagated from node to node.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

PICTURE = 64.0
"""Root mean square of a picture's values, 0..255 less a mean."""

_NORMALISED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization"})
_RECTIFIED = frozenset({"Relu", "Clip", "PRelu", "LeakyRelu", "Elu"})  # keep half of the values and of the mean square
_MOVED = frozenset(
    {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Identity", "Neg", "Abs", "Pad"}
    | {"Dropout", "Resize", "AveragePool", "GlobalAveragePool", "LRN", "ReduceMean"}
)
_MAX_POOL_GAIN = 1.5  # neighbours are correlated, so far less than for independent values


class Magnitudes:
    """Expected mean square of every tensor, for activations of mean square about 1.

    Args:
        picture: the network's input.
    """

    def __init__(self, picture: gs.Tensor) -> None:
        self._squares = {id(picture): PICTURE**2}
        self._kept = [picture]  # an id is unique only while its tensor is alive

    def rms(self, tensor: gs.Tensor) -> float:
        """Return the root mean square of a tensor's values, or 1 if it is unknown."""
        return math.sqrt(self._square(tensor))

    def follow(self, node: gs.Node) -> None:
        """Estimate the outputs of a node, whose inputs have been estimated before."""
        square = self._output(node)
        for output in node.outputs:
            self._squares[id(output)] = square
            self._kept.append(output)

    def _square(self, tensor: gs.Tensor) -> float:
        if isinstance(tensor, gs.Constant) and np.issubdtype(tensor.values.dtype, np.floating) and tensor.values.size:
            return float(np.mean(np.square(tensor.values, dtype=np.float64)))
        return self._squares.get(id(tensor), 1.0)

    def _output(self, node: gs.Node) -> float:
        if node.op in _NORMALISED or not node.inputs:
            return 1.0
        read = [self._square(tensor) for tensor in node.inputs]
        if node.op in _MOVED:
            return read[0]
        if node.op in _RECTIFIED:
            return read[0] / 2
        if node.op == "MaxPool":
            return read[0] * _MAX_POOL_GAIN
        if node.op in ("Add", "Sub", "Sum"):
            return sum(read)
        if node.op == "Mul":
            return math.prod(read)
        if node.op == "Div":
            return read[0] / max(read[1], 1e-12)
        if node.op == "Sqrt":
            return math.sqrt(read[0])
        if node.op == "ReduceSumSquare":
            summands: float = math.prod(node.inputs[0].shape) / max(1, math.prod(node.outputs[0].shape))
            return (read[0] * summands) ** 2
        if node.op == "Concat":
            sizes = [int(math.prod(tensor.shape)) for tensor in node.inputs]
            return sum(square * size for square, size in zip(read, sizes, strict=True)) / max(1, sum(sizes))
        return 1.0
