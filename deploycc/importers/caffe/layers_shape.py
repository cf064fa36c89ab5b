"""Layers that rearrange values without changing them, and reductions along axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.importers.caffe.layer import MANY, Emitted, Layer, emits
from deploycc.importers.caffe.layers_convolution import positive


@emits("Split", tops=(1, MANY))
def split(layer: Layer) -> Emitted:
    """The input under several names."""
    return layer.inputs * len(layer.definition.tops)


@emits("Silence", bottoms=(0, MANY), tops=(0, 0))
def silence(layer: Layer) -> Emitted:
    """Nothing: it only reads its inputs, so that they are not outputs of the network."""
    return []


@emits("Flatten", param="flatten_param", fields="axis end_axis")
def flatten(layer: Layer) -> Emitted:
    """Join the axes from ``axis`` to ``end_axis``."""
    shape = layer.shape()
    axis = layer.axis(layer.param.integer("axis", 1), len(shape))
    end = layer.axis(layer.param.integer("end_axis", -1), len(shape), "end_axis")
    if end < axis:
        raise layer.error("caffe-wrong-axis", f"end_axis {end} is before axis {axis}")
    out = (*shape[:axis], math.prod(shape[axis : end + 1]), *shape[end + 1 :])
    if axis == 1 and end == len(shape) - 1 and len(shape) > 2:
        return [layer.node("Flatten", layer.inputs, out, {"axis": 1})]
    return [layer.reshaped(layer.inputs[0], out)]


@emits("Reshape", param="reshape_param", fields="axis num_axes shape")
def reshape(layer: Layer) -> Emitted:
    """Change the shape: 0 keeps a dimension, -1 takes the rest; only ``num_axes`` axes from ``axis`` on change."""
    shape = layer.shape()
    start = layer.axis(layer.param.integer("axis", 0), len(shape), end=True)
    count = layer.param.integer("num_axes", -1)
    stop = len(shape) if count == -1 else start + count
    if count < -1 or stop > len(shape):
        raise layer.error("caffe-wrong-axis", f"num_axes {count} from axis {start} on exceeds {len(shape)} dimensions")
    dims = layer.param.message("shape").integers("dim")
    if start == 0 and dims[:1] == [layer.network.batch]:
        dims[0] = 1
    middle = []
    for index, dim in enumerate(dims):
        if dim == 0 and start + index >= len(shape):
            raise layer.error("caffe-wrong-axis", f"dim 0 keeps axis {start + index}, but the input is {list(shape)}")
        middle.append(shape[start + index] if dim == 0 else dim)
    out = [*shape[:start], *middle, *shape[stop:]]
    total = math.prod(shape)
    if out.count(-1) == 1:
        rest = math.prod(dim for dim in out if dim != -1)
        out[out.index(-1)] = total // rest if rest else 0
    if math.prod(out) != total or min(out, default=1) < 1:
        raise layer.error("caffe-shape-mismatch", f"cannot reshape {list(shape)} to {dims}")
    return [layer.reshaped(layer.inputs[0], out)]


@emits("Permute", param="permute_param", fields="order")
def permute(layer: Layer) -> Emitted:
    """Reorder the axes; those not listed follow in their own order."""
    shape = layer.shape()
    order = [layer.axis(value, len(shape), "order") for value in layer.param.integers("order")]
    if len(set(order)) != len(order):
        raise layer.error("caffe-wrong-value", f"order {order} names an axis twice")
    order += [axis for axis in range(len(shape)) if axis not in order]
    if order == sorted(order):
        return layer.inputs
    return [layer.node("Transpose", layer.inputs, [shape[axis] for axis in order], {"perm": order})]


@emits("Slice", param="slice_param", fields="axis slice_dim slice_point", tops=(1, MANY))
def slice_(layer: Layer) -> Emitted:
    """Cut along an axis at the slice points, or into equal parts."""
    shape = layer.shape()
    axis = layer.axis(layer.param.integer("axis", layer.param.integer("slice_dim", 1)), len(shape))
    tops = len(layer.definition.tops)
    points = layer.param.integers("slice_point")
    if not points:
        if shape[axis] % tops:
            raise layer.error(
                "caffe-wrong-value", f"axis {axis} of {shape[axis]} does not split into {tops} equal parts"
            )
        points = [shape[axis] // tops * index for index in range(1, tops)]
    edges = [0, *points, shape[axis]]
    if len(points) != tops - 1 or any(b <= a for a, b in pairwise(edges)):
        raise layer.error(
            "caffe-wrong-value", f"slice points {points} do not cut axis {axis} of {shape[axis]} into {tops} parts"
        )
    if tops == 1:
        return layer.inputs
    return [_cut(layer, [axis], [start], [stop], f"part{index}") for index, (start, stop) in enumerate(pairwise(edges))]


@emits("Crop", param="crop_param", fields="axis offset", bottoms=(2, 2))
def crop(layer: Layer) -> Emitted:
    """Crop the first input to the size of the second, from ``axis`` on."""
    shape, target = layer.shape(), layer.shape(1)
    axis = layer.axis(layer.param.integer("axis", 2), len(shape))
    offsets = layer.param.integers("offset") or [0]
    axes = list(range(axis, len(shape)))
    if len(offsets) not in (1, len(axes)) or len(shape) != len(target):
        raise layer.error("caffe-wrong-value", f"{len(offsets)} offsets for {len(axes)} cropped axes")
    starts = offsets * len(axes) if len(offsets) == 1 else offsets
    stops = [start + target[a] for a, start in zip(axes, starts, strict=True)]
    if any(start < 0 or stop > shape[a] for a, start, stop in zip(axes, starts, stops, strict=True)):
        raise layer.error("caffe-shape-mismatch", f"cannot crop {list(target)} at {starts} out of {list(shape)}")
    if all(shape[a] == target[a] for a in axes):
        return layer.inputs[:1]
    return [_cut(layer, axes, starts, stops, "slice")]


def _cut(layer: Layer, axes: Sequence[int], starts: Sequence[int], stops: Sequence[int], part: str) -> gs.Variable:
    shape = list(layer.shape())
    for axis, start, stop in zip(axes, starts, stops, strict=True):
        shape[axis] = stop - start
    operands = [
        layer.integers(f"{part}_{name}", values)
        for name, values in (("starts", starts), ("ends", stops), ("axes", axes))
    ]
    return layer.node("Slice", [layer.inputs[0], *operands], shape, part=part)


@emits("Tile", param="tile_param", fields="axis tiles")
def tile(layer: Layer) -> Emitted:
    """Repeat along an axis."""
    shape = list(layer.shape())
    axis = layer.axis(layer.param.integer("axis", 1), len(shape))
    tiles = positive(layer, "tiles")
    repeats = [tiles if index == axis else 1 for index in range(len(shape))]
    shape[axis] *= tiles
    return [layer.node("Tile", [layer.inputs[0], layer.integers("repeats", repeats)], shape)]


@emits("ShuffleChannel", param="shuffle_channel_param", fields="group")
def shuffle_channel(layer: Layer) -> Emitted:
    """Interleave the channels of ``group`` groups (Zhang et al., ShuffleNet, 2017)."""
    batch, channels, height, width = shape = layer.image_shape()
    group = positive(layer, "group", 1)
    if channels % group:
        raise layer.error("caffe-wrong-value", f"group {group} does not divide {channels} channels")
    if group == 1:
        return layer.inputs
    grouped = layer.reshaped(layer.inputs[0], (batch, group, channels // group, height, width), "group")
    interleaved = (batch, channels // group, group, height, width)
    transposed = layer.node("Transpose", [grouped], interleaved, {"perm": [0, 2, 1, 3, 4]})
    return [layer.reshaped(transposed, shape, "join")]


@emits("Reduction", param="reduction_param", fields="axis operation coeff")
def reduction(layer: Layer) -> Emitted:
    """Sum, sum of magnitudes, sum of squares or mean over all axes from ``axis`` on, times a coefficient."""
    shape = layer.shape()
    axis = layer.axis(layer.param.integer("axis", 0), len(shape))
    operation = layer.param.choice("operation", {"SUM": 1, "ASUM": 2, "SUMSQ": 3, "MEAN": 4}, "SUM")
    axes, out = list(range(axis, len(shape))), shape[:axis]
    if operation == "SUM":  # opset 13 takes the axes of ReduceSum as an input
        result = layer.node("ReduceSum", [layer.inputs[0], layer.integers("axes", axes)], out, {"keepdims": 0})
    else:
        op = {"ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}[operation]
        result = layer.node(op, layer.inputs, out, {"axes": axes, "keepdims": 0})
    coefficient = layer.param.number("coeff", 1.0)
    if coefficient != 1.0:
        result = layer.node("Mul", [result, layer.scalar("coeff", coefficient)], out, part="scale")
    return [result]


@emits("ArgMax", param="argmax_param", fields="axis top_k out_max_val")
def arg_max(layer: Layer) -> Emitted:
    """Index of the largest value along an axis, as a float; without an axis, of the whole picture."""
    if layer.param.flag("out_max_val") or layer.param.integer("top_k", 1) != 1:
        raise layer.unsupported("out_max_val or top_k above 1", "only the index of the largest value is supported")
    shape, x = layer.shape(), layer.inputs[0]
    if "axis" in layer.param:
        axis = layer.axis(layer.param.integer("axis"), len(shape))
        out: tuple[int, ...] = (*shape[:axis], 1, *shape[axis + 1 :])
    else:
        axis, out = 1, (shape[0], 1, 1)
        x = layer.reshaped(x, (shape[0], math.prod(shape[1:]), 1), "flatten")
    index = layer.node("ArgMax", [x], out, {"axis": axis, "keepdims": 1}, dtype=np.int64)
    return [layer.node("Cast", [index], out, {"to": 1})]
