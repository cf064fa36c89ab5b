"""What a target's parser takes: operators, opset, types, with the first release that takes what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Contract:
    """The parser that will read the network.

    Attributes:
        parser: ``onnxruntime``, ``tensorrt-rtx``, ``tensorrt-onnx`` or ``tensorrt-caffe``.
        version: TensorRT version as numbers, ``(8, 2, 1)``; empty where the runtime is not TensorRT.
        max_opset, max_ir: newest the network may use.
        int64: whether INT64 tensors may stay.
    """

    parser: Literal["onnxruntime", "tensorrt-rtx", "tensorrt-onnx", "tensorrt-caffe"]
    version: tuple[int, ...] = ()
    max_opset: int = 21
    max_ir: int = 10
    int64: bool = True
