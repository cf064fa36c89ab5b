"""Read Caffe's weight files: the protobuf wire format of ``NetParameter``, without a schema compiler.

Only layers (``layer``, field 100, and the older ``layers``, field 2), their names and their blobs are decoded. Packed
floats become views of the file's bytes; nothing is copied.

Field numbers (caffe.proto): LayerParameter name 1, type 2, blobs 7; V1LayerParameter name 4, blobs 6; BlobProto num,
channels, height, width 1-4, data 5, shape 7, double_data 8; NVIDIA's fork adds raw_data_type 10 and raw_data 12.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploycc.errors import ModelError
from deploycc.files import MODEL_BYTES, read_bytes

_NAME_AND_BLOBS = {2: (4, 6), 100: (1, 7)}  # field of NetParameter -> fields of its layers
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_RAW_TYPES = {0: "<f8", 1: "<f4", 2: "<f2"}

Array = NDArray[np.float32]
_Span = tuple[int, int]


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """The blobs of one layer.

    Attributes:
        name: as in the network definition.
        blobs: float32 arrays in Caffe's shapes; read-only views of the file where it stores packed floats.
    """

    name: str
    blobs: tuple[Array, ...]


def read(path: Path) -> tuple[list[LayerWeights], bytes]:
    """Read the layers that have weights, in file order; also return the file's bytes.

    Raises:
        ModelError: the file is missing, unreadable, empty, truncated, or not a Caffe weight file.
    """
    try:
        data = read_bytes(path, MODEL_BYTES)
    except FileNotFoundError:
        raise ModelError("file-missing", "the weight file does not exist", context={"file": path}) from None
    except OSError as error:
        raise ModelError(
            "file-unreadable", f"the weight file cannot be read: {error.strerror}", context={"file": path}
        ) from None
    if not data:
        raise ModelError("file-empty", "the weight file is empty", context={"file": path})
    _refuse_other_formats(data, path)
    return parse(data, str(path)), data


def parse(data: bytes, file: str) -> list[LayerWeights]:
    """Decode a weight file's bytes.

    Args:
        data: contents of the file; the arrays keep it alive.
        file: its name, for errors.

    Raises:
        ModelError: the bytes end inside a layer, or Caffe does not write such bytes.
    """
    reader = _Reader(data, file)
    layers = []
    for number, wire, value in reader.fields((0, len(data))):
        if wire == _BYTES and number in _NAME_AND_BLOBS:
            layer = reader.layer(value, *_NAME_AND_BLOBS[number])
            if layer.blobs:
                layers.append(layer)
    if not layers:
        raise ModelError(
            "caffe-no-weights",
            "the weight file contains no layer with weights",
            context={"file": file},
            note="a .caffemodel is the binary file that Caffe writes after training",
        )
    return layers


def _refuse_other_formats(data: bytes, path: Path) -> None:
    for magic, what in (
        (b"\x89HDF", "an HDF5 file; only the binary protobuf format is supported"),
        (b"version https://git-lfs", "a Git LFS pointer, not the weights: fetch them with `git lfs pull`"),
        (b"<", "a web page, not weights: the download failed"),
        (b"PK\x03\x04", "a zip archive: unpack it first"),
    ):
        if data.startswith(magic):
            raise ModelError("caffe-not-weights", f"the weight file is {what}", context={"file": path})


class _Reader:
    def __init__(self, data: bytes, file: str) -> None:
        self._data = data
        self._file = file
        self._layer = ""

    def fields(self, span: _Span) -> Iterator[tuple[int, int, _Span]]:
        """Yield (field number, wire type, bytes of the value) of a message."""
        position, end = span
        while position < end:
            key, start = self._varint(position, end)
            number, wire = key >> 3, key & 7
            if wire == _VARINT:
                stop = self._varint(start, end)[1]
            elif wire == _FIXED64:
                stop = start + 8
            elif wire == _FIXED32:
                stop = start + 4
            elif wire == _BYTES:
                length, start = self._varint(start, end)
                stop = start + length
            else:
                raise self._error("caffe-not-weights", f"byte {position} is not what Caffe writes (wire type {wire})")
            if number == 0:
                raise self._error("caffe-not-weights", f"byte {position} is not what Caffe writes (field number 0)")
            if stop > end:
                where = "the file ends" if end == len(self._data) else "its message ends"
                raise self._error(
                    "caffe-truncated-weights",
                    f"field {number} needs {stop - start} bytes from byte {start}, but {where}",
                )
            yield number, wire, (start, stop)
            position = stop

    def layer(self, span: _Span, name_field: int, blob_field: int) -> LayerWeights:
        name, blobs = "", []
        for number, wire, value in self.fields(span):
            if wire != _BYTES:
                continue
            if number == name_field:
                name = self._layer = self._data[slice(*value)].decode("utf-8", errors="replace")
            elif number == blob_field:
                blobs.append(value)
        weights = LayerWeights(name, tuple(self._blob(blob) for blob in blobs))
        self._layer = ""
        return weights

    def _blob(self, span: _Span) -> Array:
        legacy = [0, 0, 0, 0]
        shape: list[int] | None = None
        parts: list[Array] = []
        raw_type, raw = 0, None
        fields = self.fields(span)
        while (field := next(fields, None)) is not None:
            number, wire, value = field
            if number <= 4 and wire == _VARINT:
                legacy[number - 1] = self._varint(*value)[0]
            elif number in (5, 8) and wire == _BYTES:
                parts.append(self._view(value, "<f4" if number == 5 else "<f8"))
            elif number in (5, 8):
                part, after = self._unpacked(number, wire, value, span[1])
                parts.append(part)
                fields = self.fields((after, span[1]))
            elif number == 7 and wire == _BYTES:
                shape = self._shape(value)
            elif number == 10 and wire == _VARINT:
                raw_type = self._varint(*value)[0]
            elif number == 12 and wire == _BYTES:
                raw = value
        if raw is not None:
            if raw_type not in _RAW_TYPES:
                raise self._error("caffe-not-weights", f"raw_data_type {raw_type} is not a floating-point type")
            parts.append(self._view(raw, _RAW_TYPES[raw_type]))
        array = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0, np.float32)
        dims = shape if shape is not None else legacy if any(legacy) else [len(array)]
        if math.prod(dims) != len(array):
            raise self._error("caffe-truncated-weights", f"a blob of shape {dims} has {len(array)} numbers")
        return array.reshape(dims)

    def _view(self, span: _Span, dtype: str) -> Array:
        start, stop = span
        size = np.dtype(dtype).itemsize
        if (stop - start) % size:
            raise self._error("caffe-truncated-weights", f"{stop - start} bytes are not a multiple of {size}")
        with np.errstate(over="ignore"):  # infinite weights are refused when a layer asks for them
            return np.frombuffer(self._data, dtype, (stop - start) // size, start).astype(np.float32, copy=False)

    def _unpacked(self, number: int, wire: int, first: _Span, end: int) -> tuple[Array, int]:
        """Decode a run of unpacked numbers (each with its own tag) at once."""
        value_type = {_FIXED32: "<f4", _FIXED64: "<f8"}.get(wire)
        if value_type is None:
            raise self._error("caffe-not-weights", f"blob data of wire type {wire}")
        record = np.dtype([("tag", "u1"), ("value", value_type)])
        start = first[0] - 1
        rows = np.frombuffer(self._data, record, (end - start) // record.itemsize, start)
        other = np.flatnonzero(rows["tag"] != (number << 3 | wire))
        count = int(other[0]) if len(other) else len(rows)
        with np.errstate(over="ignore"):
            values = rows["value"][:count].astype(np.float32)
        return values, start + count * record.itemsize

    def _shape(self, span: _Span) -> list[int]:
        dims = []
        for number, wire, value in self.fields(span):
            if number != 1:
                continue
            position = value[0]
            while position < value[1]:  # packed, or one number per tag
                dim, position = self._varint(position, value[1])
                dims.append(dim)
                if wire == _VARINT:
                    break
        return dims

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while position < end:
            byte = self._data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
            shift += 7
            if shift > 63:
                raise self._error("caffe-not-weights", f"byte {position} is not what Caffe writes (varint too long)")
        raise self._error("caffe-truncated-weights", f"the bytes end inside a number at byte {position}")

    def _error(self, code: str, message: str) -> ModelError:
        context: dict[str, object] = {"file": self._file}
        if self._layer:
            context["layer"] = self._layer
        hint = "download the file again and compare its size" if code == "caffe-truncated-weights" else None
        return ModelError(code, message, context=context, hint=hint)
