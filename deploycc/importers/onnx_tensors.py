"""Checks of everything that an ONNX file states in numbers: element types, weights, attributes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.errors import ModelError
from deploycc.graph.shapes import without_weights_as_onnx
from deploycc.importers.onnx_attributes import TYPES, check_attributes

_WEIGHED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "InstanceNormalization", "PRelu", "Mul")
"""Operators whose constants are weights. Elsewhere infinity has a use: a bound of Clip, a masked score."""


def check_types(model: onnx.ModelProto, path: Path) -> None:
    """Refuse element types that ONNX does not define, inputs and outputs without one, and tensors of strings.

    Raises:
        ModelError: ``onnx-element-type``, ``onnx-strings``.
    """
    for info in (*model.graph.input, *model.graph.output):
        kind = info.type.WhichOneof("value")
        if kind is None or (kind == "tensor_type" and not info.type.tensor_type.elem_type):
            raise ModelError(
                "onnx-element-type",
                f"the file does not say what the elements of {info.name} are",
                context={"file": path, "tensor": info.name},
                note="ONNX asks for the type of every input and output",
            )
    for graph in graphs(model.graph):
        described = [(info.name, info.type.tensor_type.elem_type) for info in (*graph.input, *graph.output)]
        described += [(info.name, info.type.tensor_type.elem_type) for info in graph.value_info]
        described += [(name, tensor.data_type) for name, _, tensor in _constants(graph)]
        for name, kind in described:
            if kind not in TYPES and kind != onnx.TensorProto.UNDEFINED:
                raise ModelError(
                    "onnx-element-type",
                    f"the tensor {name} has the element type {kind}, which ONNX does not define",
                    context={"file": path, "tensor": name},
                    note=f"ONNX {onnx.__version__} defines 1 to {max(TYPES)}",
                )
            if kind == onnx.TensorProto.STRING:
                raise _strings_error(name, path)
        for node in graph.node:
            if _makes_strings(node):
                raise _strings_error(node.output[0] if node.output else node.name, path)


def _makes_strings(node: onnx.NodeProto) -> bool:
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Constant":
        return "value_string" in attributes or "value_strings" in attributes
    return node.op_type == "Cast" and "to" in attributes and attributes["to"].i == onnx.TensorProto.STRING


def _strings_error(name: str, path: Path) -> ModelError:
    return ModelError(
        "onnx-strings",
        f"the tensor {name} holds strings",
        context={"file": path, "tensor": name},
        note="an engine computes with numbers only",
        hint="export the network without what makes text of its results",
    )


def check_output_types(graph: gs.Graph, path: Path) -> None:
    """Refuse an output whose stated element type is not the one that the network computes.

    Raises:
        ModelError: ``onnx-output-type``.
    """
    proto = without_weights_as_onnx(graph)
    stated = {output.name: output.type.tensor_type.elem_type for output in proto.graph.output}
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("elem_type")
    try:
        inferred = onnx.shape_inference.infer_shapes(proto).graph.output
    except onnx.shape_inference.InferenceError:
        return  # the shapes contradict one another, which is said later
    for output in inferred:
        computed = output.type.tensor_type.elem_type
        if computed and computed != stated[output.name]:
            names = [onnx.TensorProto.DataType.Name(kind) for kind in (stated[output.name], computed)]
            raise ModelError(
                "onnx-output-type",
                f"the output {output.name} is stated as {names[0]} and computed as {names[1]}",
                context={"file": path, "tensor": output.name},
                note="ONNX Runtime refuses such a file, too",
                hint="export the network again",
            )


def check_numbers(model: onnx.ModelProto, path: Path) -> None:
    """Refuse data that do not match their shape and type, NaN, infinite weights, and undefined values of attributes.

    Raises:
        ModelError: ``onnx-weight-data``, ``nan-weights``, ``infinite-weights``, ``onnx-attribute-value``.
    """
    for graph in graphs(model.graph):
        weights = {name for node in graph.node if node.op_type in _WEIGHED for name in node.input}
        for name, where, tensor in _constants(graph):
            values = _values(tensor, name, path)
            if values.dtype.kind != "f" and not str(values.dtype).startswith("bfloat"):
                continue
            numbers = values.astype(np.float32) if values.dtype.kind != "f" else values
            if count := int(np.isnan(numbers).sum()):
                raise ModelError(
                    "nan-weights",
                    f"{count} of {values.size} values of {name} are NaN",
                    context={"file": path, **where},
                    hint="the training diverged; use an earlier snapshot",
                )
            if name in weights and (count := int(np.isinf(numbers).sum())):
                raise ModelError(
                    "infinite-weights",
                    f"{count} of {values.size} values of {name} are infinite",
                    context={"file": path, **where},
                    hint="the training diverged, or the weights overflowed when they were converted to a smaller type",
                )
        for node in graph.node:
            check_attributes(node, path)


def check_folded(graph: gs.Graph, path: Path) -> None:
    """Refuse NaN and infinite weights among constants that were computed from the file's own ones.

    A type that is converted to a smaller one overflows, and so does arithmetic on constants.

    Args:
        graph: after its constants were folded.
        path: the file.

    Raises:
        ModelError: ``nan-weights``, ``infinite-weights``.
    """
    for scope in (graph, *graph.subgraphs(recursive=True)):
        for node in scope.nodes:
            for tensor in node.inputs:
                if isinstance(tensor, gs.Constant) and np.dtype(tensor.dtype).kind == "f":
                    _check_folded(tensor, node, path)


def _check_folded(tensor: gs.Constant, node: gs.Node, path: Path) -> None:
    values = np.asarray(tensor.values)
    facts = {
        "context": {"file": path, "node": node.name, "tensor": tensor.name},
        "note": "they are computed from constants of the file",
        "hint": "check the constants of the layer, and whether a smaller type holds them",
    }
    if count := int(np.isnan(values).sum()):
        raise ModelError("nan-weights", f"{count} of {values.size} values of {tensor.name} are NaN", **facts)  # type: ignore[arg-type]
    if node.op in _WEIGHED and (count := int(np.isinf(values).sum())):
        raise ModelError("infinite-weights", f"{count} of {values.size} values of {tensor.name} are infinite", **facts)  # type: ignore[arg-type]


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and the graphs of its branches and loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, dict[str, str], onnx.TensorProto]]:
    """Yield initialisers and the tensors of Constant nodes: name, where it is, data."""
    for tensor in graph.initializer:
        yield tensor.name, {"tensor": tensor.name}, tensor
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                name = node.output[0] if node.output else node.name
                yield name, {"node": node.name or name}, attribute.t


def _values(tensor: onnx.TensorProto, name: str, path: Path) -> NDArray[np.generic]:
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError) as reason:
        raise ModelError(
            "onnx-weight-data",
            f"the data of {name} do not match its shape and type",
            context={"file": path, "tensor": name, "shape": list(tensor.dims)},
            note=str(reason).strip().splitlines()[0] if str(reason).strip() else type(reason).__name__,
        ) from None
