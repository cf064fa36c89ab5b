"""Static shapes of every tensor of a graph, by ONNX shape inference."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

_SMALL = 4096  # elements; larger constants only lend their shape, which keeps weights out of the temporary model


def infer_shapes(graph: gs.Graph) -> None:
    """Fill in ``shape`` and ``dtype`` of the graph's variables, in place; what cannot be inferred stays as it is.

    Large weights are replaced by graph inputs of the same shape in a temporary model, so that inference neither
    copies nor serialises them. Values of small constants are kept: Reshape and Slice read them.
    """
    clone = graph.copy()
    stand_ins = []
    for tensor in clone.tensors().values():
        if isinstance(tensor, gs.Constant) and np.prod(tensor.shape, dtype=np.int64) > _SMALL:
            dtype, shape = tensor.dtype, tuple(tensor.shape)
            stand_ins.append(tensor.to_variable(dtype=dtype, shape=shape))
    clone.inputs = [*clone.inputs, *stand_ins]
    model = onnx.shape_inference.infer_shapes(gs.export_onnx(clone), data_prop=True)
    own = graph.tensors()
    for info in [*model.graph.value_info, *model.graph.output]:
        tensor = own.get(info.name)
        tensor_type = info.type.tensor_type
        if not isinstance(tensor, gs.Variable) or not tensor_type.HasField("shape"):
            continue
        dims = [d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in tensor_type.shape.dim]
        tensor.shape = dims
        if tensor_type.elem_type:
            tensor.dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor_type.elem_type)
