"""Exporting a graph as an ONNX model, copying each weight once."""

from __future__ import annotations

import math

import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter
from onnx_graphsurgeon.ir.tensor import SparseValues

from deploycc.graph.skeleton import export_without_weights

_SMALL = 1024  # elements; larger constants bypass graphsurgeon's export, which copies them four times


def to_onnx(graph: gs.Graph) -> onnx.ModelProto:
    """Return the graph as an ONNX model of the graph's opset and IR version; the graph is not changed."""
    model, weights = without_own_weights(graph)
    for tensor in weights:
        model.graph.initializer.add().CopyFrom(OnnxExporter.export_tensor_proto(tensor))
    return model


def without_own_weights(graph: gs.Graph) -> tuple[onnx.ModelProto, list[gs.Constant]]:
    """Return the model without the large constants of the outermost graph, and these constants."""
    model = export_without_weights(graph, _SMALL)
    del model.graph.input[len(graph.inputs) :]  # the weights were appended
    weights = []
    for tensor in _large(graph):
        if isinstance(tensor._values, SparseValues):
            model.graph.sparse_initializer.add().CopyFrom(tensor._values.tensor)
        else:
            weights.append(tensor)
    _fill_branches(graph, model.graph, {tensor.name for tensor in _large(graph)})
    return model, weights


def _large(graph: gs.Graph) -> list[gs.Constant]:
    constants = [tensor for tensor in graph.tensors().values() if isinstance(tensor, gs.Constant)]
    return [tensor for tensor in constants if math.prod(tensor.shape) > _SMALL]


def _put_weights_back(graph: gs.Graph, proto: onnx.GraphProto, written: set[str]) -> None:
    """Write large constants into the graph that reads them, unless an outer graph has written them already."""
    for tensor in _large(graph):
        if tensor.name in written:
            continue
        written = written | {tensor.name}
        if isinstance(tensor._values, SparseValues):
            proto.sparse_initializer.add().CopyFrom(tensor._values.tensor)
        else:
            proto.initializer.add().CopyFrom(OnnxExporter.export_tensor_proto(tensor))
    _fill_branches(graph, proto, written)


def _fill_branches(graph: gs.Graph, proto: onnx.GraphProto, written: set[str]) -> None:
    described = [info for info in proto.value_info if info.name not in written]
    del proto.value_info[:]
    proto.value_info.extend(described)  # in a branch, weights were variables while they were left out
    for node, written_node in zip(graph.nodes, proto.node, strict=True):
        for attribute in written_node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _put_weights_back(node.attrs[attribute.name], attribute.g, written)
