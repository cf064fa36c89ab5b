"""The picture tensor that engines are timed on. NumPy makes it where it is installed; many boards have none."""

import array
import ast
import math
import os
import random
import stat
import struct
import sys
from typing import Any, Dict, Optional

from . import plan_file
from .outcome import Failed

_MAGIC = b"\x93NUMPY"
_TYPES = {"f4": "f", "f8": "d", "i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q"}
_LONGEST_HEADER = 1 << 16


def make_input(plan: "Dict[str, Any]", tensor: "Dict[str, Any]", file: "Optional[str]") -> "Any":
    """Return the tensor in 32-bit floats: an array of NumPy's, without NumPy a flat `array.array`.

    Args:
        plan: the plan, which holds the seed of the values.
        tensor: name and shape of the network's input.
        file: a .npy file to read instead; None: standard normal values, the same with NumPy and without.

    Raises:
        Failed: the file cannot be read or has another shape, or the tensor does not fit into memory.
    """
    shape, seed = tuple(tensor["shape"]), plan["measurement"]["seed"]
    numpy = _numpy()
    try:
        if file is not None:
            return _read(numpy, file, shape)
        if numpy is not None:
            return numpy.random.RandomState(seed).standard_normal(shape).astype(numpy.float32)
        return standard_normal(_product(shape), seed)
    except MemoryError as error:
        raise Failed("an input of shape {} does not fit into memory".format(shape)) from error


def make_inputs(plan: "Dict[str, Any]", network: "Dict[str, Any]", file: "Optional[str]") -> "Dict[str, Any]":
    """Return the inputs of a network of the plan by name; see `make_input`.

    Args:
        plan: the plan.
        network: of the plan, or one of a row (`plan_file.parts_of`), whose other inputs are seeded values.
        file: a .npy file with the picture tensor.
    """
    picture = network["input"]["name"]
    return {
        tensor["name"]: make_input(plan, tensor, file if tensor["name"] == picture else None)
        for tensor in plan_file.inputs_of(network)
    }


def _numpy() -> "Any":
    try:
        import numpy
    except ImportError:
        return None
    return numpy


def standard_normal(count: int, seed: int) -> "Any":
    """Return the values of ``numpy.random.RandomState(seed).standard_normal(count)``, as 32-bit floats.

    That is MT19937 seeded by ``init_genrand`` (Matsumoto and Nishimura), and Marsaglia's polar method.
    """
    state = [seed]
    for index in range(1, 624):
        last = state[-1]
        state.append((1812433253 * (last ^ (last >> 30)) + index) & 0xFFFFFFFF)
    generator = random.Random()
    generator.setstate((3, (*state, 624), None))
    uniform, found = generator.random, array.array("f")
    while len(found) < count:
        x, y = 2.0 * uniform() - 1.0, 2.0 * uniform() - 1.0
        square = x * x + y * y
        if 0.0 < square < 1.0:
            factor = math.sqrt(-2.0 * math.log(square) / square)
            found.append(factor * y)
            found.append(factor * x)
    del found[count:]
    return found


def _product(shape: "Any") -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _read(numpy: "Any", path: str, shape: "Any") -> "Any":
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe could keep its reader for ever
            raise Failed("cannot read the input {}: it is not an ordinary file".format(path))
        if numpy is None:
            written, load = _plain(path)
        else:
            mapped = numpy.load(path, mmap_mode="r")
            written, load = mapped.shape, lambda: numpy.array(mapped, numpy.float32)
        if written != shape:
            raise Failed("the input {} has shape {}, the network takes {}".format(path, written, shape))
        return load()
    except OSError as error:
        raise Failed("cannot read the input {}: {}".format(path, error.strerror or error)) from error
    except (Failed, MemoryError):
        raise
    except Exception as error:  # NumPy and literal_eval raise many kinds for a file that is something else
        raise Failed("cannot read the input {}: {}".format(path, error)) from error


def _plain(path: str) -> "Any":
    """Return the shape of a .npy file, and a function that reads its values.

    Raises:
        ValueError: not a `.npy` file, or one that only NumPy reads.
    """
    with open(path, "rb") as file:
        start = file.read(8)
        if start[:6] != _MAGIC:
            raise ValueError("it is not a .npy file")
        size = struct.unpack("<H", file.read(2))[0] if start[6] == 1 else struct.unpack("<I", file.read(4))[0]
        described = ast.literal_eval(file.read(min(size, _LONGEST_HEADER)).decode("latin-1"))
        first = file.tell()
    kind, shape = described["descr"], tuple(described["shape"])
    if kind[1:] not in _TYPES or (described["fortran_order"] and len(shape) > 1):
        raise ValueError("without NumPy only C-ordered arrays of plain numbers can be read")

    def load() -> "Any":
        found = array.array(_TYPES[kind[1:]])
        with open(path, "rb") as file:
            file.seek(first)
            found.fromfile(file, _product(shape))
        if kind[0] in "<>" and (kind[0] == ">") != (sys.byteorder == "big"):
            found.byteswap()
        return array.array("f", found)

    return shape, load
