"""A graph without its weights, for shape inference and the text form."""

from __future__ import annotations

import math

import onnx_graphsurgeon as gs


def without_weights(graph: gs.Graph, keep_up_to: int) -> gs.Graph:
    """Return a copy in which constants of more than ``keep_up_to`` elements are graph inputs of the same shape.

    A branch has no inputs, so its constants become inputs of the outermost graph, which branches may read. Nothing
    large is copied or serialised afterwards. The original is not changed.
    """
    clone = graph.copy()
    inputs, names = list(clone.inputs), {tensor.name for tensor in clone.inputs}
    for scope in (clone, *clone.subgraphs(recursive=True)):
        for tensor in scope.tensors().values():
            if isinstance(tensor, gs.Constant) and math.prod(tensor.shape) > keep_up_to:
                dtype, shape = tensor.dtype, list(tensor.shape)  # read before the tensor changes its kind
                variable = tensor.to_variable(dtype=dtype, shape=shape)
                variable.type = "tensor_type"  # graphsurgeon 0.6.1 leaves it out
                if variable.name not in names:
                    names.add(variable.name)
                    inputs.append(variable)
    clone.inputs = inputs
    return clone
