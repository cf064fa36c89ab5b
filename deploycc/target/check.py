"""Consistency rules of a target: facts that must agree with one another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploycc.errors import TargetError
from deploycc.target import Target, folder, load, names, version_of

_PEAK_TOLERANCE = 0.02
"""Relative; published peaks and clocks are rounded to three digits."""

_TENSOR_CORES = 8
"""FP16 rate of tensor cores over the FP32 rate, per multiprocessor: 512 to 64 on GV11B, 1024 to 128 on GA10B."""

# L4T -> JetPack (jetson_stats NVIDIA_JETPACK) and TensorRT's major.minor (JetPack comparison tables, l4t-tensorrt image
# tags, jetson-containers); None if no source states the TensorRT of that JetPack. JetPack 3.2.1 shares L4T 28.2.1
# with 3.3 and is left out.
_L4T: dict[str, tuple[str, tuple[int, int] | None]] = {
    "28.2.1": ("3.3", (4, 0)),
    "32.2.0": ("4.2.1", (5, 1)),
    "32.2.1": ("4.2.2", (5, 1)),
    "32.2.3": ("4.2.3", (5, 1)),
    "32.3.1": ("4.3", (6, 0)),
    "32.4.3": ("4.4", None),
    "32.4.4": ("4.4.1", (7, 1)),
    "32.5.0": ("4.5", (7, 1)),
    "32.5.1": ("4.5.1", (7, 1)),
    "32.5.2": ("4.5.1", (7, 1)),
    "32.6.1": ("4.6", (8, 0)),
    "32.7.1": ("4.6.1", (8, 2)),
    "32.7.2": ("4.6.2", (8, 2)),
    "32.7.3": ("4.6.3", (8, 2)),
    "32.7.4": ("4.6.4", (8, 2)),
    "32.7.5": ("4.6.5", (8, 2)),
    "32.7.6": ("4.6.6", (8, 2)),
    "35.1.0": ("5.0.2", (8, 4)),
    "35.2.1": ("5.1", (8, 5)),
    "35.3.1": ("5.1.1", (8, 5)),
    "35.4.1": ("5.1.2", (8, 5)),
    "35.5.0": ("5.1.3", (8, 5)),
    "35.6.0": ("5.1.4", (8, 5)),
    "36.3.0": ("6.0", (8, 6)),
    "36.4.0": ("6.1", (10, 3)),
    "36.4.3": ("6.2", (10, 3)),
    "36.4.4": ("6.2.1", (10, 3)),
    "36.4.7": ("6.2.1", (10, 3)),
    "38.2.0": ("7.0", (10, 13)),
    "38.4.0": ("7.1", None),
}

# Last TensorRT by compute capability: 8.5 for Kepler and Maxwell, 8.6 for Pascal (NVIDIA/TensorRT#3589, #3826), 10.4
# for Volta 7.0 (removed in 10.5, release notes 10.4).
_LAST_TENSORRT = ((6, 0), (8, 5)), ((7, 0), (8, 6)), ((7, 1), (10, 4))

_RTX_GPUS = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")  # trt.ComputeCapability of TensorRT-RTX 1.7.1

_BUILDERS = {
    "onnxruntime": ("onnxruntime",),
    "tensorrt-rtx": ("tensorrt-rtx",),
    "tensorrt": ("tensorrt-python", "trtexec", "tensorRT_optimization"),
}


def check(target: Target, path: Path | None = None) -> list[str]:
    """Return the inconsistencies of a target, one sentence each; empty if there are none.

    Args:
        target: as `deploycc.target.load` read it.
        path: its file. A shipped target is found by its file's name, which must be the target's name; any other file
            is given by its path and may be called anything.
    """
    rules = (_peaks, _precisions, _unconfirmed, _toolchain, _gpu, _jetpack)
    problems = [problem for rule in rules for problem in rule(target)]
    if path is not None and path.stem != target.name and path.resolve().parent == folder().resolve():
        problems.insert(0, f"name '{target.name}' is not the file's name '{path.stem}'")
    return problems


@dataclass(frozen=True)
class CheckedFile:
    """A target file that was checked.

    Attributes:
        path: the file.
        problems: its inconsistencies, one sentence each.
        error: why it is not a target at all.
        remark: what else its author should know.
    """

    path: Path
    problems: tuple[str, ...] = ()
    error: TargetError | None = None
    remark: str | None = None

    @property
    def wrong(self) -> bool:
        """Return whether a fact is wrong, or the file cannot be used."""
        return self.error is not None or bool(self.problems)


def check_files(paths: Sequence[Path] = ()) -> list[CheckedFile]:
    """Check target files.

    Args:
        paths: files; none: every shipped target.
    """
    return [_checked(path) for path in paths or sorted(folder().glob("*.toml"))]


def _checked(path: Path) -> CheckedFile:
    try:
        if path.suffix != ".toml":
            raise TargetError("target-not-toml", "a target file ends in .toml", context={"file": path})
        target = load(str(path))
        problems = check(target, path)
    except TargetError as error:
        return CheckedFile(path, error=error)
    remark = None
    if target.name in names() and path.resolve().parent != folder().resolve():
        remark = (
            f"{path} carries the name of the shipped target {target.name}; reports cannot tell the two apart until"
            " it has a name of its own"
        )
    return CheckedFile(path, tuple(problems), remark=remark)


def _peaks(t: Target) -> Iterator[str]:
    if t.fp32_tflops and t.cuda_cores and t.gpu_clock_mhz:
        derived = 2 * t.cuda_cores * t.gpu_clock_mhz * 1e6 / 1e12
        if not math.isclose(t.fp32_tflops, derived, rel_tol=_PEAK_TOLERANCE, abs_tol=0.0):
            yield f"fp32_tflops {t.fp32_tflops} is not 2 x cuda_cores x gpu_clock_mhz = {derived:.3f}"
    if t.fp16_tensor_tflops and t.fp32_tflops:
        derived = _TENSOR_CORES * t.fp32_tflops
        if not math.isclose(t.fp16_tensor_tflops, derived, rel_tol=_PEAK_TOLERANCE, abs_tol=0.0):
            yield f"fp16_tensor_tflops {t.fp16_tensor_tflops} is not 8 x fp32_tflops = {derived:.3f}"
    if t.memory_bandwidth_gb_s and t.memory_clock_mhz and t.memory_bus_bits:
        derived = 2 * t.memory_clock_mhz * 1e6 * t.memory_bus_bits / 8 / 1e9
        if not math.isclose(t.memory_bandwidth_gb_s, derived, rel_tol=_PEAK_TOLERANCE, abs_tol=0.0):
            yield (
                f"memory_bandwidth_gb_s {t.memory_bandwidth_gb_s} is not"
                f" 2 x memory_clock_mhz x memory_bus_bits / 8 = {derived:.1f}"
            )
    if t.sm_count and t.cuda_cores and t.cuda_cores // t.sm_count not in (64, 128):
        yield f"cuda_cores {t.cuda_cores} over sm_count {t.sm_count} is neither 64 nor 128 cores per SM"
    elif t.sm_count and t.cuda_cores and t.cuda_cores % t.sm_count:
        yield f"cuda_cores {t.cuda_cores} is not a multiple of sm_count {t.sm_count}"
    if t.workspace_mib and t.memory_mib and t.workspace_mib > t.memory_mib // 2:
        yield f"workspace_mib {t.workspace_mib} is more than half of memory_mib {t.memory_mib}"


def _precisions(t: Target) -> Iterator[str]:
    for precision in t.refused_precisions:
        if precision in t.precisions:
            yield f"{precision} is both in precisions and in refused_precisions"
    if len(set(t.precisions)) != len(t.precisions):
        yield "precisions has the same precision twice"
    if "fp16" in t.precisions and t.compute_capability == "6.1":
        yield "precisions has fp16, but compute capability 6.1 has no fast FP16; state it in refused_precisions"


def _unconfirmed(t: Target) -> Iterator[str]:
    for name in t.unconfirmed:
        if name not in Target.model_fields:
            yield f"unconfirmed names '{name}', which is not a field"
        elif getattr(t, name) in (None, (), {}) and name != "runtime_version":
            yield f"unconfirmed names '{name}', which has no value"
    if t.runtime == "tensorrt" and t.runtime_version is None and "runtime_version" not in t.unconfirmed:
        yield "runtime_version is read on the device: name it in unconfirmed"


def _toolchain(t: Target) -> Iterator[str]:
    if t.builder not in _BUILDERS[t.runtime]:
        yield f"builder {t.builder} does not build for runtime {t.runtime}"
    if (t.builder == "tensorRT_optimization") != (t.model_format == "caffe"):
        yield "tensorRT_optimization reads Caffe, and no other builder does"
    if t.model_format == "caffe" and version_of(t) >= (10, 0):
        yield f"TensorRT {t.runtime_version} has no Caffe parser; 8.6 was the last release with one"
    if t.builder == "trtexec" and t.trtexec is None:
        yield "builder trtexec needs its path in trtexec"
    if t.runtime == "tensorrt-rtx" and t.architecture != "x86_64":
        yield "TensorRT-RTX exists only for x86_64"
    if t.runtime == "tensorrt-rtx" and t.runtime_version is None:
        yield "TensorRT-RTX is installed here, so runtime_version is known: state it"


def _gpu(t: Target) -> Iterator[str]:
    if t.runtime == "onnxruntime":
        if t.compute_capability or t.cuda_device is not None:
            yield "runtime onnxruntime runs on the CPU: no compute_capability, no cuda_device"
        return
    if t.runtime == "tensorrt-rtx":
        if t.compute_capability not in _RTX_GPUS:
            yield f"TensorRT-RTX builds for {', '.join(_RTX_GPUS)}, not for {t.compute_capability}"
        return
    if t.compute_capability is None:
        if t.architecture == "aarch64":
            yield "a board's compute_capability is known: state it"
        return
    major, minor = (int(part) for part in t.compute_capability.split("."))
    for below, last in _LAST_TENSORRT:
        if (major, minor) < below:
            if version_of(t)[:2] > last:
                yield (
                    f"compute capability {t.compute_capability} ends with TensorRT {last[0]}.{last[1]},"
                    f" not {t.runtime_version}"
                )
            break


def _jetpack(t: Target) -> Iterator[str]:
    if (t.jetpack is None) != (t.l4t is None):
        yield "jetpack and l4t must be given together"
    if t.jetpack is None or t.l4t is None:
        return
    version = version_of(t)
    if t.architecture != "aarch64":
        yield "JetPack runs on aarch64"
    if (11, 0) <= version < (11, 4, 1):
        yield f"TensorRT {t.runtime_version} does not support Jetson; 11.4.1 does"
    if t.l4t not in _L4T:
        yield f"l4t {t.l4t} is not among the known releases; add it with its source"
        return
    jetpack, tensorrt = _L4T[t.l4t]
    if t.jetpack != jetpack:
        yield f"L4T {t.l4t} is JetPack {jetpack}, not {t.jetpack}"
    if tensorrt and version and version[:2] != tensorrt:
        yield f"JetPack {jetpack} has TensorRT {tensorrt[0]}.{tensorrt[1]}, not {t.runtime_version}"
