"""Writing a graph as an ONNX file with one weight in memory at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter
from onnx_graphsurgeon.ir.tensor import LazyValues

from deploycc.graph.export import without_own_weights

_GRAPH = onnx.ModelProto.GRAPH_FIELD_NUMBER
_INITIALIZER = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
_RAW_DATA = onnx.TensorProto.RAW_DATA_FIELD_NUMBER

Pieces = Sequence["bytes | memoryview"]


def write_onnx(graph: gs.Graph, metadata: Mapping[str, str], file: BinaryIO) -> str:
    """Write what `deploycc.graph.export.to_onnx` returns, without ever holding all of it.

    A protobuf message is the concatenation of its fields, in any order; a nested message is preceded by its length.

    Args:
        graph: not changed.
        metadata: entries of the model's metadata.
        file: open for writing.

    Returns:
        SHA-256 of the bytes, hexadecimal.
    """
    model, weights = without_own_weights(graph)
    for key, value in metadata.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    body = model.graph.SerializeToString()
    model.ClearField("graph")
    size = len(body) + sum(len(piece) for weight in weights for piece in _initializer(weight))
    digest = hashlib.sha256()
    for piece in (model.SerializeToString(), _key(_GRAPH), _varint(size), body):
        digest.update(piece)
        file.write(piece)
    for weight in weights:
        for part in _initializer(weight):
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


def _initializer(weight: gs.Constant) -> Pieces:
    """Return a weight as a field of the graph; an array of an ordinary type is not copied."""
    values = weight._values
    ordinary = not isinstance(values, LazyValues) and values.dtype.kind in "fi"
    if not ordinary or weight.export_dtype not in (None, values.dtype):
        whole = OnnxExporter.export_tensor_proto(weight).SerializeToString()
        return _key(_INITIALIZER), _varint(len(whole)), whole
    kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
    head = onnx.TensorProto(name=weight.name, dims=values.shape, data_type=kind).SerializeToString()
    numbers = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data
    head += _key(_RAW_DATA) + _varint(len(numbers))
    return _key(_INITIALIZER), _varint(len(head) + len(numbers)), head, numbers


def _key(number: int) -> bytes:
    """Return the key of a length-delimited field, such as bytes or a message."""
    return _varint(number << 3 | 2)


def _varint(value: int) -> bytes:
    """Encode seven bits per byte, lowest first; the highest bit of a byte marks that more follow."""
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
