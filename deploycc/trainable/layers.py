"""Operators with weights, pooling, normalisation and resizing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_graphsurgeon as gs
import torch
from torch import Tensor
from torch.nn import functional

from deploycc.trainable.table import Run, constant_of, refused, runs, shape_of


def _spatial(node: gs.Node, name: str, rank: int, default: int = 1) -> tuple[int, ...]:
    return tuple(int(value) for value in node.attrs.get(name) or (default,) * rank)


def _pads(node: gs.Node, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Padding as ONNX lists it: all begins, then all ends; worked out where the file says ``SAME``."""
    automatic = node.attrs.get("auto_pad", "NOTSET")
    if automatic == "VALID":
        return [0] * 2 * len(kernel)
    if automatic == "NOTSET":
        return [int(value) for value in node.attrs.get("pads") or (0,) * 2 * len(kernel)]
    begins, ends = [], []
    sizes = shape_of(node, node.inputs[0])[2:]
    for size, length, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (length - 1) * dilation + 1 - size)
        less, more = total // 2, total - total // 2
        begins.append(less if automatic == "SAME_UPPER" else more)
        ends.append(more if automatic == "SAME_UPPER" else less)
    return begins + ends


def _padded(x: Tensor, pads: Sequence[int], value: float) -> Tensor:
    """Pad as ONNX says; PyTorch lists the last dimension first."""
    rank = len(pads) // 2
    if rank == 2 and x.dim() == 4:  # padding forgets where the channels are laid out, unless they come last
        return functional.pad(x.permute(0, 2, 3, 1), [0, 0, pads[1], pads[3], pads[0], pads[2]], value=value).permute(
            0, 3, 1, 2
        )
    order = [pads[side * rank + axis] for axis in reversed(range(rank)) for side in (0, 1)]
    return functional.pad(x, order, value=value)


def _split_pads(pads: Sequence[int]) -> tuple[tuple[int, ...], Sequence[int] | None]:
    """Return what a layer can pad by itself, and what must be padded before it."""
    rank = len(pads) // 2
    if list(pads[:rank]) == list(pads[rank:]):
        return tuple(pads[:rank]), None
    return (0,) * rank, pads


def _autocast(*operands: Tensor | None) -> tuple[Any, ...]:
    """Cast operands as `torch.autocast` asks, which does not reach what `torch.vmap` maps (PyTorch 2.13)."""
    assert operands[0] is not None
    device = operands[0].device.type
    if not torch.is_autocast_enabled(device):
        return operands
    return tuple(operand if operand is None else operand.to(torch.get_autocast_dtype(device)) for operand in operands)


def _in_32_bits(*operands: Tensor | None) -> tuple[Any, ...]:
    return tuple(operand if operand is None else operand.float() for operand in operands)


@runs("Conv")
def conv(node: gs.Node) -> Run:
    """1-D to 3-D convolution."""
    kernel = shape_of(node, node.inputs[1])[2:]
    rank = len(kernel)
    strides, dilations = _spatial(node, "strides", rank), _spatial(node, "dilations", rank)
    own, before = _split_pads(_pads(node, kernel, strides, dilations))
    groups = int(node.attrs.get("group", 1))
    # On a CPU, the backward pass of strided depthwise convolutions takes several times as long in 16 bits as in 32.
    thin = groups > 1 and shape_of(node, node.inputs[1])[1] == 1 and max(strides) > 1
    run: Any = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        x = x if before is None else _padded(x, before, 0.0)
        cast = _in_32_bits if thin and x.device.type == "cpu" else _autocast
        result: Tensor = run(*cast(x, weight, bias), strides, own, dilations, groups)
        return result

    return convolve


@runs("ConvTranspose")
def conv_transpose(node: gs.Node) -> Run:
    """Transposed 2-D convolution."""
    kernel = shape_of(node, node.inputs[1])[2:]
    if len(kernel) != 2 or node.attrs.get("auto_pad", "NOTSET") != "NOTSET" or node.attrs.get("output_shape"):
        raise refused(node, "only two dimensions with stated padding are supported")
    strides, dilations = _spatial(node, "strides", 2), _spatial(node, "dilations", 2)
    pads = [int(value) for value in node.attrs.get("pads") or (0,) * 4]
    extra = _spatial(node, "output_padding", 2, 0)
    if pads[:2] != pads[2:]:
        raise refused(node, "its padding differs between the sides")
    groups = int(node.attrs.get("group", 1))

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        x, weight, bias = _autocast(x, weight, bias)
        return functional.conv_transpose2d(x, weight, bias, strides, pads[:2], extra, groups, dilations)

    return convolve


@runs("Gemm")
def gemm(node: gs.Node) -> Run:
    """``alpha A B + beta C``, either matrix transposed."""
    alpha, beta = float(node.attrs.get("alpha", 1.0)), float(node.attrs.get("beta", 1.0))
    turn_a, turn_b = bool(node.attrs.get("transA", 0)), bool(node.attrs.get("transB", 0))

    def multiply(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a, b = _autocast(a, b)
        product = alpha * torch.matmul(a.transpose(-1, -2) if turn_a else a, b.transpose(-1, -2) if turn_b else b)
        return product if c is None else product + beta * c

    return multiply


@runs("MatMul")
def matmul(node: gs.Node) -> Run:
    """Matrix product over the last two dimensions."""
    return lambda a, b: torch.matmul(*_autocast(a, b))


@runs("BatchNormalization")
def batch_normalization(node: gs.Node) -> Run:
    """With the statistics of the file: a few fine-tuning pictures are too few for new ones."""
    epsilon = float(node.attrs.get("epsilon", 1e-5))

    def normalise(x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        factor = scale * torch.rsqrt(variance + epsilon)
        shape = (1, -1) + (1,) * (x.dim() - 2)
        return x * factor.reshape(shape) + (shift - mean * factor).reshape(shape)

    return normalise


@runs("InstanceNormalization")
def instance_normalization(node: gs.Node) -> Run:
    """Over each map of each picture."""
    epsilon = float(node.attrs.get("epsilon", 1e-5))

    def normalise(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        axes = tuple(range(2, x.dim()))
        centred = x - x.mean(axes, keepdim=True)
        shape = (1, -1) + (1,) * (x.dim() - 2)
        spread = torch.rsqrt(centred.square().mean(axes, keepdim=True) + epsilon)
        return centred * spread * scale.reshape(shape) + shift.reshape(shape)

    return normalise


@runs("LRN")
def lrn(node: gs.Node) -> Run:
    """Local response normalisation across channels."""
    size = int(node.attrs["size"])
    alpha, beta = float(node.attrs.get("alpha", 1e-4)), float(node.attrs.get("beta", 0.75))
    bias = float(node.attrs.get("bias", 1.0))

    def normalise(x: Tensor) -> Tensor:
        squares = functional.pad(x.square(), (0, 0, 0, 0, (size - 1) // 2, size // 2))
        channels = x.shape[1]
        first, *others = (squares[:, start : start + channels] for start in range(size))
        total = sum(others, first)
        return x / torch.pow(bias + alpha / size * total, beta)

    return normalise


@runs("MaxPool", "AveragePool")
def pool(node: gs.Node) -> Run:
    """2-D pooling. Windows that hang over the edge (``ceil_mode``) take part as ONNX defines it."""
    if len(node.outputs) > 1:
        raise refused(node, "its indices are used")
    kernel = [int(value) for value in node.attrs["kernel_shape"]]
    if len(kernel) != 2:
        raise refused(node, "only two dimensions are supported")
    strides, dilations = _spatial(node, "strides", 2), _spatial(node, "dilations", 2)
    pads = _pads(node, kernel, strides, dilations)
    sizes, wanted = shape_of(node, node.inputs[0])[2:], shape_of(node, node.outputs[0])[2:]
    over = [
        max(0, (count - 1) * stride + (length - 1) * dilation + 1 - size - pads[axis] - pads[axis + 2])
        for axis, (count, stride, length, dilation, size) in enumerate(
            zip(wanted, strides, kernel, dilations, sizes, strict=True)
        )
    ]
    edge = [pads[0], pads[1], pads[2] + over[0], pads[3] + over[1]]
    if node.op == "MaxPool":
        return lambda x: functional.max_pool2d(_padded(x, edge, float("-inf")), kernel, strides, 0, dilations)
    if tuple(dilations) != (1, 1):
        raise refused(node, "its windows are dilated")
    inside = bool(node.attrs.get("count_include_pad", 0))

    def average(x: Tensor) -> Tensor:
        ones = torch.ones_like(x[:, :1])
        counted = _padded(_padded(ones, pads, 1.0 if inside else 0.0), [0, 0, *over], 0.0)
        total = functional.avg_pool2d(_padded(x, edge, 0.0), kernel, strides)
        return total / functional.avg_pool2d(counted, kernel, strides)

    return average


@runs("GlobalAveragePool", "GlobalMaxPool")
def global_pool(node: gs.Node) -> Run:
    """Over each map."""
    if node.op == "GlobalAveragePool":
        return lambda x: x.mean(tuple(range(2, x.dim())), keepdim=True)
    return lambda x: x.amax(tuple(range(2, x.dim())), keepdim=True)


@runs("Resize", "Upsample")
def resize(node: gs.Node) -> Run:
    """Whole factors with nearest neighbour, and linear with half-pixel or aligned corners."""
    sizes, wanted = shape_of(node, node.inputs[0]), shape_of(node, node.outputs[0])
    mode = node.attrs.get("mode", "nearest")
    place = node.attrs.get("coordinate_transformation_mode", "half_pixel")
    if len(sizes) != 4 or sizes[:2] != wanted[:2]:
        raise refused(node, "it does not resize maps")
    if mode == "nearest" and all(large % small == 0 for small, large in zip(sizes[2:], wanted[2:], strict=True)):
        factors = [large // small for small, large in zip(sizes[2:], wanted[2:], strict=True)]
        return lambda x, *rest: x.repeat_interleave(factors[0], 2).repeat_interleave(factors[1], 3)
    if mode == "linear" and place in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        corners = place == "align_corners"
        return lambda x, *rest: functional.interpolate(x, tuple(wanted[2:]), mode="bilinear", align_corners=corners)
    raise refused(node, f"{mode} with {place} is not supported")


@runs("Pad")
def pad(node: gs.Node) -> Run:
    """Constant, edge or reflected."""
    pads = constant_of(node, 1, "pads")
    value = constant_of(node, 2, "value")
    mode = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}.get(node.attrs.get("mode", "constant"))
    if pads is None or mode is None or constant_of(node, 3) is not None:
        raise refused(node, "this form is not supported")
    numbers = [int(number) for number in pads]
    rank = len(numbers) // 2
    if mode == "constant":
        fill = 0.0 if value is None else float(value)
        return lambda x, *rest: _padded(x, numbers, fill)
    if rank != 4 or any(numbers[axis] for axis in (0, 1, 4, 5)):
        raise refused(node, "it pads more than maps")
    maps = numbers[2:4] + numbers[6:8]
    order = [maps[1], maps[3], maps[0], maps[2]]
    return lambda x, *rest: functional.pad(x, order, mode=mode)
