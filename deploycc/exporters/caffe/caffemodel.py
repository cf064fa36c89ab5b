"""Writing ``.caffemodel``: NetParameter in protobuf wire format, weights only.

Fields used (caffe.proto): NetParameter.name = 1, .layer = 100; LayerParameter.name = 1, .type = 2, .bottom = 3,
.top = 4, .blobs = 7; BlobProto.data = 5 (packed float), .shape = 7; BlobShape.dim = 1 (packed int64).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_LENGTH_DELIMITED = 2


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """One layer's blobs, float32, in Caffe's order."""

    name: str
    type: str
    bottoms: Sequence[str] = ()
    tops: Sequence[str] = ()
    blobs: Sequence[NDArray[np.float32]] = field(default_factory=tuple)


def write_caffemodel(stream: BinaryIO, name: str, layers: Iterable[LayerWeights]) -> None:
    """Write the layers to ``stream``; at most one layer is copied in memory."""
    stream.write(_text(1, name))
    for layer in layers:
        body = [_text(1, layer.name), _text(2, layer.type)]
        body += [_text(3, bottom) for bottom in layer.bottoms]
        body += [_text(4, top) for top in layer.tops]
        blobs = [_blob(blob) for blob in layer.blobs]
        size = sum(map(len, body)) + sum(len(head) + len(data) for head, data in blobs)
        stream.write(_key(100) + _varint(size) + b"".join(body))
        for head, data in blobs:
            stream.write(head)
            stream.write(data)


def _blob(values: NDArray[np.float32]) -> tuple[bytes, memoryview]:
    """Return the bytes before a blob's data, and the data."""
    data = np.ascontiguousarray(values, dtype="<f4")
    dims = b"".join(_varint(int(dim)) for dim in data.shape)
    shape = _key(1) + _varint(len(dims)) + dims
    head = _key(7) + _varint(len(shape)) + shape + _key(5) + _varint(data.nbytes)
    return _key(7) + _varint(len(head) + data.nbytes) + head, data.reshape(-1).view(np.uint8).data


def _text(number: int, value: str) -> bytes:
    raw = value.encode()
    return _key(number) + _varint(len(raw)) + raw


def _key(number: int) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
