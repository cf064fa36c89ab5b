"""Random small networks of linear and affine layers, for the tests of folding and precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray


@dataclass(frozen=True)
class Layer:
    """One layer; fields that its kind does not use are ignored.

    Attributes:
        kind: Conv, ConvTranspose, bn, mul, scale, add, shift, sub, mirror, div, neg, relu.
        out: output channels, 2 or 4.
        groups: 1, 2 or 4, reduced until both channel counts divide.
        kernel, pad: of a convolution.
        bias: whether it has one.
        share: whether it takes the weight constant of an earlier layer of the same shape.
        tap: whether its output also is an output of the network.
    """

    kind: str
    out: int = 2
    groups: int = 1
    kernel: int = 1
    pad: int = 0
    bias: bool = True
    share: bool = False
    tap: bool = False


@dataclass(frozen=True)
class Stack:
    """A network: layers one after another, then perhaps a matrix product with an affine around it."""

    layers: tuple[Layer, ...]
    matrix: str
    """Empty, or which of ``alpha beta transB before after`` the final Gemm has, space-separated."""
    seed: int

    def build(self) -> gs.Graph:
        """The graph; input x [1, 4, 6, 6]."""
        return _Builder(self).graph


class _Builder:
    def __init__(self, stack: Stack) -> None:
        self.random = np.random.default_rng(stack.seed)
        self.x = gs.Variable("x", np.float32, [1, 4, 6, 6])
        self.graph = gs.Graph(inputs=[self.x], name="stack", opset=13, ir_version=8)
        self.shared: dict[tuple[str, tuple[int, ...]], gs.Constant] = {}
        taps = []
        tensor = self.x
        for layer in stack.layers:
            tensor = self.layer(layer, tensor)
            if layer.tap:
                taps.append(tensor)
        if stack.matrix:
            tensor = self.matrix(stack.matrix.split(), tensor)
        if tensor is self.x:
            tensor = self.node("Relu", [tensor], tensor.shape)
        self.graph.outputs = [tensor, *(tap for tap in taps if tap is not tensor)]

    def node(self, op: str, inputs: list[gs.Tensor], shape: list[int], **attrs: Any) -> gs.Variable:
        name = f"n{len(self.graph.nodes)}"
        result = gs.Variable(f"{name}_out", np.float32, list(shape))
        self.graph.nodes.append(gs.Node(op, name, attrs, inputs, [result]))
        return result

    def constant(self, values: NDArray[Any]) -> gs.Constant:
        return gs.Constant(f"c{len(self.graph.tensors())}_{self.random.integers(1 << 30)}", values.astype(np.float32))

    def values(self, *shape: int) -> NDArray[Any]:
        """Magnitudes 0.5 to 1.5, either sign: nothing vanishes, nothing explodes."""
        return self.random.uniform(0.5, 1.5, shape) * self.random.choice([-1.0, 1.0], shape)

    def layer(self, layer: Layer, x: gs.Variable) -> gs.Variable:
        channels = x.shape[1]
        if layer.kind in ("Conv", "ConvTranspose"):
            return self.convolution(layer, x)
        each = [1, channels, 1, 1]
        if layer.kind == "bn":
            parts = [self.values(channels), self.values(channels), self.values(channels), np.abs(self.values(channels))]
            return self.node("BatchNormalization", [x, *map(self.constant, parts)], x.shape, epsilon=1e-3)
        if layer.kind == "neg":
            return self.node("Neg", [x], x.shape)
        if layer.kind == "relu":
            return self.node("Relu", [x], x.shape)
        ops = {"mul": "Mul", "scale": "Mul", "add": "Add", "shift": "Add", "sub": "Sub", "mirror": "Sub", "div": "Div"}
        constant = self.constant(self.values(*([1] if layer.kind in ("scale", "shift") else each)))
        operands = [constant, x] if layer.kind in ("mirror", "scale") else [x, constant]
        return self.node(ops[layer.kind], operands, x.shape)

    def convolution(self, layer: Layer, x: gs.Variable) -> gs.Variable:
        channels, out, groups = x.shape[1], layer.out, layer.groups
        while channels % groups or out % groups:
            groups //= 2
        transposed = layer.kind == "ConvTranspose"
        height, width = x.shape[2:]
        grow = layer.kernel - 1 - 2 * layer.pad
        size = [height + grow, width + grow] if transposed else [height - grow, width - grow]
        if min(size) < 1:
            return x
        shape = (channels, out // groups) if transposed else (out, channels // groups)
        full = (*shape, layer.kernel, layer.kernel)
        fresh = self.constant(self.values(*full) / np.sqrt(shape[1] * layer.kernel**2))
        weight = self.shared.get((layer.kind, full), fresh) if layer.share else fresh
        self.shared[layer.kind, full] = weight
        inputs = [x, weight, *([self.constant(self.values(out))] if layer.bias else [])]
        return self.node(layer.kind, inputs, [1, out, *size], group=groups, pads=[layer.pad] * 4)

    def matrix(self, has: list[str], x: gs.Variable) -> gs.Variable:
        count = int(np.prod(x.shape))
        x = self.node("Flatten", [x], [1, count])
        if "before" in has:
            x = self.node("Mul", [x, self.constant(self.values(1, count))], [1, count])
            x = self.node("Add", [x, self.constant(self.values(1, count))], [1, count])
        weight = self.values(count, 3) / np.sqrt(count)
        attrs: dict[str, Any] = {"alpha": 0.5} if "alpha" in has else {}
        attrs |= {"beta": 2.0} if "beta" in has else {}
        attrs |= {"transB": 1} if "transB" in has else {}
        operands = [x, self.constant(weight.T if "transB" in has else weight), self.constant(self.values(3))]
        y = self.node("Gemm", operands, [1, 3], **attrs)
        if "after" in has:
            y = self.node("Mul", [y, self.constant(self.values(3))], [1, 3])
            y = self.node("Add", [y, self.constant(self.values(3))], [1, 3])
        return y
