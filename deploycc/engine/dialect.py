"""How each TensorRT release spells a plan: argument lists for ``trtexec`` and ``tensorRT_optimization``.

Pure functions of the plan's values. Which release knows which flag is data (``trtexec_flags.toml``); an argument list
holds only flags that the target's release knows, or the function says what cannot be said.
"""

from __future__ import annotations

import functools
import importlib.resources
import math
import sys
from typing import TYPE_CHECKING

from deploycc.errors import TargetError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from deploycc.documents.plan import Board, Measurement, Network

Version = tuple[int, int]

_PROFILED_QUERIES = 50


@functools.cache
def flag_releases() -> dict[str, tuple[Version, Version | None]]:
    """Flag -> (first, last) TensorRT release whose trtexec knows it; last None: the newest known still does."""
    text = importlib.resources.files("deploycc.engine").joinpath("trtexec_flags.toml").read_text(encoding="utf-8")
    return {
        flag: (_major_minor(span["first"]), _major_minor(span["last"]) if "last" in span else None)
        for flag, span in tomllib.loads(text)["flags"].items()
    }


def knows(version: Version, flag: str) -> bool:
    """Whether the trtexec of a release knows a flag (``--onnx``)."""
    first, last = flag_releases()[flag]
    return version >= first and (last is None or version <= last)


def _major_minor(version: str) -> Version:
    major, _, rest = version.partition(".")
    return int(major), int(rest.partition(".")[0] or 0)


def release(board: Board) -> Version:
    """The target's TensorRT release as (major, minor).

    Raises:
        TargetError: unknown, or older than trtexec's JSON export (TensorRT 6.0).
    """
    if board.runtime_version is None:
        raise TargetError(
            "tensorrt-version-unknown",
            "trtexec cannot be told what to do without its TensorRT version",
            context={"target": board.name},
            hint="give runtime_version in the target's file",
        )
    version = _major_minor(board.runtime_version)
    if not knows(version, "--exportTimes"):
        raise TargetError(
            "trtexec-too-old",
            f"trtexec of TensorRT {board.runtime_version} cannot export its samples",
            context={"target": board.name},
            note="the JSON export came with TensorRT 6.0",
        )
    return version


def times_file(engine_file: str) -> str:
    """Where the measuring command leaves the query times."""
    return f"{engine_file}.times.partial"


def profile_file(engine_file: str) -> str:
    """Where the profiling command leaves the layer times."""
    return f"{engine_file}.profile.partial"


def warmup_in_times(board: Board) -> bool:
    """Whether exported times hold the warm-up too: up to and including 8.4 they hold every query."""
    return release(board) <= (8, 4)


def trtexec_build(board: Board, network: Network, engine_file: str) -> list[str]:
    """Argument list that builds ``<engine_file>.partial`` without running it.

    Raises:
        TargetError: this release of trtexec cannot be told what the network needs.
    """
    version = release(board)
    arguments = [_program(board), *_model(board, version, network), f"--saveEngine={engine_file}.partial"]
    # --buildOnly became --skipInference; 8.6 to 9.3 know both
    arguments.append("--skipInference" if knows(version, "--skipInference") else "--buildOnly")
    if board.workspace_mib is not None:
        # stated at every release: the default up to 8.2 is 16 MiB, later ones take all memory
        flag = "--memPoolSize=workspace:" if knows(version, "--memPoolSize") else "--workspace="
        arguments.append(f"{flag}{board.workspace_mib}")
    arguments += _precision(board, version, network)
    if knows(version, "--noTF32"):  # FP32 means FP32: from Ampere on it would keep 10 bits of mantissa, as FP16 does
        arguments.append("--noTF32")
    if knows(version, "--profilingVerbosity"):
        arguments.append("--profilingVerbosity=detailed")
    return arguments + _device(board)


def _program(board: Board) -> str:
    return board.trtexec or "trtexec"


def _device(board: Board) -> list[str]:
    return [] if board.cuda_device is None else [f"--device={board.cuda_device}"]


def _model(board: Board, version: Version, network: Network) -> list[str]:
    if network.format == "caffe":
        if not knows(version, "--deploy"):
            raise TargetError(
                "caffe-parser-removed",
                f"TensorRT {board.runtime_version} reads no Caffe files",
                context={"target": board.name, "network": network.file},
                note="trtexec takes --deploy and --model up to TensorRT 8.6",
            )
        outputs = [f"--output={name}" for name in network.outputs]
        return [f"--deploy={network.file}", f"--model={network.weights_file}", *outputs, "--batch=1"]
    # 6.x and 7.x need it for ONNX; 8.x warns that it has no effect
    return [f"--onnx={network.file}", *(["--explicitBatch"] if version < (8, 0) else [])]


def _precision(board: Board, version: Version, network: Network) -> list[str]:
    if network.typed:
        if knows(version, "--stronglyTyped"):
            return ["--stronglyTyped"]  # accepted and without effect from 11.0, where nothing else exists
        if network.precision == "fp32":
            return []  # a typed FP32 network is an FP32 network
        raise TargetError(
            "typed-network-too-new",
            f"TensorRT {board.runtime_version} takes no typed FP16 network",
            context={"target": board.name, "network": network.file},
            note="strong typing came with TensorRT 9.0; older builders are told by a flag",
        )
    if network.precision == "fp32":
        return []
    if not knows(version, "--fp16"):
        raise TargetError(
            "fp16-flag-removed",
            f"TensorRT {board.runtime_version} has no FP16 flag",
            context={"target": board.name, "network": network.file},
            note="from TensorRT 11 on only the network's own types count",
        )
    return ["--fp16", *_layers_in_fp32(board, version, network)]


def _layers_in_fp32(board: Board, version: Version, network: Network) -> list[str]:
    if not network.keep_fp32:
        return []
    if not knows(version, "--layerPrecisions"):
        raise TargetError(
            "layer-precision-too-old",
            f"trtexec of TensorRT {board.runtime_version} cannot keep single layers in FP32",
            context={"target": board.name, "layers": ", ".join(network.keep_fp32)},
            note="--layerPrecisions came with TensorRT 8.4",
            hint="build FP32, or FP16 without kept layers",
        )
    for name in network.keep_fp32:
        if set(name) & set(",:*"):
            raise TargetError(
                "layer-name-not-spellable",
                f"trtexec cannot be told of the layer '{name}'",
                context={"target": board.name, "layer": name},
                note="',', ':' and '*' mean something else in --layerPrecisions",
                hint="rename the layer in the model",
            )
    names = ",".join(f"{name}:fp32" for name in network.keep_fp32)
    return ["--precisionConstraints=obey", f"--layerPrecisions={names}"]


def trtexec_measure(board: Board, network: Network, engine_file: str, timing: Measurement) -> list[str]:
    """Argument list that times an engine, one query after the other, copies of input and output included.

    The flags undo what differs between releases: 11.0 turned CUDA graphs on and data transfers off by default.
    """
    version = release(board)
    arguments = _loaded(board, network, engine_file)
    arguments += [
        f"--warmUp={math.ceil(timing.warmup_s * 1000)}",  # milliseconds
        f"--duration={math.ceil(timing.min_duration_s)}",  # whole seconds; the run is the longer of the two
        f"--iterations={timing.min_samples}",
        "--avgRuns=1",
        f"--exportTimes={times_file(engine_file)}",
    ]
    if knows(version, "--exposeDMA"):
        arguments.append("--exposeDMA")  # the next query's copy must not overlap this one: single stream
    if knows(version, "--includeDataTransfers"):
        arguments += ["--includeDataTransfers", "--noCudaGraph"]
    else:
        arguments.append("--useSpinWait")  # the default from 11.0 on
    return arguments


def trtexec_profile(board: Board, network: Network, engine_file: str) -> list[str]:
    """Argument list for layer times: a run of its own, because profiling slows what it looks at."""
    return [
        *_loaded(board, network, engine_file),
        f"--iterations={_PROFILED_QUERIES}",
        "--duration=0",
        "--avgRuns=1",
        "--dumpProfile",
        f"--exportProfile={profile_file(engine_file)}",
    ]


def _loaded(board: Board, network: Network, engine_file: str) -> list[str]:
    batch = ["--batch=1"] if network.format == "caffe" else []
    return [_program(board), f"--loadEngine={engine_file}", *batch, *_device(board)]


def tensorrt_optimization(board: Board, network: Network, engine_file: str) -> list[str]:
    """Argument list of DriveWorks' builder on DRIVE PX 2: Caffe only (DriveWorks 0.6.67, ``tensorRT_optimization``).

    It has no workspace option; the GPU is chosen by `tensorrt_optimization_environment`.

    Raises:
        TargetError: the network is ONNX or typed, or layers are to stay in FP32.
    """
    if network.format != "caffe" or network.typed:
        raise TargetError(
            "builder-needs-caffe",
            "tensorRT_optimization reads untyped Caffe networks only",
            context={"target": board.name, "network": network.file},
        )
    if network.keep_fp32 and network.precision == "fp16":
        raise TargetError(
            "layer-precision-too-old",
            "tensorRT_optimization cannot keep single layers in FP32",
            context={"target": board.name, "layers": ", ".join(network.keep_fp32)},
            hint="build FP32, or FP16 without kept layers",
        )
    return [
        "tensorRT_optimization",
        f"--prototxt={network.file}",
        f"--caffemodel={network.weights_file}",
        f"--inputBlobs={network.input.name}",
        f"--outputBlobs={','.join(network.outputs)}",
        f"--half2={1 if network.precision == 'fp16' else 0}",
        "--batchSize=1",
        f"--out={engine_file}.partial",
    ]


def tensorrt_optimization_environment(board: Board) -> dict[str, str]:
    """Variables that choose the GPU.

    ``--cudaDevice`` is documented for later DriveWorks only, and an older one would refuse it; the CUDA driver obeys
    ``CUDA_VISIBLE_DEVICES`` at every release (PX2: 0 is the discrete GPU, 1 the integrated one).
    """
    return {} if board.cuda_device is None else {"CUDA_VISIBLE_DEVICES": str(board.cuda_device)}
