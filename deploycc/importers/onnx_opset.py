"""Converting an ONNX file to a common operator set without changing what it computes.

ONNX's version converter rewrites nodes whose spelling changed. It misses some whose meaning changed while the spelling
stayed; these are rewritten here, before or after it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.errors import ModelError
from deploycc.graph.edit import constant_values, fresh_name, set_constant, static_shape
from deploycc.importers.onnx_read import first_line
from deploycc.importers.onnx_tensors import graphs

OPSET = 13  # the oldest that passes read and the newest that TensorRT 8.0 to 8.2 accept; newer files keep their own
ROUNDS_DOWN = 10  # the last opset in which Resize and Upsample had no coordinate modes

_BROADCASTS = ("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less")
_ONNX = ("", "ai.onnx")


def to_common_opset(model: onnx.ModelProto, path: Path) -> tuple[onnx.ModelProto, int]:
    """Convert a model with an older operator set to opset 13.

    Returns:
        The model (unchanged if it is newer) and the operator set it was written in.

    Raises:
        ModelError: the model names no ONNX operator set, or the converter refuses it.
    """
    written = next((entry.version for entry in model.opset_import if entry.domain in _ONNX), None)
    if written is None:
        raise ModelError("onnx-no-opset", "the file does not say which operator set it uses", context={"file": path})
    if written < OPSET:
        _prepare(model, written)
        try:
            converted = onnx.version_converter.convert_version(model, OPSET)
        except Exception as reason:  # the converter raises RuntimeError and its own C++ types
            raise ModelError(
                "onnx-opset-conversion",
                f"the network cannot be converted from opset {written} to {OPSET}",
                context={"file": path, "opset": written},
                note=first_line(reason).rpartition(" failed: ")[2],
                hint=f"export it again with opset {OPSET} or newer",
            ) from None
        converted.metadata_props.extend(model.metadata_props)
        model = converted
        if written <= ROUNDS_DOWN:
            _state_coordinates(model.graph)
    model.ir_version = max(model.ir_version, onnx.helper.find_min_ir_version_for(model.opset_import, True))
    return model, int(written)


def _prepare(model: onnx.ModelProto, written: int) -> None:
    """Rewrite nodes that the converter would misread."""
    ranks = _Ranks(model)
    for graph in graphs(model.graph):
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            rewrite = _REWRITES.get(node.op_type) if node.domain in _ONNX else None
            if rewrite is None:
                nodes.append(node)
            else:
                nodes += rewrite(node, written, ranks)
        if len(nodes) != len(graph.node):
            copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
            del graph.node[:]
            graph.node.extend(copies)


class _Ranks:
    """Ranks of tensors by name, inferred when the first is asked for."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._known: dict[str, int] | None = None

    def of(self, name: str) -> int | None:
        """Return the rank of a tensor; None if it is unknown."""
        if self._known is None:
            self._known = {}
            for graph in graphs(onnx.shape_inference.infer_shapes(self._model).graph):
                for info in (*graph.input, *graph.value_info, *graph.output):
                    if info.type.tensor_type.HasField("shape"):
                        self._known[info.name] = len(info.type.tensor_type.shape.dim)
                self._known |= {tensor.name: len(tensor.dims) for tensor in graph.initializer}
        return self._known.get(name)


Rewrite = Callable[[onnx.NodeProto, int, _Ranks], list[onnx.NodeProto]]


def _drop_padding_value(node: onnx.NodeProto, written: int, ranks: _Ranks) -> list[onnx.NodeProto]:
    """Drop the value of a Pad that repeats or mirrors the edge: the converter leaves it where no Pad has it."""
    if written < 11 and _attribute(node, "mode", b"constant") != b"constant":
        _drop(node, "value")
    return [node]


def _drop_spatial(node: onnx.NodeProto, written: int, ranks: _Ranks) -> list[onnx.NodeProto]:
    """Drop ``spatial=0`` where the parameters have one value per channel, as in every export of MXNet.

    It asks for one value per element of a picture, so their rank tells that it is not meant.
    """
    if _attribute(node, "spatial", 1) == 0 and len(node.input) > 1 and ranks.of(node.input[1]) == 1:
        _drop(node, "spatial")
    return [node]


def _flatten_hardmax(node: onnx.NodeProto, written: int, ranks: _Ranks) -> list[onnx.NodeProto]:
    """Before opset 13, Hardmax looked at the axis and all later ones together."""
    stem, source, result = node.name or node.output[0], node.input[0], node.output[0]
    shape, flat, hard = (f"{result}_hardmax_{suffix}" for suffix in ("shape", "flat", "flat_result"))
    make = onnx.helper.make_node
    inner = make("Hardmax", [flat], [hard], name=node.name, axis=1)
    return [
        make("Shape", [source], [shape], name=f"{stem}_shape"),
        make("Flatten", [source], [flat], name=f"{stem}_flatten", axis=_attribute(node, "axis", 1)),
        inner,
        make("Reshape", [hard, shape], [result], name=f"{stem}_reshape"),
    ]


def _align_operand(node: onnx.NodeProto, written: int, ranks: _Ranks) -> list[onnx.NodeProto]:
    """Before opset 7, an attribute said with which axis of the first operand the second one begins."""
    if written > 6 or not _attribute(node, "broadcast", 0) or not any(a.name == "axis" for a in node.attribute):
        return [node]
    first, second = (ranks.of(name) for name in node.input[:2])
    if first is None or second is None:
        return [node]
    axis = int(_attribute(node, "axis", 0)) % max(first, 1)
    missing = first - axis - second
    _drop(node, "axis")
    return _append_axes(node, second, missing)


def _align_slope(node: onnx.NodeProto, written: int, ranks: _Ranks) -> list[onnx.NodeProto]:
    """Before opset 7, the slopes of a PRelu were those of the channels, whatever followed them."""
    rank, slopes = ranks.of(node.input[0]), ranks.of(node.input[1])
    return [node] if written > 6 or rank is None or slopes != 1 else _append_axes(node, slopes, rank - 2)


def _append_axes(node: onnx.NodeProto, rank: int, count: int) -> list[onnx.NodeProto]:
    """Give the second operand of a node ``count`` more axes of one element."""
    if count <= 0:
        return [node]
    aligned = f"{node.output[0]}_aligned"
    axes = list(range(rank, rank + count))
    unsqueeze = onnx.helper.make_node("Unsqueeze", [node.input[1]], [aligned], name=aligned, axes=axes)
    node.input[1] = aligned
    return [unsqueeze, node]


_REWRITES: dict[str, Rewrite] = {
    "BatchNormalization": _drop_spatial,
    "Hardmax": _flatten_hardmax,
    "PRelu": _align_slope,
    "Pad": _drop_padding_value,
    **dict.fromkeys(_BROADCASTS, _align_operand),
}


def _state_coordinates(graph: onnx.GraphProto) -> None:
    """State what Resize and Upsample meant before they had coordinate modes: corners aligned, no half pixels.

    The converter leaves the defaults of opset 11 instead: pixel centres, and the nearest pixel by rounding.
    """
    for scope in graphs(graph):
        for node in scope.node:
            if node.op_type == "Resize" and node.domain in _ONNX:
                _drop(node, "coordinate_transformation_mode", "nearest_mode")
                node.attribute.append(onnx.helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
                node.attribute.append(onnx.helper.make_attribute("nearest_mode", "floor"))


def _attribute(node: onnx.NodeProto, name: str, default: bytes | int) -> bytes | int:
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _drop(node: onnx.NodeProto, *names: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


def round_up_where_shrinking(graph: gs.Graph) -> None:
    """Make the Resize nodes of a network from opset 10 round up along the axes that they shrink, in place.

    ``nearest`` took the pixel before a position when enlarging and the one after it when shrinking. A node that does
    both becomes two. Source: ONNX Runtime 1.32, upsamplebase.h, ``GetNearestPixelFromOriginal``, ``SIMPLE``.

    Args:
        graph: as `to_common_opset` converted it, with its shapes inferred.
    """
    for scope in (graph, *graph.subgraphs(recursive=True)):
        for node in [node for node in scope.nodes if node.op == "Resize" and node.attrs.get("mode") != "linear"]:
            scales = _scales(node)
            if scales is None or (scales >= 1).all():
                continue
            if (scales > 1).any():
                _enlarge_first(graph, scope, node, scales)
                scales = np.minimum(scales, 1)
            set_constant(graph, node, 2, scales, f"{node.outputs[0].name}_scales")
            node.inputs = node.inputs[:3]
            node.attrs["nearest_mode"] = "ceil"


def _scales(node: gs.Node) -> NDArray[np.float32] | None:
    scales = constant_values(node.inputs[2]) if len(node.inputs) > 2 else None
    if scales is not None and scales.size:
        return np.asarray(scales, np.float32)
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    return None if before is None or after is None else np.divide(after, before).astype(np.float32)


def _enlarge_first(graph: gs.Graph, scope: gs.Graph, node: gs.Node, scales: NDArray[np.float32]) -> None:
    source, stem = node.inputs[0], node.outputs[0].name
    shape = static_shape(source)
    grown = None if shape is None else [int(size * max(scale, 1)) for size, scale in zip(shape, scales, strict=True)]
    enlarged = gs.Variable(fresh_name(graph, f"{stem}_enlarged"), dtype=source.dtype, shape=grown)
    constants = [gs.Constant(fresh_name(graph, f"{stem}_enlarging"), np.maximum(scales, 1))]
    inputs = [source, gs.Variable.empty(), *constants]
    attrs = dict(node.attrs)
    scope.nodes.insert(scope.nodes.index(node), gs.Node("Resize", f"{node.name}_enlarge", attrs, inputs, [enlarged]))
    node.inputs[0] = enlarged
