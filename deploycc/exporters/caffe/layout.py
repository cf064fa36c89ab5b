"""Writing operators that only move data."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.exporters.caffe.writer import Writer, required, shape, writes
from deploycc.parsers.caffe_layers import flattened_map


@writes("Concat")
def concat(writer: Writer, node: gs.Node) -> None:
    """Write Concat along an axis."""
    axis = node.attrs["axis"] % len(shape(node.outputs[0]))
    bottoms = [tensor.name for tensor in node.inputs]
    writer.layer(node.name, "Concat", bottoms, [node.outputs[0].name], {"concat_param": {"axis": axis}})


@writes("Split")
def split(writer: Writer, node: gs.Node) -> None:
    """Write Slice with the points between the parts; for a map, convolutions that select (see `_select`)."""
    dims = shape(node.inputs[0])
    axis = node.attrs.get("axis", 0) % len(dims)
    sizes = [shape(top)[axis] for top in node.outputs]
    if axis and len(dims) == 4:
        for top, start, size in zip(node.outputs, np.cumsum([0, *sizes[:-1]]), sizes, strict=True):
            _select(writer, f"{node.name}/{top.name}", node.inputs[0], top, axis, int(start), size)
        return
    points = np.cumsum(sizes)[:-1].tolist()
    tops = [tensor.name for tensor in node.outputs]
    writer.layer(
        node.name, "Slice", [node.inputs[0].name], tops, {"slice_param": {"axis": axis, "slice_point": points}}
    )


@writes("Slice")
def slice_(writer: Writer, node: gs.Node) -> None:
    """Write Slice of one axis: Caffe cuts the whole axis, so the other parts go to Silence."""
    dims = shape(node.inputs[0])
    axes = required(node, 3) if len(node.inputs) > 3 else np.arange(len(required(node, 1)))
    axis = int(axes[0]) % len(dims)
    start, stop, _ = slice(int(required(node, 1)[0]), int(required(node, 2)[0])).indices(dims[axis])
    top = node.outputs[0].name
    if axis and len(dims) == 4:
        _select(writer, node.name, node.inputs[0], node.outputs[0], axis, start, stop - start)
        return
    parts = [(start, f"{top}/before"), (stop - start, top), (dims[axis] - stop, f"{top}/after")]
    tops = [name for size, name in parts if size > 0]
    points = [point for point in (start, stop) if 0 < point < dims[axis]]
    writer.layer(
        node.name, "Slice", [node.inputs[0].name], tops, {"slice_param": {"axis": axis, "slice_point": points}}
    )
    unused = [name for name in tops if name != top]
    if unused:
        writer.layer(f"{node.name}/silence", "Silence", unused, [])


def _select(writer: Writer, name: str, source: gs.Tensor, top: gs.Tensor, axis: int, start: int, size: int) -> None:
    """Select a range of a map with a convolution of ones, because TensorRT's Caffe parser has no Slice.

    Channels: a 1x1 convolution; row k of its weights is one at channel start + k. Rows or columns: a depthwise
    convolution whose kernel is one longer than the number of dropped positions, and one at ``start``.
    """
    _, channels, *plane = source.shape
    if axis == 1:
        weight = np.eye(channels, dtype=np.float32)[start : start + size, :, None, None]
        parameters = {"num_output": size, "kernel_size": 1, "bias_term": False}
    else:
        kernel = [1, 1]
        kernel[axis - 2] = plane[axis - 2] - size + 1
        weight = np.zeros((channels, 1, *kernel), np.float32)
        weight.reshape(channels, -1)[:, start] = 1.0
        group = {"group": channels, "kernel_h": kernel[0], "kernel_w": kernel[1]}
        parameters = {"num_output": channels, "bias_term": False, **group}
    writer.layer(name, "Convolution", [source.name], [top.name], {"convolution_param": parameters}, [weight])


@writes("Transpose")
def transpose(writer: Writer, node: gs.Node) -> None:
    """Write Permute."""
    order = list(node.attrs.get("perm", range(len(shape(node.inputs[0])))[::-1]))
    writer.layer(
        node.name, "Permute", [node.inputs[0].name], [node.outputs[0].name], {"permute_param": {"order": order}}
    )


@writes("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(writer: Writer, node: gs.Node) -> None:
    """Write Reshape to the static output shape, with the batch copied; nothing where only InnerProduct reads it."""
    readers = node.outputs[0].outputs
    flattens = all(reader.op == "Gemm" and flattened_map(reader) is node.inputs[0] for reader in readers)
    if readers and flattens and node.outputs[0].name not in writer.outputs:
        return
    dims = shape(node.outputs[0])
    writer.layer(
        node.name,
        "Reshape",
        [node.inputs[0].name],
        [node.outputs[0].name],
        {"reshape_param": {"shape": {"dim": [0, *dims[1:]]}}},
    )


@writes("Softmax")
def softmax(writer: Writer, node: gs.Node) -> None:
    """Write Softmax over one axis."""
    axis = node.attrs.get("axis", -1) % len(shape(node.inputs[0]))
    writer.layer(node.name, "Softmax", [node.inputs[0].name], [node.outputs[0].name], {"softmax_param": {"axis": axis}})


@writes("Identity", "Dropout")
def identity(writer: Writer, node: gs.Node) -> None:
    """Write Dropout, which copies at inference; TensorRT's Caffe parser has no Split."""
    writer.layer(node.name, "Dropout", [node.inputs[0].name], [node.outputs[0].name])
