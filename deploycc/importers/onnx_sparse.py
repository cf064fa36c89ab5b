"""Sparse constants of an ONNX file, which neither TensorRT's parser nor graphsurgeon reads everywhere."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from deploycc.errors import ModelError
from deploycc.importers.onnx_sizes import LARGEST
from deploycc.importers.onnx_tensors import graphs


def expand_sparse(model: onnx.ModelProto, path: Path) -> None:
    """Write sparse initialisers and sparse values of Constant nodes out as ordinary initialisers, in place.

    Raises:
        ModelError: ``onnx-weight-data``, ``onnx-too-large``.
    """
    for graph in graphs(model.graph):
        sparse = {tensor.values.name: tensor for tensor in graph.sparse_initializer}
        for node in list(graph.node):
            if node.op_type == "Constant" and [attribute.name for attribute in node.attribute] == ["sparse_value"]:
                sparse[node.output[0]] = node.attribute[0].sparse_tensor
                graph.node.remove(node)
        graph.initializer.extend(_dense(name, tensor, path) for name, tensor in sparse.items())
        del graph.sparse_initializer[:]


def _dense(name: str, tensor: onnx.SparseTensorProto, path: Path) -> onnx.TensorProto:
    """Return the values at their places among zeros; places are numbers in row-major order, or a row of axes each."""
    context = {"file": path, "tensor": name, "shape": list(tensor.dims)}
    size = math.prod(tensor.dims)
    if size > LARGEST:
        note = f"at most {LARGEST:,} are supported, which take 1 GiB in FP32"
        raise ModelError("onnx-too-large", f"the tensor {name} has {size:,} elements", context=context, note=note)
    try:
        values, places = numpy_helper.to_array(tensor.values), numpy_helper.to_array(tensor.indices)
        dense = np.zeros(tuple(tensor.dims), values.dtype)
        if places.ndim == 2:
            dense[tuple(places.T)] = values
        else:
            dense.reshape(-1)[places] = values
    except (ValueError, TypeError, KeyError, IndexError) as reason:
        raise ModelError(
            "onnx-weight-data",
            f"the data of {name} do not match its shape and type",
            context=context,
            note=str(reason).strip().splitlines()[0],
        ) from None
    return numpy_helper.from_array(dense, name)
