"""Operators that move, cut and join, and those that reduce."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import Tensor
from torch.nn import functional

from deploycc.trainable.table import Run, constant_of, numbers_of, refused, runs, shape_of


@runs("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(node: gs.Node) -> Run:
    """Everything that keeps the order of the elements; the shape is that of the graph."""
    shape = shape_of(node, node.outputs[0])
    return lambda x, *rest: x.reshape(shape)


@runs("Transpose")
def transpose(node: gs.Node) -> Run:
    """Dimensions in another order."""
    order = node.attrs.get("perm")
    return lambda x: x.permute(*(order or reversed(range(x.dim()))))


@runs("Concat")
def concat(node: gs.Node) -> Run:
    """Constants may take part."""
    axis = int(node.attrs["axis"])
    return lambda *values: torch.cat(values, axis)


@runs("Split")
def split(node: gs.Node) -> Run:
    """Into the sizes of the outputs."""
    axis = int(node.attrs.get("axis", 0))
    sizes = [shape_of(node, output)[axis] for output in node.outputs]
    return lambda x, *rest: torch.split(x, sizes, axis)


@runs("Slice")
def cut(node: gs.Node) -> Run:
    """Any steps, from either end."""
    starts, ends = numbers_of(node, 1, "starts"), numbers_of(node, 2, "ends")
    if starts is None or ends is None:
        raise refused(node, "it says neither start nor end")
    axes = numbers_of(node, 3, "axes") or list(range(len(starts)))
    steps = numbers_of(node, 4) or [1] * len(starts)
    sizes = shape_of(node, node.inputs[0])
    picks = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= len(sizes)
        picks.append((axis, list(range(sizes[axis]))[slice(start, end, step)]))

    def take(x: Tensor, *rest: Tensor) -> Tensor:
        for axis, places in picks:
            if places == list(range(places[0], places[0] + len(places))):
                x = x.narrow(axis, places[0], len(places))
            else:
                x = x.index_select(axis, torch.tensor(places, device=x.device))
        return x

    return take


@runs("Gather")
def gather(node: gs.Node) -> Run:
    """With constant indices."""
    indices = constant_of(node, 1)
    if indices is None:
        raise refused(node, "it has no indices")
    axis = int(node.attrs.get("axis", 0))
    size = shape_of(node, node.inputs[0])[axis]
    places = torch.from_numpy(np.asarray(indices, np.int64).reshape(-1) % size)
    shape = shape_of(node, node.outputs[0]) if node.outputs[0].shape else list(indices.shape)
    return lambda x, *rest: x.index_select(axis, places.to(x.device)).reshape(shape)


@runs("Expand", "Tile")
def repeat(node: gs.Node) -> Run:
    """To the shape of the graph."""
    shape = shape_of(node, node.outputs[0])
    if node.op == "Expand":
        return lambda x, *rest: x.expand(shape)
    return lambda x, *rest: x.repeat([large // small for small, large in zip(x.shape, shape, strict=True)])


@runs("DepthToSpace", "SpaceToDepth")
def blocks(node: gs.Node) -> Run:
    """Channels to places, and back."""
    size = int(node.attrs["blocksize"])
    if node.op == "SpaceToDepth":

        def to_depth(x: Tensor) -> Tensor:
            n, c, h, w = x.shape
            x = x.reshape(n, c, h // size, size, w // size, size).permute(0, 3, 5, 1, 2, 4)
            return x.reshape(n, c * size * size, h // size, w // size)

        return to_depth
    if node.attrs.get("mode", "DCR") == "CRD":
        return lambda x: functional.pixel_shuffle(x, size)

    def to_space(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.reshape(n, size, size, c // size**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(n, c // size**2, h * size, w * size)

    return to_space


_REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt(),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keepdim=keep),
}


@runs(*_REDUCTIONS)
def reduction(node: gs.Node) -> Run:
    """Axes are constants, or an attribute in older operator sets; none means all."""
    axes = numbers_of(node, 1, "axes")
    if axes is None and node.attrs.get("noop_with_empty_axes"):
        return lambda x, *rest: x
    keep = bool(node.attrs.get("keepdims", 1))
    reduce = _REDUCTIONS[node.op]
    return lambda x, *rest: reduce(x, tuple(range(x.dim())) if axes is None else tuple(axes), keep)


@runs("Softmax", "LogSoftmax")
def softmax(node: gs.Node) -> Run:
    """Over one axis, as from operator set 13 on."""
    axis = int(node.attrs.get("axis", -1))
    run: Callable[..., Tensor] = functional.softmax if node.op == "Softmax" else functional.log_softmax
    return lambda x: run(x, dim=axis)
