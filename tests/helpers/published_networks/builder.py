"""Write a network layer by layer as an ONNX graph whose weights take no memory."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

Pair = tuple[int, int]


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value


class Builder:
    """A graph in the making; every method adds nodes and returns the tensor that they write.

    Attributes:
        same: pads of a convolution or pooling that names none keep the size, as TensorFlow's ``SAME`` (else ``r // 2``).
    """

    def __init__(self, name: str, size: int, *, same: bool = False) -> None:
        self.name, self.same = name, same
        self.input = gs.Variable("data", np.float32, (1, 3, size, size))
        self.nodes: list[gs.Node] = []

    def node(self, op: str, inputs: Sequence[gs.Tensor], shape: Sequence[int], **attrs: object) -> gs.Variable:
        name = f"{op.lower()}_{len(self.nodes)}"
        output = gs.Variable(name, np.float32, tuple(shape))
        self.nodes.append(gs.Node(op, name, attrs=dict(attrs), inputs=list(inputs), outputs=[output]))
        return output

    def constant(self, *shape: int, dtype: type = np.float32) -> gs.Constant:
        """Zeros of this shape that share one element."""
        values = np.broadcast_to(np.zeros((), dtype), shape)
        return gs.Constant(f"constant_{len(self.nodes)}_{id(values)}", values)

    def conv(
        self, x: gs.Tensor, kernels: int, size: int | Pair = 1, stride: int = 1, *, pad: int | Pair | str | None = None,
        groups: int = 1, act: str | None = "Relu", bias: bool = True,
    ) -> gs.Variable:  # fmt: skip
        """A convolution, with its batch normalisation folded in, and an activation."""
        r, s = _pair(size)
        pads, (h, w) = self._window(x, (r, s), stride, pad)
        weights = self.constant(kernels, x.shape[1] // groups, r, s)
        inputs = [x, weights, self.constant(kernels)] if bias else [x, weights]
        window = {"kernel_shape": [r, s], "strides": [stride, stride], "pads": pads, "group": groups}
        return self.act(self.node("Conv", inputs, (1, kernels, h, w), **window), act)

    def depthwise(self, x: gs.Tensor, size: int = 3, stride: int = 1, act: str | None = "Relu") -> gs.Variable:
        return self.conv(x, x.shape[1], size, stride, groups=x.shape[1], act=act)

    def act(self, x: gs.Variable, kind: str | None) -> gs.Variable:
        """One of Relu, Sigmoid, swish, hard_swish, hard_sigmoid, gelu, relu6 (clipped), relu6_spelled; None for none."""
        if kind is None:
            return x
        if kind in ("Relu", "Sigmoid"):
            return self.node(kind, [x], x.shape)
        if kind == "swish":
            return self.node("Mul", [x, self.node("Sigmoid", [x], x.shape)], x.shape)
        if kind in ("hard_swish", "hard_sigmoid"):  # exported with operator set 13: Add, Clip, Div
            added = self.node("Add", [x, self.constant()], x.shape)
            clipped = self.node("Clip", [added, self.constant(), self.constant()], x.shape)
            shaped = clipped if kind == "hard_sigmoid" else self.node("Mul", [x, clipped], x.shape)
            return self.node("Div", [shaped, self.constant()], x.shape)
        if kind == "gelu":
            erf = self.node("Erf", [self.node("Div", [x, self.constant()], x.shape)], x.shape)
            product = self.node("Mul", [x, self.node("Add", [erf, self.constant()], x.shape)], x.shape)
            return self.node("Mul", [product, self.constant()], x.shape)
        if kind == "relu6":
            return self.node("Clip", [x, self.constant(), self.constant()], x.shape)
        if kind == "relu6_spelled":  # relu(x) - relu(x - 6), for parsers without Relu6
            above = self.node("Relu", [self.node("Sub", [x, self.constant()], x.shape)], x.shape)
            return self.node("Sub", [self.node("Relu", [x], x.shape), above], x.shape)
        raise ValueError(kind)

    def normalise(self, x: gs.Tensor, act: str | None = "Relu") -> gs.Variable:
        """A batch normalisation that no convolution takes in."""
        parameters = [self.constant(x.shape[1]) for _ in range(4)]
        return self.act(self.node("BatchNormalization", [x, *parameters], x.shape), act)

    def pool(
        self, x: gs.Tensor, size: int, stride: int = 1, kind: str = "MaxPool", pad: int | str | None = None
    ) -> gs.Variable:
        pads, (h, w) = self._window(x, (size, size), stride, pad)
        window = {"kernel_shape": [size, size], "strides": [stride, stride], "pads": pads}
        return self.node(kind, [x], (1, x.shape[1], h, w), **window)

    def global_pool(self, x: gs.Tensor) -> gs.Variable:
        return self.node("GlobalAveragePool", [x], (1, x.shape[1], 1, 1))

    def add(self, a: gs.Tensor, b: gs.Tensor, act: str | None = None) -> gs.Variable:
        return self.act(self.node("Add", [a, b], a.shape), act)

    def multiply(self, a: gs.Tensor, b: gs.Tensor) -> gs.Variable:
        return self.node("Mul", [a, b], a.shape)

    def scale(self, x: gs.Tensor) -> gs.Variable:
        """A product with one constant per channel."""
        return self.node("Mul", [x, self.constant(x.shape[1], 1, 1)], x.shape)

    def concat(self, *parts: gs.Tensor) -> gs.Variable:
        channels = sum(part.shape[1] for part in parts)
        return self.node("Concat", parts, (1, channels, *parts[0].shape[2:]), axis=1)

    def split(self, x: gs.Tensor, count: int) -> list[gs.Variable]:
        """Equal parts of the channels, as slices."""
        width = x.shape[1] // count
        starts = [self.constant(1, dtype=np.int64) for _ in range(3)]
        return [self.node("Slice", [x, *starts], (1, width, *x.shape[2:])) for _ in range(count)]

    def upsample(self, x: gs.Tensor, factor: int = 2) -> gs.Variable:
        h, w = x.shape[2] * factor, x.shape[3] * factor
        return self.node("Resize", [x], (1, x.shape[1], h, w), mode="nearest")

    def dense(self, x: gs.Tensor, outputs: int, act: str | None = None) -> gs.Variable:
        """A fully connected layer over everything, as Flatten and Gemm."""
        inputs = math.prod(x.shape)
        flat = x if len(x.shape) == 2 else self.node("Flatten", [x], (1, inputs))
        weights = [self.constant(outputs, inputs), self.constant(outputs)]
        return self.act(self.node("Gemm", [flat, *weights], (1, outputs), transB=1), act)

    def squeeze_excite(self, x: gs.Tensor, channels: int, act: str = "Relu", gate: str = "Sigmoid") -> gs.Variable:
        small = self.conv(self.global_pool(x), channels, act=act)
        return self.multiply(x, self.conv(small, x.shape[1], act=gate))

    def finish(self, *outputs: gs.Variable) -> gs.Graph:
        return gs.Graph(self.nodes, [self.input], list(outputs), name=self.name, opset=13)

    def _window(self, x: gs.Tensor, size: Pair, stride: int, pad: int | Pair | str | None) -> tuple[list[int], Pair]:
        height, width = x.shape[2:]
        if pad == "valid":
            pad = 0
        if pad is None and self.same:
            sizes = (math.ceil(height / stride), math.ceil(width / stride))
            totals = [
                max((out - 1) * stride + k - n, 0) for out, k, n in zip(sizes, size, (height, width), strict=True)
            ]
            return [totals[0] // 2, totals[1] // 2, totals[0] - totals[0] // 2, totals[1] - totals[1] // 2], sizes
        ph, pw = _pair(pad) if pad is not None and not isinstance(pad, str) else (size[0] // 2, size[1] // 2)
        sizes = ((height + 2 * ph - size[0]) // stride + 1, (width + 2 * pw - size[1]) // stride + 1)
        return [ph, pw, ph, pw], sizes
