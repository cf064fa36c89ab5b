"""Targets: one board with one software stack, as data, and the capabilities of its runtime, derived in code.

A target is one TOML file in ``targets/`` (shipped inside the package when installed). Its fields are facts;
capabilities follow from the runtime and its version and are not in any file.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deploycc.errors import TargetError
from deploycc.files import parse_toml, read_text
from deploycc.parsers.tensorrt_releases import Conditional, conditional, numbers, parser_of

if TYPE_CHECKING:
    from deploycc.parsers.support import Contract

Runtime = Literal["onnxruntime", "tensorrt", "tensorrt-rtx"]
Tier = Literal["measured", "built", "planned"]
Positive = Field(default=None, gt=0)

DEFAULT = "x86-cpu"
"""The target of a command that does not name one."""


class Target(BaseModel):
    """One board and one software stack. Field names carry their units."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    name: str
    title: str
    tier: Tier
    """Evidence: ``measured`` built and timed by this project's tests, ``built`` engines built but never run,
    ``planned`` facts from sources only."""
    architecture: Literal["x86_64", "aarch64"]
    runtime: Runtime
    runtime_version: str | None = Field(default=None, pattern=r"^\d+(\.\d+){1,3}$")
    """Version, for example ``8.2.1``; None: read on the device."""
    model_format: Literal["onnx", "caffe"] = "onnx"
    builder: Literal["onnxruntime", "tensorrt-rtx", "tensorrt-python", "trtexec", "tensorRT_optimization"]
    """The program that builds the engine."""
    cuda_device: int | None = Field(default=None, ge=0)
    """CUDA ordinal on the board (PX2: 0 dGPU, 1 iGPU)."""
    compute_capability: str | None = Field(default=None, pattern=r"^\d+\.\d$")
    """Of the GPU that runs the engine; None: no GPU, or that of the machine where it is built."""
    gpu: str | None = None
    sm_count: int | None = Positive
    cuda_cores: int | None = Positive
    gpu_clock_mhz: float | None = Positive
    """Highest GPU clock of the fastest power mode."""
    memory_mib: int | None = Positive
    """Memory that CUDA reports."""
    memory_clock_mhz: float | None = Positive
    memory_bus_bits: int | None = Positive
    memory_bandwidth_gb_s: float | None = Positive
    fp32_tflops: float | None = Positive
    fp16_tflops: float | None = Positive
    """Without tensor cores."""
    fp16_tensor_tflops: float | None = Positive
    """With tensor cores, dense; None: the GPU has none."""
    workspace_mib: int | None = Positive
    precisions: tuple[Literal["fp32", "fp16"], ...] = Field(default=("fp32",), min_length=1)
    refused_precisions: dict[Literal["fp32", "fp16"], str] = {}
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
    """Capabilities of a runtime version; always derived.

    Attributes:
        conditional: what an ONNX ``If`` becomes: refused (``none``), one branch of a constant condition
            (``constant``), both branches and a select (``select``), a conditional whose branches read nothing
            (``unconnected``), a real conditional with one output and equal shapes, none inside a branch (``plain``),
            one whose branches must give ``equal-shapes`` or only ``equal-ranks``, or ``any``.
        detections: supported lowerings of decoding and NMS, the preferred first.
        max_opset: newest ONNX operator set that the parser states.
        max_ir: newest ONNX IR version of the onnx package that the parser was built with.
        int64: whether INT64 tensors stay INT64.
        fp16: how FP16 is requested: a builder ``flag``, a ``typed`` network, or None.
        remarks: assumptions made because a fact is missing.
    """

    conditional: Conditional
    detections: tuple[str, ...]
    max_opset: int
    max_ir: int
    int64: bool
    fp16: Literal["flag", "typed"] | None
    remarks: tuple[str, ...] = ()


def names() -> list[str]:
    """Return the names of the shipped targets, sorted."""
    return sorted(path.stem for path in folder().glob("*.toml"))


def folder() -> Path:
    """Return the folder of shipped targets: inside an installed package, else at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_targets"
    return installed if installed.is_dir() else package.parent / "targets"


def load(name_or_path: str) -> Target:
    """Read a target: a shipped one by name, or any file by a path that ends in ``.toml``.

    Raises:
        TargetError: the name is unknown, or the file is missing, unreadable or violates the schema; names every wrong
            key with its line.
    """
    if name_or_path.endswith(".toml"):
        return _read(Path(name_or_path))
    known = names()
    if name_or_path not in known:
        raise TargetError(
            "target-unknown",
            f"there is no target '{name_or_path}'",
            context={"targets": ", ".join(known)},
            hint=_did_you_mean(name_or_path, known) or "deploycc target list; or give the path of a .toml file",
        )
    return _read(folder() / f"{name_or_path}.toml")


def version_of(target: Target) -> tuple[int, ...]:
    """Return the runtime version as numbers, ``(8, 2, 1)``; empty if it is read on the device."""
    return numbers(target.runtime_version) if target.runtime_version else ()


def capabilities(target: Target) -> Capabilities:
    """Derive the capabilities of a target from its runtime and version."""
    if target.runtime == "onnxruntime":
        # `If` executes only the taken branch. Opset 21 and IR 10 are those of ONNX Runtime 1.20, the oldest supported.
        # The host suppresses faster than the operator, which cannot stop at keep_top_k (benchmarks/bench_frame.py).
        return Capabilities("any", ("raw", "onnx-nms"), max_opset=21, max_ir=10, int64=True, fp16="typed")
    if target.runtime == "tensorrt-rtx":
        # Measured with 1.7.1: branches of equal rank build, unequal ranks do not; no plugin, no runner for
        # NonMaxSuppression; opset and IR are not checked, so the limits are those of the 11.x parser it shares.
        return Capabilities("equal-ranks", ("raw",), max_opset=24, max_ir=13, int64=True, fp16="typed")
    version = version_of(target)
    caffe = target.model_format == "caffe"
    parser = parser_of((8, 2) if caffe else version)  # opset 13, this compiler's own, for Caffe
    remarks: list[str] = []
    if not version:
        remarks.append(
            "the TensorRT version is read on the device; until then the oldest is assumed: no conditional, no plugin"
        )
    if caffe:
        remarks.append(
            "no ONNX parser reads the network: opset and IR are those of the network before it is written as Caffe"
        )
    return Capabilities(
        conditional="none" if caffe else conditional(version),
        detections=("raw",) if caffe else _detections(version),
        max_opset=parser.opset,
        max_ir=parser.ir,
        int64=version >= (9, 0),  # before, INT64 is cast down to INT32 (onnx2trt_utils.cpp)
        fp16="typed" if version >= (11, 0) else "flag",  # 11.0 removed BuilderFlag::kFP16 (NvInfer.h)
        remarks=tuple(remarks),
    )


def contract(target: Target) -> Contract:
    """Return what the target's parser accepts."""
    from deploycc.parsers.support import Contract  # imports onnx, which listing targets does not need

    capable = capabilities(target)
    parser: Literal["onnxruntime", "tensorrt-rtx", "tensorrt-onnx", "tensorrt-caffe"]
    if target.runtime == "tensorrt":
        parser = "tensorrt-caffe" if target.model_format == "caffe" else "tensorrt-onnx"
    else:
        parser = target.runtime
    version = version_of(target) if target.runtime == "tensorrt" else ()
    return Contract(parser, version, capable.max_opset, capable.max_ir, capable.int64)


def _detections(version: tuple[int, ...]) -> tuple[str, ...]:
    if version >= (9, 0):  # native addNMS from 8.5 on, but it returns INT64, which is supported from 9.0 on
        return ("efficient-nms", "onnx-nms", "raw")
    if version >= (8, 0):
        return ("efficient-nms", "raw")
    if version >= (7, 1):
        return ("nms-plugin", "raw")
    return ("raw",)  # the ONNX parser looks plugins up by operator name from 7.1 on


def _read(path: Path) -> Target:
    text = _text(path)
    try:
        data = parse_toml(text)
        # JSON in between: strict mode accepts a JSON array as a tuple, but not a Python list.
        return Target.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:  # a ValueError, too
        problems = {_where(text, e["loc"]): _problem(e["type"], e["loc"], e["msg"]) for e in error.errors()}
        count = "one field is" if len(problems) == 1 else f"{len(problems)} fields are"
        raise TargetError(
            "target-invalid",
            f"{count} wrong in the target file",
            context={"file": path, **problems},
            hint="deploycc target show x86-cpu --json shows every field",
        ) from None
    except ValueError as error:
        raise TargetError(
            "target-not-toml", f"the target file is not valid TOML: {error}", context={"file": path}
        ) from None


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except FileNotFoundError:
        raise TargetError("target-missing", "the target file does not exist", context={"file": path}) from None
    except OSError as error:
        raise TargetError(
            "target-unreadable", f"cannot read the target file: {error.strerror}", context={"file": path}
        ) from None


def _where(text: str, location: tuple[int | str, ...]) -> str:
    """Return ``line 3, sm_count``; without a line if the key is absent."""
    key = str(location[0])
    field = ".".join(str(part) for part in location if part != "[key]")
    pattern = re.compile(rf"^\s*(\[\s*)?[\"']?{re.escape(key)}[\"']?\s*[=\].]")
    for number, line in enumerate(text.splitlines(), start=1):
        if pattern.match(line):
            return f"line {number}, {field}"
    return field


def _problem(kind: str, location: tuple[int | str, ...], message: str) -> str:
    if kind == "missing":
        return "this field is required"
    if kind == "extra_forbidden":
        return "no such field" + _after(_did_you_mean(str(location[0]), Target.model_fields))
    return message[:1].lower() + message[1:]


def _after(hint: str | None) -> str:
    return f"; {hint}" if hint else ""


def _did_you_mean(word: str, known: Iterable[str]) -> str | None:
    close = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else None
