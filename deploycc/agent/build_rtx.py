"""TensorRT-RTX: builds an engine ahead of time on a machine without a GPU."""

from typing import Any, Dict

from .outcome import Failed, NotPossible
from .trt_log import make_logger, node_of_message, parser_failure, read_layers


def _import() -> "Any":
    try:
        import tensorrt_rtx
    except (ImportError, OSError) as error:
        raise NotPossible(
            "Python cannot import tensorrt_rtx here: {}".format(error),
            "python3 -m pip install tensorrt-rtx-cu12==1.7.1.116",
        ) from error
    return tensorrt_rtx


def _compute_capability(trt: "Any", number: "Any") -> "Any":
    """The enumerator of ``8.6``.

    Raises:
        NotPossible: this TensorRT-RTX does not build for it.
    """
    name = "SM" + str(number).replace(".", "")
    members = trt.ComputeCapability.__members__
    if name not in members:
        known = ", ".join(sorted(member for member in members if member.startswith("SM")))
        raise NotPossible(
            "TensorRT-RTX {} does not build for compute capability {} (it knows {})".format(
                trt.__version__, number, known
            )
        )
    return members[name]


def build(plan: "Dict[str, Any]", network_path: str, partial: str) -> "Dict[str, Any]":
    """Build ``network_path`` into ``partial``. No timing cache is touched: it would ask for a GPU.

    Raises:
        NotPossible: TensorRT-RTX is not installed, or does not build for the target's GPU.
        Failed: the parser or the builder refuses the network; the node is named where it says so.
    """
    trt = _import()
    board = plan["target"]
    messages = []  # type: Any
    builder = trt.Builder(make_logger(trt, messages))
    network = builder.create_network(0)  # always strongly typed
    parser = trt.OnnxParser(network, builder.logger)
    if not parser.parse_from_file(network_path):
        raise parser_failure(parser, messages)
    layers = read_layers(network)
    config = builder.create_builder_config()
    if board["compute_capability"] is not None:
        config.num_compute_capabilities = 1
        config.set_compute_capability(_compute_capability(trt, board["compute_capability"]), 0)
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default: layers in FP32 would keep 10 bits of mantissa
    if board["workspace_mib"] is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, board["workspace_mib"] << 20)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        reason = messages[-1] if messages else "the builder gave no reason"
        raise Failed("TensorRT-RTX does not build the network: " + reason, node_of_message(reason, layers))
    with open(partial, "wb") as file:
        file.write(engine)
    return {"builder_version": trt.__version__, "layers": layers}
