"""Targets: one board with one software stack, as data; and what its TensorRT can do, derived in code.

A target is one TOML file in ``targets/`` (shipped inside the package when installed). Its fields are facts; the
capabilities below follow from the TensorRT version and are typed into no file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

Runtime = Literal["onnxruntime", "tensorrt", "tensorrt-rtx"]
Tier = Literal["measured", "built", "planned"]
Conditional = Literal["none", "constant", "select", "equal-shapes", "equal-ranks", "any"]


class Target(BaseModel):
    """One board and one software stack. Field names carry their units."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str
    title: str
    tier: Tier
    """Evidence: ``measured`` built and timed by this project's own tests, ``built`` engines built but never run,
    ``planned`` facts from sources only."""
    architecture: Literal["x86_64", "aarch64"]
    runtime: Runtime
    runtime_version: str | None = None
    """TensorRT version, ``8.2.1``; None: read on the device."""
    model_format: Literal["onnx", "caffe"] = "onnx"
    builder: Literal["onnxruntime", "tensorrt-rtx", "tensorrt-python", "trtexec", "tensorRT_optimization"]
    """What builds the engine where it is built."""
    cuda_device: int | None = None
    """CUDA ordinal on the board (PX2: 0 dGPU, 1 iGPU)."""
    compute_capability: str | None = None
    gpu: str | None = None
    sm_count: int | None = None
    cuda_cores: int | None = None
    memory_mib: int | None = None
    memory_bandwidth_gb_s: float | None = None
    fp32_tflops: float | None = None
    fp16_tflops: float | None = None
    workspace_mib: int | None = None
    precisions: tuple[Literal["fp32", "fp16"], ...] = ("fp32",)
    refused_precisions: dict[str, str] = {}
    """Precision -> the reason it is refused."""
    jetpack: str | None = None
    l4t: str | None = None
    cuda: str | None = None
    cudnn: str | None = None
    os: str | None = None
    device_python: str | None = None
    trtexec: str | None = None
    """Path of trtexec on the board."""
    power_modes: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()
    """Fields whose value no source confirms; check them on a device."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Capabilities:
    """What a runtime version can do; derived, never typed.

    Attributes:
        conditional: what an ONNX ``If`` becomes (see design: gates).
        detections: lowerings of decoding and NMS it can run, the preferred first.
        max_opset: newest ONNX operator set its parser states.
        max_ir: newest ONNX IR version of the onnx package it was built with.
        int64: whether INT64 tensors stay INT64.
        fp16: how FP16 is asked for: a builder ``flag``, a ``typed`` network, or None.
    """

    conditional: Conditional
    detections: tuple[str, ...]
    max_opset: int
    max_ir: int
    int64: bool
    fp16: Literal["flag", "typed"] | None
