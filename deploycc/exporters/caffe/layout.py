"""Operators that move values without computing."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from deploycc.exporters.caffe.writer import Writer, refuse, required, shape, writes


@writes("Concat")
def concat(writer: Writer, node: gs.Node) -> None:
    """Concat along an axis."""
    axis = node.attrs["axis"] % len(shape(node, node.outputs[0]))
    bottoms = [tensor.name for tensor in node.inputs]
    writer.layer(node.name, "Concat", bottoms, [node.outputs[0].name], {"concat_param": {"axis": axis}})


@writes("Split")
def split(writer: Writer, node: gs.Node) -> None:
    """Split -> Slice with the points between the parts."""
    axis = node.attrs.get("axis", 0) % len(shape(node, node.inputs[0]))
    sizes = [shape(node, top)[axis] for top in node.outputs]
    points = np.cumsum(sizes)[:-1].tolist()
    tops = [tensor.name for tensor in node.outputs]
    writer.layer(
        node.name, "Slice", [node.inputs[0].name], tops, {"slice_param": {"axis": axis, "slice_point": points}}
    )


@writes("Slice")
def slice_(writer: Writer, node: gs.Node) -> None:
    """Slice of one axis: Caffe cuts the whole axis, the other parts are silenced."""
    dims = shape(node, node.inputs[0])
    axes = required(node, 3) if len(node.inputs) > 3 else np.arange(len(required(node, 1)))
    steps = required(node, 4) if len(node.inputs) > 4 else np.ones(1)
    if len(axes) != 1 or list(steps) != [1]:
        refuse(node, "only one axis with step 1 can be cut")
    axis = int(axes[0]) % len(dims)
    start, stop, _ = slice(int(required(node, 1)[0]), int(required(node, 2)[0])).indices(dims[axis])
    top = node.outputs[0].name
    parts = [(start, f"{top}/before"), (stop - start, top), (dims[axis] - stop, f"{top}/after")]
    tops = [name for size, name in parts if size > 0]
    points = [point for point in (start, stop) if 0 < point < dims[axis]]
    writer.layer(
        node.name, "Slice", [node.inputs[0].name], tops, {"slice_param": {"axis": axis, "slice_point": points}}
    )
    unused = [name for name in tops if name != top]
    if unused:
        writer.layer(f"{node.name}/silence", "Silence", unused, [])


@writes("Transpose")
def transpose(writer: Writer, node: gs.Node) -> None:
    """Transpose -> Permute."""
    order = list(node.attrs.get("perm", range(len(shape(node, node.inputs[0])))[::-1]))
    writer.layer(
        node.name, "Permute", [node.inputs[0].name], [node.outputs[0].name], {"permute_param": {"order": order}}
    )


@writes("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(writer: Writer, node: gs.Node) -> None:
    """Everything that only regroups a static shape -> Reshape to that shape, the batch taken over."""
    dims = shape(node, node.outputs[0])
    if dims[0] != shape(node, node.inputs[0])[0]:
        refuse(node, "it regroups the batch axis")
    writer.layer(
        node.name,
        "Reshape",
        [node.inputs[0].name],
        [node.outputs[0].name],
        {"reshape_param": {"shape": {"dim": [0, *dims[1:]]}}},
    )


@writes("Softmax")
def softmax(writer: Writer, node: gs.Node) -> None:
    """Softmax over one axis."""
    axis = node.attrs.get("axis", -1) % len(shape(node, node.inputs[0]))
    writer.layer(
        node.name, "Softmax", [node.inputs[0].name], [node.outputs[0].name], {"softmax_param": {"axis": axis}}
    )


@writes("Identity", "Dropout")
def identity(writer: Writer, node: gs.Node) -> None:
    """Dropout, which copies when it does not train; TensorRT's Caffe parser has no Split."""
    writer.layer(node.name, "Dropout", [node.inputs[0].name], [node.outputs[0].name])
