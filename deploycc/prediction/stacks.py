"""Constants of prediction by software stack and GPU family, and which of them a target may be predicted with.

Constants belong to a runtime's version: those of TensorRT 3.0 predict half as much again as TensorRT 8.0 takes. A
target whose version or GPU has no constants of its own takes the nearest ones, scaled by its facts, with a wider
interval; a target without the facts, or too far from every constant, is refused.
"""

from __future__ import annotations

import functools
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from deploycc.errors import TargetError
from deploycc.prediction.launches import Fusion
from deploycc.target import Target, version_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FILE = Path(__file__).with_name("stacks.toml")
_OTHER_MINOR = 0.10  # spread (log) that another minor version of the same TensorRT adds
_OTHER_MAJOR = 0.25  # TensorRT 3.0 and 8.0 differ by 1.5 = exp(0.4)
_OTHER_GPU = 0.15  # another GPU of the same generation, scaled by its facts
_OTHER_GENERATION = 0.35  # Ampere by the constants of Volta
_OTHER_PRECISION = 0.10  # a precision that was not in the fit
_NINETY = 1.645  # of a normal distribution, for an interval of 90 %


class Model(BaseModel):
    """The model's constants.

    Attributes:
        winograd, direct: multiply-accumulates of convolutions as a share of the peak rate, 3x3 windows with stride 1
            and others. The former may exceed 1: Winograd's method needs fewer.
        latency_cycles: clock cycles per step of a convolution's sum, however few outputs it has.
        latency_fp16: factor of these in FP16.
        pixel_tile: output positions that are computed together.
        kernel_tiles: kernels that are computed together, with the relative rate of that tile.
        depthwise: multiply-accumulates of depthwise convolutions as a share of the peak FP32 rate.
        pooling: window elements per core and cycle.
        bandwidth: share of the peak memory bandwidth.
        launch_us, launch_cycles: per launch, in microseconds and in cycles of the GPU's clock.
        convolution_us: per convolution, beside that.
        network_ms: per network.
        copy_gb_s: rate at which the picture is copied to the GPU; 0 where that was not timed.
        elementwise_fp32: element-wise launches of an FP16 engine stay FP32.
        branch_us: of a conditional branch: a copy to the host and a wait.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    winograd: float = Field(gt=0)
    direct: float = Field(gt=0)
    latency_cycles: float = Field(ge=0)
    latency_fp16: float = Field(default=1.0, gt=0)
    pixel_tile: int = Field(gt=0)
    kernel_tiles: tuple[tuple[int, float], ...]
    depthwise: float = Field(gt=0)
    pooling: float = Field(gt=0)
    bandwidth: float = Field(gt=0)
    launch_us: float = Field(default=0.0, ge=0)
    launch_cycles: float = Field(default=0.0, ge=0)
    convolution_us: float = Field(default=0.0, ge=0)
    network_ms: float = Field(default=0.0, ge=0)
    copy_gb_s: float = Field(default=0.0, ge=0)
    elementwise_fp32: bool = False
    branch_us: float = Field(default=0.0, ge=0)


class FusionFacts(BaseModel):
    """What the runtime merges, as `Fusion`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    activations: frozenset[str] = frozenset()
    normalisation: bool = False
    residual: bool = False
    chains: bool = False
    siblings: bool = False
    concatenation: bool = False


class Stack(BaseModel):
    """One set of constants and where it comes from.

    Attributes:
        name: of the set.
        title: for people.
        runtime: ``tensorrt`` or ``caffe``.
        versions: first and last version that was measured, of TensorRT.
        capabilities: compute capabilities of the GPUs that were measured.
        precisions: that were measured.
        networks: how many were in the fit.
        spread: standard deviation of the logarithm of measured over predicted time, of networks left out of the fit.
        layer_spread: the same of single layers.
        source: of the measurements, with the board, the software and the conditions.
        timed: what the measured times include.
        fusion, model: see there.
        fp32: constants that differ in FP32.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    runtime: str
    versions: tuple[tuple[int, int], tuple[int, int]]
    capabilities: tuple[str, ...]
    precisions: tuple[str, ...]
    networks: int
    spread: float = Field(gt=0)
    layer_spread: float = Field(gt=0)
    source: str
    timed: str
    fusion: FusionFacts = FusionFacts()
    model: Model
    fp32: dict[str, float] = {}

    def model_for(self, precision: str) -> Model:
        """Return the constants of a precision."""
        return self.model.model_copy(update=self.fp32) if precision == "fp32" else self.model

    @property
    def merges(self) -> Fusion:
        """What the runtime merges."""
        return Fusion(**self.fusion.model_dump())


@dataclass(frozen=True)
class Gpu:
    """The facts of a GPU that a prediction needs.

    Attributes:
        sm_count: streaming multiprocessors.
        clock_hz: highest clock.
        fp32_macs, fp16_macs: peak multiply-accumulates per second, with tensor cores where there are some.
        bandwidth: bytes per second.
    """

    sm_count: int
    clock_hz: float
    fp32_macs: float
    fp16_macs: float
    bandwidth: float

    def macs(self, precision: str) -> float:
        """Peak multiply-accumulates per second."""
        return self.fp16_macs if precision == "fp16" else self.fp32_macs


@dataclass(frozen=True)
class Basis:
    """What a target is predicted with.

    Attributes:
        stack: where the constants come from.
        model: the constants.
        gpu: facts of the target.
        spread: standard deviation of the logarithm of the total time.
        layer_spread: of a single layer's time.
        remarks: why the interval is wider than that of the constants' own target.
    """

    stack: Stack
    model: Model
    gpu: Gpu
    spread: float
    layer_spread: float
    remarks: tuple[str, ...]

    def interval(self, ms: float, *, layer: bool = False) -> tuple[float, float]:
        """Return the 90 % interval around a predicted time."""
        factor = math.exp(_NINETY * (self.layer_spread if layer else self.spread))
        return ms / factor, ms * factor


@functools.cache
def stacks() -> tuple[Stack, ...]:
    """Return all sets of constants."""
    data = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return tuple(Stack.model_validate_json(json.dumps(entry)) for entry in data["stack"])


def gpu_of(target: Target) -> Gpu:
    """Return the facts that a prediction needs.

    Raises:
        TargetError: ``prediction-facts``: the target does not state them.
    """
    wanted = ("sm_count", "cuda_cores", "gpu_clock_mhz", "memory_bandwidth_gb_s", "fp32_tflops")
    missing = [name for name in wanted if getattr(target, name) is None]
    if missing:
        raise TargetError(
            "prediction-facts",
            f"times on target {target.name} cannot be predicted: facts of its GPU are missing",
            context={"missing": ", ".join(missing)},
            note="a prediction scales constants by the target's multiprocessors, clock and bandwidth",
            hint="measure there with `deploycc compile`, or copy the target's file and add the facts",
        )
    fp32 = (target.fp32_tflops or 0.0) * 1e12 / 2
    half = target.fp16_tensor_tflops or target.fp16_tflops
    return Gpu(
        sm_count=target.sm_count or 1,
        clock_hz=(target.gpu_clock_mhz or 0.0) * 1e6,
        fp32_macs=fp32,
        fp16_macs=half * 1e12 / 2 if half else fp32,
        bandwidth=(target.memory_bandwidth_gb_s or 0.0) * 1e9,
    )


def basis_for(target: Target, precision: str, runtime: str | None = None) -> Basis:
    """Choose the constants for a target.

    Args:
        target: the board and its software.
        precision: ``fp32`` or ``fp16``.
        runtime: ``caffe`` for the framework instead of the target's own runtime.

    Raises:
        TargetError: ``prediction-facts``: facts are missing; ``prediction-none``: no constants are near this target.
    """
    wanted = runtime or target.runtime
    near = [(_distance(stack, target, precision), stack) for stack in stacks() if stack.runtime == wanted]
    possible = [(distance, stack) for distance, stack in near if distance is not None]
    if not possible:
        known = sorted({f"{stack.title}" for stack in stacks()})
        raise TargetError(
            "prediction-none",
            f"no constants of prediction are near target {target.name}",
            context={"constants": "; ".join(known)},
            note="constants belong to a runtime's version and a GPU's generation",
            hint="`deploycc compile` on that machine measures",
        )
    gpu = gpu_of(target)
    distance, stack = min(possible, key=lambda entry: sum(spread**2 for spread, _ in entry[0]))
    extra = [spread for spread, _ in distance]
    return Basis(
        stack=stack,
        model=stack.model_for(precision),
        gpu=gpu,
        spread=math.hypot(stack.spread, *extra),
        layer_spread=math.hypot(stack.layer_spread, *extra),
        remarks=tuple(reason for _, reason in distance),
    )


def _distance(stack: Stack, target: Target, precision: str) -> list[tuple[float, str]] | None:
    """Return what lies between constants and a target, as spreads with their reasons; None where it is too far."""
    capability = target.compute_capability
    if capability is None or target.runtime == "onnxruntime":
        return None
    apart: list[tuple[float, str]] = []
    if capability not in stack.capabilities:
        measured = ", ".join(stack.capabilities)
        generations = min(abs(_generation(capability) - _generation(other)) for other in stack.capabilities)
        if generations > 1 or _tensor_cores(capability) != _tensor_cores(stack.capabilities[0]):
            return None
        spread = _OTHER_GENERATION if generations else _OTHER_GPU
        reason = f"compute capability {capability} was not measured ({measured} was): scaled by its facts"
        apart.append((spread, reason))
    if stack.runtime == "tensorrt":
        apart += _version_apart(stack, target)
    if precision not in stack.precisions:
        reason = f"{precision} was not measured ({', '.join(stack.precisions)} was): scaled by its peak rate"
        if precision == "fp32" and stack.fp32:
            reason = "fp32 was measured on single convolutions only"
        apart.append((_OTHER_PRECISION, reason))
    return apart


def _version_apart(stack: Stack, target: Target) -> list[tuple[float, str]]:
    first, last = stack.versions
    measured = f"{first[0]}.{first[1]}" if first == last else f"{first[0]}.{first[1]} to {last[0]}.{last[1]}"
    version = version_of(target)[:2]
    if not version:
        return [(_OTHER_MAJOR, f"the target's TensorRT version is not known; constants of {measured}")]
    if first <= version <= last:
        return []
    majors = min(abs(version[0] - first[0]), abs(version[0] - last[0]))
    spread = _OTHER_MAJOR if majors else _OTHER_MINOR
    return [(spread, f"TensorRT {version[0]}.{version[1]} was not measured ({measured} was)")]


def _generation(capability: str) -> int:
    """Count the generations: Maxwell 5, Pascal 6, Volta and Turing 7, Ampere and Ada 8, ..."""
    return int(capability.split(".")[0])


def _tensor_cores(capability: str) -> bool:
    return _generation(capability) >= 7
