"""The classification networks that NetsPresso measured on boards with JetPack 4.6 (224x224, three classes).

He et al., 2015 (ResNet); Howard et al., 2019 (MobileNetV3); Tan and Le, 2019 (MixNet); Li et al., 2022
(EfficientFormer). Operators are those that PyTorch exports with operator set 13.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import onnx_graphsurgeon as gs

from published_networks.builder import Builder

CLASSES = 3


def resnet(depth: int) -> gs.Graph:
    net = Builder(f"ResNet{depth}", 224)
    x = net.pool(net.conv(net.input, 64, 7, 2), 3, 2)
    blocks = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]
    grown = 4 if depth >= 50 else 1
    for stage, (kernels, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True)):
        for block in range(count):
            stride = 2 if stage and not block else 1
            if depth >= 50:
                branch = net.conv(net.conv(net.conv(x, kernels), kernels, 3, stride), 4 * kernels, act=None)
            else:
                branch = net.conv(net.conv(x, kernels, 3, stride), kernels, 3, act=None)
            same = stride == 1 and x.shape[1] == kernels * grown
            x = net.add(branch, x if same else net.conv(x, kernels * grown, 1, stride, act=None), "Relu")
    return net.finish(net.dense(net.global_pool(x), CLASSES))


def _divisible(value: float) -> int:
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


# window, expanded channels, kernels, squeeze and excite, activation, stride
Row = tuple[int, int, int, bool, str, int]
_H = "hard_swish"
V3_SMALL: tuple[Row, ...] = (
    (3, 16, 16, True, "Relu", 2), (3, 72, 24, False, "Relu", 2), (3, 88, 24, False, "Relu", 1),
    (5, 96, 40, True, _H, 2), (5, 240, 40, True, _H, 1), (5, 240, 40, True, _H, 1), (5, 120, 48, True, _H, 1),
    (5, 144, 48, True, _H, 1), (5, 288, 96, True, _H, 2), (5, 576, 96, True, _H, 1), (5, 576, 96, True, _H, 1),
)  # fmt: skip
V3_LARGE: tuple[Row, ...] = (
    (3, 16, 16, False, "Relu", 1), (3, 64, 24, False, "Relu", 2), (3, 72, 24, False, "Relu", 1),
    (5, 72, 40, True, "Relu", 2), (5, 120, 40, True, "Relu", 1), (5, 120, 40, True, "Relu", 1),
    (3, 240, 80, False, _H, 2), (3, 200, 80, False, _H, 1), (3, 184, 80, False, _H, 1), (3, 184, 80, False, _H, 1),
    (3, 480, 112, True, _H, 1), (3, 672, 112, True, _H, 1), (5, 672, 160, True, _H, 2), (5, 960, 160, True, _H, 1),
    (5, 960, 160, True, _H, 1),
)  # fmt: skip


def mobilenet_v3(name: str, rows: Sequence[Row], hidden: int) -> gs.Graph:
    net = Builder(name, 224)
    x = net.conv(net.input, 16, 3, 2, act=_H)
    for size, expanded, kernels, squeeze, act, stride in rows:
        y = x if expanded == x.shape[1] else net.conv(x, expanded, act=act)
        y = net.depthwise(y, size, stride, act)
        if squeeze:
            y = net.squeeze_excite(y, _divisible(expanded / 4), gate="hard_sigmoid")
        y = net.conv(y, kernels, act=None)
        x = net.add(y, x) if stride == 1 and x.shape[1] == kernels else y
    x = net.global_pool(net.conv(x, 6 * x.shape[1], act=_H))
    return net.finish(net.dense(net.dense(x, hidden, _H), CLASSES))


# expansion, kernels, blocks, windows, parts of the expansion, parts of the projection, stride, activation, squeeze
Mix = tuple[int, int, int, tuple[int, ...], int, int, int, str, int]
_S = "swish"
MIX_S: tuple[Mix, ...] = (
    (1, 16, 1, (3,), 1, 1, 1, "Relu", 0), (6, 24, 1, (3,), 2, 2, 2, "Relu", 0), (3, 24, 1, (3,), 2, 2, 1, "Relu", 0),
    (6, 40, 1, (3, 5, 7), 1, 1, 2, _S, 2), (6, 40, 3, (3, 5), 2, 2, 1, _S, 2), (6, 80, 1, (3, 5, 7), 1, 2, 2, _S, 4),
    (6, 80, 2, (3, 5), 1, 2, 1, _S, 4), (6, 120, 1, (3, 5, 7), 2, 2, 1, _S, 2), (3, 120, 2, (3, 5, 7, 9), 2, 2, 1, _S, 2),
    (6, 200, 1, (3, 5, 7, 9, 11), 1, 1, 2, _S, 2), (6, 200, 2, (3, 5, 7, 9), 1, 2, 1, _S, 2),
)  # fmt: skip
MIX_M: tuple[Mix, ...] = (
    (1, 24, 1, (3,), 1, 1, 1, "Relu", 0), (6, 32, 1, (3, 5, 7), 2, 2, 2, "Relu", 0), (3, 32, 1, (3,), 2, 2, 1, "Relu", 0),
    (6, 40, 1, (3, 5, 7, 9), 1, 1, 2, _S, 2), (6, 40, 3, (3, 5), 2, 2, 1, _S, 2), (6, 80, 1, (3, 5, 7), 1, 1, 2, _S, 4),
    (6, 80, 3, (3, 5, 7, 9), 2, 2, 1, _S, 4), (6, 120, 1, (3,), 1, 1, 1, _S, 2), (3, 120, 3, (3, 5, 7, 9), 2, 2, 1, _S, 2),
    (6, 200, 1, (3, 5, 7, 9), 1, 1, 2, _S, 2), (6, 200, 3, (3, 5, 7, 9), 1, 2, 1, _S, 2),
)  # fmt: skip


def mixnet(name: str, rows: Sequence[Mix], stem: int, width: float) -> gs.Graph:
    def wide(kernels: int) -> int:
        return kernels if width == 1 else _divisible(kernels * width)

    net = Builder(name, 224)
    x = net.conv(net.input, wide(stem), 3, 2)
    for expansion, kernels, blocks, windows, expanding, projecting, first_stride, act, squeeze in rows:
        for block in range(blocks):
            stride = first_stride if not block else 1
            source, inputs = x, x.shape[1]
            if expansion != 1:
                x = net.act(_in_parts(net, x, inputs * expansion, expanding), act)
            parts = net.split(x, len(windows)) if len(windows) > 1 else [x]
            mixed = [net.depthwise(part, size, stride, None) for part, size in zip(parts, windows, strict=True)]
            x = net.act(net.concat(*mixed) if len(mixed) > 1 else mixed[0], act)
            if squeeze:
                x = net.squeeze_excite(x, int(inputs / squeeze), act)
            x = _in_parts(net, x, wide(kernels), projecting)
            if stride == 1 and inputs == wide(kernels):
                x = net.add(x, source)
    return net.finish(net.dense(net.global_pool(net.conv(x, 1536)), CLASSES))


def _in_parts(net: Builder, x: gs.Variable, kernels: int, parts: int) -> gs.Variable:
    if parts == 1:
        return net.conv(x, kernels, act=None)
    return net.concat(*(net.conv(part, kernels // parts, act=None) for part in net.split(x, parts)))


def efficientformer_l1() -> gs.Graph:
    net = Builder("EfficientFormer-l1", 224)
    x = net.conv(net.conv(net.input, 24, 3, 2), 48, 3, 2)
    for width, blocks in ((48, 3), (96, 2), (224, 6), (448, 3)):
        if x.shape[1] != width:
            x = net.conv(x, width, 3, 2, act=None)
        for _ in range(blocks):
            pooled = net.pool(x, 3, kind="AveragePool")
            x = net.add(x, net.scale(net.node("Sub", [pooled, x], x.shape)))
            x = net.add(x, net.scale(net.conv(net.conv(x, 4 * width, act="gelu"), width, act=None)))
    tokens, width = x.shape[2] * x.shape[3], x.shape[1]
    x = net.node("Reshape", [x, net.constant(3, dtype=np.int64)], (1, width, tokens))
    x = net.node("Transpose", [x], (1, tokens, width), perm=[0, 2, 1])
    x = net.add(x, _scaled(net, _attention(net, _layer_norm(net, x))))
    hidden = net.act(_linear(net, _layer_norm(net, x), 4 * width), "gelu")
    x = _layer_norm(net, net.add(x, _scaled(net, _linear(net, hidden, width))))
    return net.finish(net.dense(net.node("ReduceMean", [x], (1, width), axes=[1]), CLASSES))


def _scaled(net: Builder, x: gs.Variable) -> gs.Variable:
    return net.node("Mul", [x, net.constant(x.shape[-1])], x.shape)


def _linear(net: Builder, x: gs.Variable, outputs: int) -> gs.Variable:
    shape = (*x.shape[:-1], outputs)
    product = net.node("MatMul", [x, net.constant(x.shape[-1], outputs)], shape)
    return net.node("Add", [product, net.constant(outputs)], shape)


def _layer_norm(net: Builder, x: gs.Variable) -> gs.Variable:
    narrow = (*x.shape[:-1], 1)
    centred = net.node("Sub", [x, net.node("ReduceMean", [x], narrow, axes=[-1])], x.shape)
    variance = net.node("ReduceMean", [net.node("Pow", [centred, net.constant()], x.shape)], narrow, axes=[-1])
    deviation = net.node("Sqrt", [net.node("Add", [variance, net.constant()], narrow)], narrow)
    scaled = net.node("Mul", [net.node("Div", [centred, deviation], x.shape), net.constant(x.shape[-1])], x.shape)
    return net.node("Add", [scaled, net.constant(x.shape[-1])], x.shape)


def _attention(net: Builder, x: gs.Variable, heads: int = 8, key: int = 32, value: int = 128) -> gs.Variable:
    tokens, width = x.shape[1:]

    def by_head(outputs: int, turned: bool) -> gs.Variable:
        flat = _linear(net, x, heads * outputs)
        split = net.node("Reshape", [flat, net.constant(4, dtype=np.int64)], (1, tokens, heads, outputs))
        shape = (1, heads, outputs, tokens) if turned else (1, heads, tokens, outputs)
        return net.node("Transpose", [split], shape, perm=[0, 2, 3, 1] if turned else [0, 2, 1, 3])

    scores = (1, heads, tokens, tokens)
    product = net.node("MatMul", [by_head(key, False), by_head(key, True)], scores)
    biased = net.node("Add", [net.node("Div", [product, net.constant()], scores), net.constant(*scores)], scores)
    weights = net.node("Softmax", [biased], scores, axis=-1)
    mixed = net.node("MatMul", [weights, by_head(value, False)], (1, heads, tokens, value))
    turned = net.node("Transpose", [mixed], (1, tokens, heads, value), perm=[0, 2, 1, 3])
    flat = net.node("Reshape", [turned, net.constant(3, dtype=np.int64)], (1, tokens, heads * value))
    return _linear(net, flat, width)


NETSPRESSO: dict[str, Callable[[], gs.Graph]] = {
    "EfficientFormer-l1": efficientformer_l1,
    "MixNet-s": partial(mixnet, "MixNet-s", MIX_S, 16, 1.0),
    "MixNet-m": partial(mixnet, "MixNet-m", MIX_M, 24, 1.0),
    "MixNet-l": partial(mixnet, "MixNet-l", MIX_M, 24, 1.3),
    "MobileNetV3-small": partial(mobilenet_v3, "MobileNetV3-small", V3_SMALL, 1024),
    "MobileNetV3-large": partial(mobilenet_v3, "MobileNetV3-large", V3_LARGE, 1280),
    **{f"ResNet{depth}": partial(resnet, depth) for depth in (18, 34, 50)},
}
