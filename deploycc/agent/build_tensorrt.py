"""TensorRT's own Python API, from 7.0 on: builds for the GPU it runs on.

Written from the API's documentation; no machine with a GPU has run it yet.
"""

import os
from typing import Any, Dict

from . import gpu, stack, timing_cache
from .outcome import Failed, NotPossible
from .trt_log import make_logger, node_of_message, parser_failure, read_layers


def import_tensorrt() -> "Any":
    """Return the module.

    Raises:
        NotPossible: it is not installed.
    """
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise NotPossible(
            "Python cannot import tensorrt here: {}".format(error),
            "on a Jetson use the system's python3, elsewhere: python3 -m pip install 'tensorrt>=10'",
        ) from error
    return tensorrt


def build(
    plan: "Dict[str, Any]", engine: "Dict[str, Any]", described: "Dict[str, Any]", network_path: str, partial: str
) -> "Dict[str, Any]":
    """Build ``network_path`` into ``partial`` for the plan's GPU.

    Raises:
        NotPossible: no GPU, or TensorRT is not installed.
        Failed: the parser or the builder refuses the network.
    """
    found = gpu.devices()
    if not found:
        raise NotPossible(
            "TensorRT builds only on the GPU it builds for, and this machine has none",
            "copy this folder to the target and run there: python3 agent.pyz build plan.json",
        )
    stack.check_gpu(plan["target"], found)
    trt = import_tensorrt()
    stack.check_version(plan["target"]["runtime_version"], trt.__version__)
    version = tuple(int(part) for part in trt.__version__.split(".")[:2])
    messages = []  # type: Any
    logger = make_logger(trt, messages)
    trt.init_libnvinfer_plugins(logger, "")  # EfficientNMS_TRT and its like
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt, version, described["typed"]))
    parser = trt.OnnxParser(network, builder.logger)
    with open(network_path, "rb") as file:  # parse_from_file is not there before 8.0
        if not parser.parse(file.read()):
            raise parser_failure(parser, messages)
    layers = read_layers(network)
    config = builder.create_builder_config()
    _configure(trt, version, config, network, plan, engine, described)
    if version >= (8, 0):
        timed = partial + ".timing"
        cached = timing_cache.place(version, found[plan["target"]["cuda_device"] or 0]["compute_capability"])
        timing_cache.take(cached, timed)
        cache = _use_timing_cache(config, timed)
        serialized = builder.build_serialized_network(network, config)
        if serialized is not None:
            with open(timed, "wb") as file:
                file.write(cache.serialize())
            timing_cache.keep(timed, cached)
    else:
        built = builder.build_engine(network, config)
        serialized = built.serialize() if built is not None else None
    if serialized is None:
        reason = messages[-1] if messages else "the builder gave no reason"
        raise Failed("TensorRT does not build the network: " + reason, node_of_message(reason, layers))
    with open(partial, "wb") as out:
        out.write(serialized)
    facts = {"builder_version": trt.__version__, "layers": layers}  # type: Dict[str, Any]
    ordinal = plan["target"]["cuda_device"] or 0
    if ordinal < len(found):
        facts["compute_capability"] = found[ordinal]["compute_capability"]
    return facts


def _use_timing_cache(config: "Any", path: str) -> "Any":
    """Give a configuration a cache, which one of another build of TensorRT does not fill."""
    data = b""
    if os.path.exists(path):
        with open(path, "rb") as file:
            data = file.read()
    cache = config.create_timing_cache(data)
    if not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _network_flags(trt: "Any", version: "Any", typed: bool) -> int:
    flags = trt.NetworkDefinitionCreationFlag
    chosen = 0
    if version < (10, 0):  # always so from 10.0 on, and the flag is gone in 11.0
        chosen |= 1 << int(flags.EXPLICIT_BATCH)
    if typed and (9, 0) <= version < (11, 0):  # nothing else exists from 11.0 on
        chosen |= 1 << int(flags.STRONGLY_TYPED)
    return chosen


def _configure(
    trt: "Any",
    version: "Any",
    config: "Any",
    network: "Any",
    plan: "Dict[str, Any]",
    engine: "Dict[str, Any]",
    described: "Dict[str, Any]",
) -> None:
    workspace_mib = plan["target"]["workspace_mib"]
    if workspace_mib is not None:
        if version >= (8, 4):
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mib << 20)
        else:
            config.max_workspace_size = workspace_mib << 20
    if version >= (8, 2):  # its layers tell which nodes they compute
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if version >= (7, 1):
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default: from Ampere on, FP32 would keep 10 bits of mantissa
    if not engine["fp16_flag"]:
        return
    if version >= (11, 0):
        raise Failed("TensorRT {} has no FP16 flag; the network must be typed".format(trt.__version__))
    config.set_flag(trt.BuilderFlag.FP16)
    keep = set(described["keep_fp32"])
    if not keep:
        return
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS if version >= (8, 2) else trt.BuilderFlag.STRICT_TYPES)
    found = set()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.name in keep:
            layer.precision = trt.float32
            found.add(layer.name)
    if keep - found:
        raise Failed("the network has no layer " + ", ".join(sorted(keep - found)), hint="see the layers of build.json")
