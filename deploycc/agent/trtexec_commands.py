"""How each TensorRT release spells a plan: argument lists for ``trtexec`` and ``tensorRT_optimization``.

Pure functions of the plan's values and of the release that was found on the board. A list holds only flags that this
release knows, or the function says what cannot be said. A list does not name the program. Files that the program writes
lie in its working folder, under names from here; what it reads is given by path.
"""

import math
from typing import Any, Dict, List

from . import plan_file
from .outcome import Failed
from .trtexec_flags import knows

ENGINE = "engine.out"
TIMES = "times.json"
PROFILE = "profile.json"
LAYER_INFORMATION = "layers.json"
INPUT = "input.raw"
OUTPUT = "output.json"
TIMING_CACHE = "timing.cache"

_PROFILED_QUERIES = 50
_MARGIN_S = 0.5  # the run ends with the query that starts last, and times above 10 s come in steps of 0.1 ms
_OLDEST = (6, 0)


def check_release(version: "Any") -> None:
    """Refuse a release whose trtexec exports no samples.

    Raises:
        Failed: older than TensorRT 6.0.
    """
    if version[:2] < _OLDEST:
        raise Failed(
            "trtexec of TensorRT {} cannot export its samples".format(".".join(map(str, version))),
            hint="its JSON export came with TensorRT 6.0",
        )


def warmup_in_times(version: "Any") -> bool:
    """Whether exported times hold the warm-up too: up to and including 8.4 they hold every query."""
    return bool(version[:2] <= (8, 4))


def build_arguments(
    version: "Any", board: "Dict[str, Any]", network: "Dict[str, Any]", paths: "Dict[str, str]"
) -> "List[str]":
    """Argument list that builds `ENGINE` without running it.

    Args:
        version: of TensorRT, as numbers.
        board: the plan's target.
        network: of the plan.
        paths: ``file`` and, for Caffe, ``weights_file`` of the network.

    Raises:
        Failed: this release of trtexec cannot be told what the network needs.
    """
    check_release(version)
    arguments = [*_model(version, network, paths), "--saveEngine=" + ENGINE]
    # --buildOnly became --skipInference; 8.6 to 9.3 know both
    arguments.append("--skipInference" if knows(version, "--skipInference") else "--buildOnly")
    if board["workspace_mib"] is not None:
        # stated at every release: the default up to 8.2 is 16 MiB, later ones take all memory
        flag = "--memPoolSize=workspace:" if knows(version, "--memPoolSize") else "--workspace="
        arguments.append("{}{}".format(flag, board["workspace_mib"]))
    arguments += _precision(version, network)
    if knows(version, "--noTF32"):  # FP32 means FP32: from Ampere on it would keep 10 bits of mantissa, as FP16 does
        arguments.append("--noTF32")
    if knows(version, "--profilingVerbosity"):
        arguments.append("--profilingVerbosity=detailed")
    if knows(version, "--timingCacheFile"):
        arguments.append("--timingCacheFile=" + TIMING_CACHE)
    return arguments + _device(board)


def _device(board: "Dict[str, Any]") -> "List[str]":
    return [] if board["cuda_device"] is None else ["--device={}".format(board["cuda_device"])]


def _model(version: "Any", network: "Dict[str, Any]", paths: "Dict[str, str]") -> "List[str]":
    if network["format"] == "caffe":
        if not knows(version, "--deploy"):
            raise Failed("TensorRT {}.{} reads no Caffe files".format(*version[:2]))
        outputs = ["--output=" + name for name in network["outputs"]]
        return ["--deploy=" + paths["file"], "--model=" + paths["weights_file"], *outputs, "--batch=1"]
    # 6.x and 7.x need it for ONNX; 8.x warns that it has no effect
    return ["--onnx=" + paths["file"]] + (["--explicitBatch"] if version[:2] < (8, 0) else [])


def _precision(version: "Any", network: "Dict[str, Any]") -> "List[str]":
    release = "{}.{}".format(*version[:2])
    if network["typed"]:
        if knows(version, "--stronglyTyped"):
            return ["--stronglyTyped"]  # accepted and without effect from 11.0, where nothing else exists
        if network["precision"] == "fp32":
            return []  # a typed FP32 network is an FP32 network
        raise Failed("TensorRT {} takes no typed FP16 network".format(release))
    if network["precision"] == "fp32":
        return []
    if not knows(version, "--fp16"):
        raise Failed("TensorRT {} has no FP16 flag; the network must be typed".format(release))
    return ["--fp16", *_layers_in_fp32(version, release, network["keep_fp32"])]


def _layers_in_fp32(version: "Any", release: str, kept: "List[str]") -> "List[str]":
    if not kept:
        return []
    if not knows(version, "--layerPrecisions"):
        raise Failed("trtexec of TensorRT {} cannot keep single layers in FP32".format(release))
    for name in kept:
        if set(name) & set(",:*'"):
            raise Failed("trtexec cannot be told of the layer '{}'".format(name))
    names = ",".join(name + ":fp32" for name in kept)
    return ["--precisionConstraints=obey", "--layerPrecisions=" + names]


def measure_arguments(
    version: "Any", plan: "Dict[str, Any]", network: "Dict[str, Any]", engine_path: str
) -> "List[str]":
    """Argument list that times an engine on `INPUT`, one query after the other, copies of input and output included.

    The flags undo what differs between releases: 11.0 turned CUDA graphs on and data transfers off by default.

    Raises:
        Failed: this release cannot do it, or cannot be told the input's name.
    """
    timing = plan["measurement"]
    arguments = _loaded(version, plan["target"], network, engine_path)
    arguments += [
        "--warmUp={}".format(math.ceil(timing["warmup_s"] * 1000)),  # milliseconds
        "--duration={}".format(math.ceil(timing["min_duration_s"] + _MARGIN_S)),  # whole seconds
        "--iterations={}".format(timing["min_samples"]),  # the run is the longer of the two
        "--avgRuns=1",
        "--exportTimes=" + TIMES,
    ]
    if knows(version, "--exposeDMA"):
        arguments.append("--exposeDMA")  # the next query's copy must not overlap this one: single stream
    if knows(version, "--includeDataTransfers"):
        arguments += ["--includeDataTransfers", "--noCudaGraph"]
    else:
        arguments.append("--useSpinWait")  # the default from 11.0 on
    return arguments


def profile_arguments(
    version: "Any", plan: "Dict[str, Any]", network: "Dict[str, Any]", engine_path: str
) -> "List[str]":
    """Argument list for layer times: a run of its own, because profiling slows what it looks at."""
    arguments = [
        *_loaded(version, plan["target"], network, engine_path),
        "--iterations={}".format(_PROFILED_QUERIES),
        "--duration=0",
        "--avgRuns=1",
        "--dumpProfile",
        "--exportProfile=" + PROFILE,
    ]
    if knows(version, "--exportLayerInfo"):  # which nodes the layers compute
        arguments.append("--exportLayerInfo=" + LAYER_INFORMATION)
    return arguments


def answer_arguments(
    version: "Any", plan: "Dict[str, Any]", network: "Dict[str, Any]", engine_path: str
) -> "List[str]":
    """Argument list that runs an engine on `INPUT` and writes its outputs."""
    return [
        *_loaded(version, plan["target"], network, engine_path),
        "--iterations=1",
        "--duration=0",
        "--warmUp=0",
        "--avgRuns=1",
        "--exportOutput=" + OUTPUT,
    ]


def input_file(number: int) -> str:
    """Return the name of the file that holds an input."""
    return INPUT if number == 0 else "input-{}.raw".format(number)


def _loaded(version: "Any", board: "Dict[str, Any]", network: "Dict[str, Any]", engine_path: str) -> "List[str]":
    check_release(version)
    inputs = plan_file.inputs_of(network)
    for tensor in inputs:
        if not is_spellable(version, tensor["name"]):
            raise Failed(
                "trtexec of TensorRT {}.{} cannot be told of the input '{}'".format(
                    version[0], version[1], tensor["name"]
                )
            )
    files = ["{}:{}".format(tensor["name"], input_file(number)) for number, tensor in enumerate(inputs)]
    arguments = ["--loadEngine=" + engine_path, "--loadInputs=" + ",".join(files)]
    if network["format"] == "caffe":
        arguments.append("--batch=1")
    elif version[:2] < (8, 4):
        # without it an engine with an explicit batch is run through the call for implicit ones: a warning for each
        # query in 7.x, an error in 8.0; from 8.4 on the engine is asked (sampleOptions.cpp, sampleInference.cpp)
        shapes = ["{}:{}".format(tensor["name"], "x".join(map(str, tensor["shape"]))) for tensor in inputs]
        arguments.append("--shapes=" + ",".join(shapes))
    return arguments + _device(board)


def is_spellable(version: "Any", name: str) -> bool:
    """Whether a tensor's name can be in a list of names and values.

    Lists are split at commas, from 7.0 on names may be quoted with ', and before 7.1 they end at the first colon.
    """
    return not set(name) & set(",'" if version[:2] >= (7, 1) else ",':")


def tensorrt_optimization_arguments(network: "Dict[str, Any]", paths: "Dict[str, str]") -> "List[str]":
    """Argument list of DriveWorks' builder on DRIVE PX 2: Caffe only (DriveWorks 0.6.67, ``tensorRT_optimization``).

    It has no workspace option; the GPU is chosen by `tensorrt_optimization_environment`.

    Raises:
        Failed: the network is ONNX or typed, or layers are to stay in FP32.
    """
    if network["format"] != "caffe" or network["typed"]:
        raise Failed("tensorRT_optimization reads untyped Caffe networks only")
    if network["keep_fp32"] and network["precision"] == "fp16":
        raise Failed("tensorRT_optimization cannot keep single layers in FP32")
    return [
        "--prototxt=" + paths["file"],
        "--caffemodel=" + paths["weights_file"],
        "--inputBlobs=" + network["input"]["name"],
        "--outputBlobs=" + ",".join(network["outputs"]),
        "--half2={}".format(1 if network["precision"] == "fp16" else 0),
        "--batchSize=1",
        "--out=" + ENGINE,
    ]


def tensorrt_optimization_environment(board: "Dict[str, Any]") -> "Dict[str, str]":
    """Variables that choose the GPU.

    ``--cudaDevice`` is documented for later DriveWorks only, and an older one would refuse it; the CUDA driver obeys
    ``CUDA_VISIBLE_DEVICES`` at every release (PX2: 0 is the discrete GPU, 1 the integrated one).
    """
    return {} if board["cuda_device"] is None else {"CUDA_VISIBLE_DEVICES": str(board["cuda_device"])}
