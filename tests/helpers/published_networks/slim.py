"""The classification networks of TensorFlow's slim library, as NVIDIA measured them on a TX2 with TensorRT 3.0.

Simonyan and Zisserman, 2014 (VGG); Szegedy et al., 2014, 2015 and 2016 (Inception); He et al., 2015 and 2016 (ResNet);
Howard et al., 2017 (MobileNet). As in slim, the last unit of a residual block carries the stride. ReLU6 was spelled as
a difference of two ReLUs there, because that parser does not know it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import onnx_graphsurgeon as gs

from published_networks.builder import Builder


def vgg_16() -> gs.Graph:
    net = Builder("vgg_16", 224, same=True)
    x: gs.Tensor = net.input
    for count, kernels in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            x = net.conv(x, kernels, 3)
        x = net.pool(x, 2, 2)
    x = net.conv(x, 4096, 7, pad="valid")
    return net.finish(net.conv(net.conv(x, 4096), 1000, act=None))


def resnet_v1(depth: int) -> gs.Graph:
    net = Builder(f"resnet_v1_{depth}", 224, same=True)
    x = net.pool(net.conv(net.input, 64, 7, 2), 3, 2)
    for kernels, units, last_stride in _stages(depth):
        for unit in range(units):
            stride = last_stride if unit == units - 1 else 1
            branch = net.conv(net.conv(x, kernels), kernels, 3, stride)
            branch = net.conv(branch, 4 * kernels, act=None)
            x = net.add(branch, _shortcut(net, x, 4 * kernels, stride), "Relu")
    return net.finish(net.conv(net.global_pool(x), 1000, act=None))


def resnet_v2(depth: int) -> gs.Graph:
    net = Builder(f"resnet_v2_{depth}", 299, same=True)
    x = net.pool(net.conv(net.input, 64, 7, 2, act=None), 3, 2)
    for kernels, units, last_stride in _stages(depth):
        for unit in range(units):
            stride = last_stride if unit == units - 1 else 1
            before = net.normalise(x)
            source = x if x.shape[1] == 4 * kernels else before
            branch = net.conv(net.conv(before, kernels), kernels, 3, stride)
            branch = net.conv(branch, 4 * kernels, act=None)
            x = net.add(branch, _shortcut(net, source, 4 * kernels, stride))
    return net.finish(net.conv(net.global_pool(net.normalise(x)), 1001, act=None))


def _stages(depth: int) -> tuple[tuple[int, int, int], ...]:
    units = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}[depth]
    return tuple(zip((64, 128, 256, 512), units, (2, 2, 2, 1), strict=True))


def _shortcut(net: Builder, x: gs.Tensor, channels: int, stride: int) -> gs.Tensor:
    if x.shape[1] != channels:
        return net.conv(x, channels, 1, stride, act=None)
    return x if stride == 1 else net.pool(x, 1, stride)


def mobilenet_v1(width: float, size: int) -> gs.Graph:
    net = Builder(f"mobilenet_v1_{width}_{size}", size, same=True)
    act = "relu6_spelled"
    x = net.conv(net.input, int(32 * width), 3, 2, act=act)
    for kernels, stride in (
        (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1),
    ):  # fmt: skip
        x = net.conv(net.depthwise(x, 3, stride, act), int(kernels * width), act=act)
    return net.finish(net.conv(net.global_pool(x), 1001, act=None))


def inception_v1() -> gs.Graph:
    net = Builder("inception_v1", 224, same=True)
    x = net.pool(net.conv(net.input, 64, 7, 2), 3, 2)
    x = net.pool(net.conv(net.conv(x, 64), 192, 3), 3, 2)
    blocks = (
        (64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64), None,
        (192, 96, 208, 16, 48, 64), (160, 112, 224, 24, 64, 64), (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64), (256, 160, 320, 32, 128, 128), None,
        (256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128),
    )  # fmt: skip
    for block in blocks:
        if block is None:
            x = net.pool(x, 3, 2) if x.shape[1] == 480 else net.pool(x, 2, 2)
            continue
        one, three_in, three, five_in, five, pooled = block
        x = net.concat(
            net.conv(x, one), net.conv(net.conv(x, three_in), three, 3), net.conv(net.conv(x, five_in), five, 3),
            net.conv(net.pool(x, 3), pooled),
        )  # fmt: skip
    return net.finish(net.conv(net.global_pool(x), 1001, act=None))


def inception_v3() -> gs.Graph:
    net = Builder("inception_v3", 299, same=True)
    x = net.conv(net.conv(net.conv(net.input, 32, 3, 2, pad="valid"), 32, 3, pad="valid"), 64, 3)
    x = net.conv(net.conv(net.pool(x, 3, 2, pad="valid"), 80, pad="valid"), 192, 3, pad="valid")
    x = net.pool(x, 3, 2, pad="valid")
    for pooled in (32, 64, 64):
        five = net.conv(net.conv(x, 48), 64, 5)
        double = net.conv(net.conv(net.conv(x, 64), 96, 3), 96, 3)
        x = net.concat(net.conv(x, 64), five, double, net.conv(_average(net, x), pooled))
    double = net.conv(net.conv(net.conv(x, 64), 96, 3), 96, 3, 2, pad="valid")
    x = net.concat(net.conv(x, 384, 3, 2, pad="valid"), double, net.pool(x, 3, 2, pad="valid"))
    for narrow in (128, 160, 160, 192):
        seven = net.conv(net.conv(net.conv(x, narrow), narrow, (1, 7)), 192, (7, 1))
        double = net.conv(net.conv(net.conv(x, narrow), narrow, (7, 1)), narrow, (1, 7))
        double = net.conv(net.conv(double, narrow, (7, 1)), 192, (1, 7))
        x = net.concat(net.conv(x, 192), seven, double, net.conv(_average(net, x), 192))
    seven = net.conv(net.conv(net.conv(x, 192), 192, (1, 7)), 192, (7, 1))
    x = net.concat(
        net.conv(net.conv(x, 192), 320, 3, 2, pad="valid"),
        net.conv(seven, 192, 3, 2, pad="valid"),
        net.pool(x, 3, 2, pad="valid"),
    )
    for _ in range(2):
        split = net.conv(x, 384)
        double = net.conv(net.conv(x, 448), 384, 3)
        x = net.concat(
            net.conv(x, 320), net.conv(split, 384, (1, 3)), net.conv(split, 384, (3, 1)),
            net.conv(double, 384, (1, 3)), net.conv(double, 384, (3, 1)), net.conv(_average(net, x), 192),
        )  # fmt: skip
    return net.finish(net.conv(net.global_pool(x), 1001, act=None))


def inception_v4() -> gs.Graph:
    net = Builder("inception_v4", 299, same=True)
    x = net.conv(net.conv(net.conv(net.input, 32, 3, 2, pad="valid"), 32, 3, pad="valid"), 64, 3)
    x = net.concat(net.pool(x, 3, 2, pad="valid"), net.conv(x, 96, 3, 2, pad="valid"))
    seven = net.conv(net.conv(net.conv(x, 64), 64, (1, 7)), 64, (7, 1))
    x = net.concat(net.conv(net.conv(x, 64), 96, 3, pad="valid"), net.conv(seven, 96, 3, pad="valid"))
    x = net.concat(net.conv(x, 192, 3, 2, pad="valid"), net.pool(x, 3, 2, pad="valid"))
    for _ in range(4):
        double = net.conv(net.conv(net.conv(x, 64), 96, 3), 96, 3)
        x = net.concat(net.conv(x, 96), net.conv(net.conv(x, 64), 96, 3), double, net.conv(_average(net, x), 96))
    double = net.conv(net.conv(net.conv(x, 192), 224, 3), 256, 3, 2, pad="valid")
    x = net.concat(net.conv(x, 384, 3, 2, pad="valid"), double, net.pool(x, 3, 2, pad="valid"))
    for _ in range(7):
        seven = net.conv(net.conv(net.conv(x, 192), 224, (1, 7)), 256, (7, 1))
        double = net.conv(net.conv(net.conv(x, 192), 192, (7, 1)), 224, (1, 7))
        double = net.conv(net.conv(double, 224, (7, 1)), 256, (1, 7))
        x = net.concat(net.conv(x, 384), seven, double, net.conv(_average(net, x), 128))
    seven = net.conv(net.conv(net.conv(x, 256), 256, (1, 7)), 320, (7, 1))
    x = net.concat(
        net.conv(net.conv(x, 192), 192, 3, 2, pad="valid"),
        net.conv(seven, 320, 3, 2, pad="valid"),
        net.pool(x, 3, 2, pad="valid"),
    )
    for _ in range(3):
        split = net.conv(x, 384)
        double = net.conv(net.conv(net.conv(x, 384), 448, (3, 1)), 512, (1, 3))
        x = net.concat(
            net.conv(x, 256), net.conv(split, 256, (1, 3)), net.conv(split, 256, (3, 1)),
            net.conv(double, 256, (1, 3)), net.conv(double, 256, (3, 1)), net.conv(_average(net, x), 256),
        )  # fmt: skip
    return net.finish(net.conv(net.global_pool(x), 1001, act=None))


def inception_resnet_v2() -> gs.Graph:
    net = Builder("inception_resnet_v2", 299, same=True)
    x = net.conv(net.conv(net.conv(net.input, 32, 3, 2, pad="valid"), 32, 3, pad="valid"), 64, 3)
    x = net.conv(net.conv(net.pool(x, 3, 2, pad="valid"), 80, pad="valid"), 192, 3, pad="valid")
    x = net.pool(x, 3, 2, pad="valid")
    double = net.conv(net.conv(net.conv(x, 64), 96, 3), 96, 3)
    x = net.concat(net.conv(x, 96), net.conv(net.conv(x, 48), 64, 5), double, net.conv(_average(net, x), 64))
    for _ in range(10):
        double = net.conv(net.conv(net.conv(x, 32), 48, 3), 64, 3)
        x = _residual(net, x, net.concat(net.conv(x, 32), net.conv(net.conv(x, 32), 32, 3), double))
    double = net.conv(net.conv(net.conv(x, 256), 256, 3), 384, 3, 2, pad="valid")
    x = net.concat(net.conv(x, 384, 3, 2, pad="valid"), double, net.pool(x, 3, 2, pad="valid"))
    for _ in range(20):
        seven = net.conv(net.conv(net.conv(x, 128), 160, (1, 7)), 192, (7, 1))
        x = _residual(net, x, net.concat(net.conv(x, 192), seven))
    double = net.conv(net.conv(net.conv(x, 256), 288, 3), 320, 3, 2, pad="valid")
    x = net.concat(
        net.conv(net.conv(x, 256), 384, 3, 2, pad="valid"),
        net.conv(net.conv(x, 256), 288, 3, 2, pad="valid"),
        double,
        net.pool(x, 3, 2, pad="valid"),
    )
    for number in range(10):
        three = net.conv(net.conv(net.conv(x, 192), 224, (1, 3)), 256, (3, 1))
        x = _residual(net, x, net.concat(net.conv(x, 192), three), None if number == 9 else "Relu")
    return net.finish(net.conv(net.global_pool(net.conv(x, 1536)), 1001, act=None))


def _residual(net: Builder, x: gs.Tensor, mixed: gs.Tensor, act: str | None = "Relu") -> gs.Variable:
    up = net.conv(mixed, x.shape[1], act=None)
    return net.add(x, net.node("Mul", [up, net.constant()], up.shape), act)


def _average(net: Builder, x: gs.Tensor) -> gs.Variable:
    return net.pool(x, 3, kind="AveragePool")


SLIM: dict[str, Callable[[], gs.Graph]] = {
    "inception_v1": inception_v1,
    "inception_v3": inception_v3,
    "inception_v4": inception_v4,
    "inception_resnet_v2": inception_resnet_v2,
    **{f"resnet_v1_{depth}": partial(resnet_v1, depth) for depth in (50, 101, 152)},
    **{f"resnet_v2_{depth}": partial(resnet_v2, depth) for depth in (50, 101, 152)},
    "mobilenet_v1_0p25_128": partial(mobilenet_v1, 0.25, 128),
    "mobilenet_v1_0p5_160": partial(mobilenet_v1, 0.5, 160),
    "mobilenet_v1_1p0_224": partial(mobilenet_v1, 1.0, 224),
    "vgg_16": vgg_16,
}
