"""YOLOX (Ge et al., 2021), as NetsPresso measured it on boards: 640x640, four classes, before decoding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import onnx_graphsurgeon as gs

from published_networks.builder import Builder

CLASSES = 4


def yolox(name: str, depth: float, width: float, size: int = 640) -> gs.Graph:
    """CSPDarknet, a path aggregation network and decoupled heads; SiLU everywhere."""
    net = Builder(name, size)
    base, blocks = int(64 * width), max(round(3 * depth), 1)

    def conv(x: gs.Tensor, kernels: int, window: int = 1, stride: int = 1) -> gs.Variable:
        return net.conv(x, kernels, window, stride, act="swish")

    def csp(x: gs.Tensor, kernels: int, count: int, residual: bool = True) -> gs.Variable:
        y, beside = conv(x, kernels // 2), conv(x, kernels // 2)
        for _ in range(count):
            bottleneck = conv(conv(y, kernels // 2), kernels // 2, 3)
            y = net.add(y, bottleneck) if residual else bottleneck
        return conv(net.concat(y, beside), kernels)

    focus = net.concat(*(net.node("Slice", [net.input], (1, 3, size // 2, size // 2)) for _ in range(4)))
    x = conv(focus, base, 3)
    x = csp(conv(x, 2 * base, 3, 2), 2 * base, blocks)
    c3 = csp(conv(x, 4 * base, 3, 2), 4 * base, 3 * blocks)
    c4 = csp(conv(c3, 8 * base, 3, 2), 8 * base, 3 * blocks)
    x = conv(conv(c4, 16 * base, 3, 2), 8 * base)
    x = conv(net.concat(x, *(net.pool(x, window) for window in (5, 9, 13))), 16 * base)
    c5 = csp(x, 16 * base, blocks, residual=False)

    top = conv(c5, 8 * base)
    middle = conv(csp(net.concat(net.upsample(top), c4), 8 * base, blocks, False), 4 * base)
    p3 = csp(net.concat(net.upsample(middle), c3), 4 * base, blocks, False)
    p4 = csp(net.concat(conv(p3, 4 * base, 3, 2), middle), 8 * base, blocks, False)
    p5 = csp(net.concat(conv(p4, 8 * base, 3, 2), top), 16 * base, blocks, False)

    outputs = []
    for level in (p3, p4, p5):
        stem = conv(level, 4 * base)
        classes = conv(conv(stem, 4 * base, 3), 4 * base, 3)
        boxes = conv(conv(stem, 4 * base, 3), 4 * base, 3)
        scores = net.conv(classes, CLASSES, act="Sigmoid")
        outputs.append(net.concat(net.conv(boxes, 4, act=None), net.conv(boxes, 1, act="Sigmoid"), scores))
    return net.finish(*outputs)


YOLOX: dict[str, Callable[[], gs.Graph]] = {
    "YOLOX-s": partial(yolox, "YOLOX-s", 0.33, 0.5),
    "YOLOX-m": partial(yolox, "YOLOX-m", 0.67, 0.75),
    "YOLOX-l": partial(yolox, "YOLOX-l", 1.0, 1.0),
}
