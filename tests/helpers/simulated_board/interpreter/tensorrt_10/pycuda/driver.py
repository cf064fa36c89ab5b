"""The part of pycuda.driver that runs engines."""

from __future__ import annotations

from typing import Any

import numpy as np

MEMORY: dict[int, np.ndarray] = {}
"""Allocated memory by its address."""


def init() -> None:
    """Start the driver."""


class _Context:
    def pop(self) -> None:
        MEMORY.clear()


class Device:
    """A GPU."""

    def __init__(self, ordinal: int) -> None:
        self.ordinal = ordinal

    def make_context(self) -> _Context:
        """Return a context, which is current."""
        return _Context()


class Stream:
    """What is enqueued is done at once."""

    handle = 1

    def synchronize(self) -> None:
        """Nothing is left to wait for."""


def pagelocked_empty(shape: Any, dtype: Any) -> np.ndarray:
    """Return memory of the host."""
    return np.empty(shape, dtype)


def mem_alloc(size: int) -> int:
    """Return the address of so many bytes."""
    memory = np.zeros(size, np.uint8)
    address = int(memory.ctypes.data)
    MEMORY[address] = memory
    return address


def memcpy_htod_async(device: int, host: np.ndarray, stream: Stream) -> None:
    """Copy to the GPU."""
    MEMORY[device][:] = host.reshape(-1).view(np.uint8)


def memcpy_dtoh_async(host: np.ndarray, device: int, stream: Stream) -> None:
    """Copy from the GPU."""
    host.reshape(-1).view(np.uint8)[:] = MEMORY[device]
