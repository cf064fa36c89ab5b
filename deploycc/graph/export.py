"""A graph as an ONNX model, with each weight copied once."""

from __future__ import annotations

import math

import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter
from onnx_graphsurgeon.ir.tensor import SparseValues

from deploycc.graph.skeleton import without_weights

_SMALL = 1024  # elements; what is larger does not go through graphsurgeon's export, which copies it four times


def to_onnx(graph: gs.Graph) -> onnx.ModelProto:
    """Return the graph as an ONNX model of the graph's opset and IR version; the graph stays as it is."""
    model: onnx.ModelProto = gs.export_onnx(without_weights(graph, _SMALL))
    del model.graph.input[len(graph.inputs) :]  # where `without_weights` put the weights
    for tensor in graph.tensors().values():
        if not isinstance(tensor, gs.Constant) or math.prod(tensor.shape) <= _SMALL:
            continue
        if isinstance(tensor._values, SparseValues):
            model.graph.sparse_initializer.add().CopyFrom(tensor._values.tensor)
        else:
            model.graph.initializer.add().CopyFrom(OnnxExporter.export_tensor_proto(tensor))
    return model
