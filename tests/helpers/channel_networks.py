"""Random small networks in which channels merge, part and turn, for the tests of channel removal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray


@dataclass(frozen=True)
class Step:
    """One building block; numbers are taken modulo the possible choices, so every combination is a network.

    Attributes:
        kind: name of a method of the builder.
        at: which tensor it reads, counted from the newest.
        choices: what the block decides by.
    """

    kind: str
    at: int
    choices: tuple[int, ...]


@dataclass(frozen=True)
class ChannelNetwork:
    """Blocks one after another, then heads that read the last tensors."""

    steps: tuple[Step, ...]
    heads: tuple[str, ...]
    seed: int

    def build(self) -> gs.Graph:
        """The graph; input x [1, 3, 8, 8]."""
        return _Builder(self).graph


class _Builder:
    def __init__(self, network: ChannelNetwork) -> None:
        self.random = np.random.default_rng(network.seed)
        x = gs.Variable("x", np.float32, [1, 3, 8, 8])
        self.graph = gs.Graph(inputs=[x], name="channels", opset=13, ir_version=8)
        self.count = 0
        self.pool = [self.conv(x, (4, 1, 0, 1))]
        for step in network.steps:
            block: Callable[..., gs.Variable | None] = getattr(self, step.kind)
            made = block(self.pool[-1 - step.at % min(3, len(self.pool))], step.choices)
            if made is not None:
                self.pool.append(made)
        unread = [tensor for tensor in self.pool if not tensor.outputs]
        sources = unread or self.pool[-1:]
        self.graph.outputs = [
            getattr(self, f"head_{network.heads[index % len(network.heads)]}")(tensor)
            for index, tensor in enumerate(sources)
        ]
        self.graph.cleanup().toposort()

    # ---- pieces

    def node(
        self, op: str, inputs: list[gs.Tensor], shape: list[int], dtype: type = np.float32, **attrs: Any
    ) -> gs.Variable:
        self.count += 1
        name = f"{op.lower()}{self.count}"
        result = gs.Variable(f"{name}_out", dtype, [int(size) for size in shape])
        self.graph.nodes.append(gs.Node(op, name, attrs, inputs, [result]))
        return result

    def constant(self, values: Any, dtype: type = np.float32) -> gs.Constant:
        self.count += 1
        return gs.Constant(f"c{self.count}", np.asarray(values, dtype))

    def integers(self, *values: int) -> gs.Constant:
        return self.constant(values, np.int64)

    def values(self, *shape: int) -> NDArray[Any]:
        """Magnitudes 0.5 to 1.5, either sign: nothing vanishes, nothing explodes."""
        return self.random.uniform(0.5, 1.5, shape) * self.random.choice([-1.0, 1.0], shape)

    def weight(self, *shape: int, fan_in: int) -> gs.Constant:
        return self.constant(self.values(*shape) / np.sqrt(max(fan_in, 1)))

    def same(self, op: str, x: gs.Variable, *others: gs.Tensor, **attrs: Any) -> gs.Variable:
        return self.node(op, [x, *others], x.shape, **attrs)

    # ---- layers

    def conv(self, x: gs.Variable, choices: tuple[int, ...], out: int | None = None, groups: int = 1) -> gs.Variable:
        width, kernel, padded, bias = choices[:4]
        _, channels, height, breadth = x.shape
        kernel = 3 if kernel % 2 and min(height, breadth) >= 3 else 1
        pad = kernel // 2 if padded % 3 else 0
        out = out or 2 + width % 5
        size = [height + 2 * pad - kernel + 1, breadth + 2 * pad - kernel + 1]
        weight = self.weight(out, channels // groups, kernel, kernel, fan_in=channels // groups * kernel**2)
        operands = [x, weight, *([self.constant(self.values(out))] if bias % 3 else [])]
        return self.node("Conv", operands, [1, out, *size], pads=[pad] * 4, kernel_shape=[kernel] * 2, group=groups)

    def conv_relu(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable:
        return self.same("Relu", self.conv(x, choices))

    def depthwise(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable:
        return self.conv(x, choices, out=x.shape[1] * (1 + choices[0] % 2), groups=x.shape[1])

    def grouped(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable | None:
        groups = next((g for g in (2, 3) if x.shape[1] % g == 0 and x.shape[1] > g), 0)
        return self.conv(x, choices, out=groups * (1 + choices[0] % 3), groups=groups) if groups else None

    def transposed(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable | None:
        _, channels, height, breadth = x.shape
        if height > 10:
            return None
        groups = [1, 1, channels, 2 if channels % 2 == 0 else 1][choices[0] % 4]
        per_group = 1 + choices[1] % 3
        weight = self.weight(channels, per_group, 2, 2, fan_in=channels // groups)
        bias = [self.constant(self.values(per_group * groups))] if choices[2] % 2 else []
        return self.node(
            "ConvTranspose", [x, weight, *bias], [1, per_group * groups, height + 1, breadth + 1], group=groups
        )

    # ---- a channel on its own

    def bn(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable:
        parts = [self.values(x.shape[1]) for _ in range(3)] + [np.abs(self.values(x.shape[1]))]
        return self.same("BatchNormalization", x, *map(self.constant, parts), epsilon=1e-3)

    def prelu(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable:
        return self.same("PRelu", x, self.constant(self.values(x.shape[1], 1, 1)))

    def activation(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable:
        op = ["Relu", "Sigmoid", "LeakyRelu", "Elu", "Clip", "Tanh"][choices[0] % 6]
        limits = [self.constant(-0.5), self.constant(1.5)] if op == "Clip" else []
        return self.same(op, x, *limits)

    def affine(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable:
        shape = [[x.shape[1], 1, 1], [1, x.shape[1], 1, 1], [1, 1, 1, x.shape[3]], []][choices[1] % 4]
        return self.same(["Mul", "Add", "Sub"][choices[0] % 3], x, self.constant(self.values(*shape)))

    def pool_window(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable | None:
        _, channels, height, breadth = x.shape
        if min(height, breadth) < 4:
            return None
        pad = choices[1] % 2
        size = [(height + 2 * pad - 3) // 2 + 1, (breadth + 2 * pad - 3) // 2 + 1]
        attrs: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [pad] * 4}
        op = ["MaxPool", "AveragePool"][choices[0] % 2]
        if op == "AveragePool":
            attrs["count_include_pad"] = choices[2] % 2
        return self.node(op, [x], [1, channels, *size], **attrs)

    def resize(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable | None:
        _, channels, height, breadth = x.shape
        if height > 8:
            return None
        shape = [1, channels, 2 * height, 2 * breadth]
        empty = gs.Variable.empty()
        by = [empty, self.integers(*shape)] if choices[0] % 2 else [self.constant([1, 1, 2, 2])]
        mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return self.node("Resize", [x, empty, *by], shape, **mode)

    def border(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable:
        more = choices[0] % 2  # channels of zeros at the end, as residual networks pad their shortcuts
        shape = [1, x.shape[1] + more, x.shape[2] + 1, x.shape[3]]
        value = [self.constant(0.5)] if choices[1] % 2 else []
        return self.node("Pad", [x, self.integers(0, 0, 1, 0, 0, more, 0, 0), *value], shape)

    def norm(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable:
        """L2 over channels, in the spellings of importers, then a scale."""
        reduced = [1, 1, *x.shape[2:]]
        kind = choices[0] % 3
        if kind == 0:
            unit = self.same("LpNormalization", x, axis=1, p=2)
        else:
            if kind == 1:
                total = self.node("ReduceSumSquare", [x], reduced, axes=[1], keepdims=1)
                length = self.same("Sqrt", self.same("Add", total, self.constant([0.1])))
            else:
                length = self.same(
                    "Add", self.node("ReduceL2", [x], reduced, axes=[1], keepdims=1), self.constant([0.1])
                )
            unit = self.same("Div", x, length)
        return self.same("Mul", unit, self.constant(self.values(1, x.shape[1], 1, 1)))

    def lrn(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable:
        return self.same("LRN", x, size=3, alpha=0.5)

    def unknown(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable:
        """An operator without a rule."""
        return self.same("CumSum", x, self.constant(1, np.int64))

    # ---- channels meet

    def residual(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable:
        """Added to its own input, or two convolutions added."""
        branch = self.conv(x, (choices[0], choices[1], 1, choices[2]), out=x.shape[1] if choices[3] % 2 else None)
        other = x if choices[3] % 2 else self.conv(x, (0, 0, 1, choices[1]), out=branch.shape[1])
        return self.same(["Add", "Add", "Sub", "Max"][choices[2] % 4], other, branch)

    def meet(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable | None:
        """With an older tensor of the same shape."""
        partners = [tensor for tensor in self.pool if tensor.shape == x.shape and tensor is not x]
        if not partners:
            return self.residual(x, choices)
        return self.same(["Add", "Mul", "Max"][choices[1] % 3], x, partners[choices[0] % len(partners)])

    def concat(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable:
        """With an older tensor of the same picture, or with a new convolution of another width."""
        partners = [tensor for tensor in self.pool if tensor.shape[2:] == x.shape[2:] and tensor is not x]
        branch = self.conv(x, (choices[1], choices[0], 1, 1))
        other = partners[choices[0] % len(partners)] if partners and choices[2] % 2 else branch
        both = [x, other] if choices[3] % 2 else [other, x]
        return self.node("Concat", both, [1, x.shape[1] + other.shape[1], *x.shape[2:]], axis=1)

    def crelu(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable:
        """Both signs of every channel (Shang et al., C.ReLU, 2016)."""
        negative = self.same("Neg", x) if choices[0] % 2 else self.same("Mul", x, self.constant([-1.0]))
        both = self.node("Concat", [x, negative], [1, 2 * x.shape[1], *x.shape[2:]], axis=1)
        if choices[1] % 2:
            both = self.affine(both, (0, 1))
        return self.same("Relu", both)

    def split(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable | None:
        """In two parts, which go separate ways for a while."""
        channels = x.shape[1]
        if channels < 2:
            return None
        first = channels // 2 if choices[0] % 2 and channels % 2 == 0 else 1 + choices[0] % (channels - 1)
        sizes = [first, channels - first]
        parts = [
            gs.Variable(f"part{self.count}_{i}", np.float32, [1, size, *x.shape[2:]]) for i, size in enumerate(sizes)
        ]
        self.count += 1
        stated = [] if sizes[0] == sizes[1] and choices[1] % 2 else [self.integers(*sizes)]
        self.graph.nodes.append(gs.Node("Split", f"split{self.count}", {"axis": 1}, [x, *stated], parts))
        self.pool.append(parts[0])
        if choices[2] % 3 == 0:
            return parts[1]
        turned = self.same("Relu", parts[1])
        return self.node("Concat", [turned, parts[0]], x.shape, axis=1)

    def cut(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable:
        """A Slice of channels, and perhaps rows."""
        channels, height = x.shape[1:3]
        start = choices[0] % channels
        end = start + 1 + choices[1] % (channels - start)
        stated = end if choices[2] % 3 or end < channels else 2**31
        begin = start - channels if choices[3] % 2 else start
        if choices[2] % 2 and height > 2:
            operands = [
                self.integers(1, begin),
                self.integers(height, stated),
                self.integers(2, 1),
                self.integers(1, 1),
            ]
            return self.node("Slice", [x, *operands], [1, end - start, height - 1, x.shape[3]])
        operands = [self.integers(begin), self.integers(stated), self.integers(1)]
        return self.node("Slice", [x, *operands], [1, end - start, *x.shape[2:]])

    def pick(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable:
        """A Gather of channels: another order, or some of them, or one of them twice."""
        channels = x.shape[1]
        order = self.random.permutation(channels)
        order = [order, order[: 1 + channels // 2], np.append(order, order[0])][choices[0] % 3]
        return self.node("Gather", [x, self.integers(*order)], [1, len(order), *x.shape[2:]], axis=1)

    def shuffle(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable | None:
        """Channels of two groups dealt out in turn (ShuffleNet)."""
        _, channels, height, breadth = x.shape
        if channels % 2 or channels < 4:
            return None
        half = channels // 2
        apart = self.node("Reshape", [x, self.integers(1, 2, half, height, breadth)], [1, 2, half, height, breadth])
        turned = self.node("Transpose", [apart], [1, half, 2, height, breadth], perm=[0, 2, 1, 3, 4])
        return self.node("Reshape", [turned, self.integers(0, -1, height, breadth)], x.shape)

    def channels_last(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable:
        """There and back, with a constant for each channel in between."""
        _, channels, height, breadth = x.shape
        turned = self.node("Transpose", [x], [1, height, breadth, channels], perm=[0, 2, 3, 1])
        turned = self.same("Mul", turned, self.constant(self.values(channels)))
        if choices[0] % 2:
            turned = self.node("MatMul", [turned, self.weight(channels, 3, fan_in=channels)], [1, height, breadth, 3])
        return self.node("Transpose", [turned], [1, turned.shape[3], height, breadth], perm=[0, 3, 1, 2])

    def gate(self, x: gs.Variable, choices: tuple[int, ...]) -> gs.Variable:
        """A convolution whose kernels a gate on its input switches (LKAM), or scales (squeeze and excitation)."""
        conv = self.conv(x, (choices[0], choices[1], 1, 1))
        kernels, pooled = conv.shape[1], self.node("GlobalAveragePool", [x], [1, x.shape[1], 1, 1])
        if choices[3] % 2:
            pooled = self.same("Relu", self.conv(pooled, (choices[1], 0, 0, 1)))
        units = 2 if choices[2] % 4 == 0 and kernels % 2 == 0 else kernels
        mask = self.same("Sigmoid", self.conv(pooled, (0, 0, 0, 1), out=units))
        if choices[2] % 2 == 0:
            mask = self.node("Greater", [mask, self.constant(0.5)], mask.shape, np.bool_)
            mask = self.node("Cast", [mask], mask.shape, to=1)
        if units != kernels:
            indices = np.arange(kernels) // (kernels // units)
            mask = self.node("Gather", [mask, self.integers(*indices)], [1, kernels, 1, 1], axis=1)
        return self.same("Mul", conv, mask) if choices[0] % 2 else self.node("Mul", [mask, conv], conv.shape)

    # ---- heads

    def head_gemm(self, x: gs.Variable) -> gs.Variable:
        """Flatten, hidden Gemm, Gemm; weights of the first one transposed or not."""
        count = int(np.prod(x.shape))
        flat = self.node("Flatten", [x], [1, count], axis=1)
        turned = bool(self.random.integers(2))
        attrs: dict[str, Any] = {"transB": 1, "alpha": 0.5} if turned else {"beta": 2.0}
        shape = (4, count) if turned else (count, 4)
        hidden = self.node(
            "Gemm", [flat, self.weight(*shape, fan_in=count), self.constant(self.values(4))], [1, 4], **attrs
        )
        hidden = self.same("Relu", hidden)
        return self.node("Gemm", [hidden, self.weight(4, 3, fan_in=4), self.constant(self.values(3))], [1, 3])

    def head_turned(self, x: gs.Variable) -> gs.Variable:
        """Channels last, then flattened, into a Gemm: the other index map."""
        _, channels, height, breadth = x.shape
        count = channels * height * breadth
        turned = self.node("Transpose", [x], [1, height, breadth, channels], perm=[0, 2, 3, 1])
        flat = self.node("Reshape", [turned, self.integers(1, -1)], [1, count])
        return self.node("Gemm", [flat, self.weight(count, 3, fan_in=count)], [1, 3])

    def head_ssd(self, x: gs.Variable) -> gs.Variable:
        """A predictor: convolution, channels last, flattened, class scores."""
        conv = self.conv(x, (0, 1, 1, 1), out=4)
        _, channels, height, breadth = conv.shape
        turned = self.node("Transpose", [conv], [1, height, breadth, channels], perm=[0, 2, 3, 1])
        count = channels * height * breadth
        flat = self.node("Flatten", [turned], [1, count], axis=1)
        scores = self.node("Reshape", [flat, self.integers(0, -1, 2)], [1, count // 2, 2])
        return self.node("Softmax", [scores], scores.shape, axis=2)

    def head_sum(self, x: gs.Variable) -> gs.Variable:
        return self.node("ReduceSum", [x, self.integers(1)], [1, *x.shape[2:]], keepdims=0)

    def head_raw(self, x: gs.Variable) -> gs.Variable:
        """The tensor itself is an output."""
        return x
