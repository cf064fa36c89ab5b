"""Static shapes of every tensor of a graph, by ONNX shape inference."""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs

from deploycc.graph.skeleton import export_without_weights

_READ_BY_INFERENCE = 4096  # elements: inference reads operands of Reshape and Slice, not weights


def infer_shapes(graph: gs.Graph) -> None:
    """Fill in ``shape`` and ``dtype`` of variables, subgraphs included; those that cannot be inferred are unchanged."""
    proto = without_weights_as_onnx(graph)
    _fill(graph, onnx.shape_inference.infer_shapes(proto, data_prop=True).graph)


def without_weights_as_onnx(graph: gs.Graph) -> onnx.ModelProto:
    """Return what inference needs of a graph: all but the values of its weights."""
    return export_without_weights(graph, _READ_BY_INFERENCE)


def _fill(graph: gs.Graph, inferred: onnx.GraphProto) -> None:
    # Only what this graph itself writes: a branch may state old shapes of outer tensors.
    own = {tensor.name: tensor for node in graph.nodes for tensor in node.outputs}
    for info in [*inferred.value_info, *inferred.output]:
        tensor = own.get(info.name)
        tensor_type = info.type.tensor_type
        if not isinstance(tensor, gs.Variable) or (tensor.dtype is None and not tensor_type.elem_type):
            continue  # a shape without a type cannot be written
        if tensor_type.HasField("shape"):
            tensor.shape = [
                d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in tensor_type.shape.dim
            ]
        if tensor_type.elem_type:
            tensor.dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor_type.elem_type)
    for node, proto in zip(graph.nodes, inferred.node, strict=True):
        for attribute in proto.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _fill(node.attrs[attribute.name], attribute.g)
