"""NVIDIA GPUs as the CUDA driver lists them: the same order and the same numbers that engines are built for."""

import ctypes
from typing import Any, Dict, List

_CAPABILITY_MAJOR = 75  # CUdevice_attribute, cuda.h
_CAPABILITY_MINOR = 76


def devices() -> "List[Dict[str, Any]]":
    """Return name, ordinal and compute capability of every GPU; empty without a driver or without a GPU."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    count = ctypes.c_int(0)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    return [_device(cuda, ordinal) for ordinal in range(count.value)]


def _device(cuda: "Any", ordinal: int) -> "Dict[str, Any]":
    handle = ctypes.c_int(0)
    cuda.cuDeviceGet(ctypes.byref(handle), ordinal)
    name = ctypes.create_string_buffer(128)
    cuda.cuDeviceGetName(name, len(name), handle)
    numbers = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        value = ctypes.c_int(0)
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle)
        numbers.append(value.value)
    return {
        "ordinal": ordinal,
        "name": name.value.decode("utf-8", "replace"),
        "compute_capability": "{}.{}".format(*numbers),
    }
