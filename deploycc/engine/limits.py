"""What a target's builder cannot be told, found out when the plan is made and not on the board.

How the builder is told the rest is the agent's business (``deploycc/agent/trtexec_commands.py``), which reads the
TensorRT release on the board. A test holds the two together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploycc.errors import TargetError

if TYPE_CHECKING:
    from deploycc.documents.plan import Board, Network

Version = tuple[int, int]

# of trtexec: samples/common/sampleOptions.cpp on the release branches of github.com/NVIDIA/TensorRT
_FIRST_JSON_EXPORT = (6, 0)
_LAST_CAFFE = (8, 6)
_FIRST_TYPED = (9, 0)
_LAST_FP16_FLAG = (10, 16)
_FIRST_LAYER_PRECISIONS = (8, 4)
_FIRST_COLONS = (7, 1)


def check(board: Board, network: Network) -> None:
    """Refuse a network that the target's builder cannot be told to build, or its engine to be timed.

    Args:
        board: the target. Where its release is unknown, the agent refuses on the board instead.
        network: to build an engine from.

    Raises:
        TargetError: with the fact behind it.
    """
    if board.builder == "tensorRT_optimization":
        _check_tensorrt_optimization(board, network)
    elif board.builder == "trtexec" and board.runtime_version is not None:
        major, minor = (int(part) for part in board.runtime_version.split(".")[:2])
        _check_trtexec(board, network, (major, minor))


def _check_trtexec(board: Board, network: Network, version: Version) -> None:
    if version < _FIRST_JSON_EXPORT:
        raise TargetError(
            "trtexec-too-old",
            f"trtexec of TensorRT {board.runtime_version} cannot export its samples",
            context={"target": board.name},
            note="the JSON export came with TensorRT 6.0",
        )
    if network.format == "caffe" and version > _LAST_CAFFE:
        raise TargetError(
            "caffe-parser-removed",
            f"TensorRT {board.runtime_version} reads no Caffe files",
            context={"target": board.name, "network": network.file},
            note="trtexec takes --deploy and --model up to TensorRT 8.6",
        )
    row = network.row
    for name in (network.input.name, *(tensor.name for tensor in (row.handed if row is not None else ()))):
        if set(name) & set(",'" if version >= _FIRST_COLONS else ",':"):
            raise TargetError(
                "input-name-not-spellable",
                f"trtexec cannot be told of the input '{name}'",
                context={"target": board.name, "input": name},
                note="',' and ''' mean something else in its lists of tensors, and ':' does before TensorRT 7.1",
                hint="rename the input in the model",
            )
    if network.precision == "fp16":
        _check_fp16(board, network, version)


def _check_fp16(board: Board, network: Network, version: Version) -> None:
    if network.typed:
        if version < _FIRST_TYPED:
            raise TargetError(
                "typed-network-too-new",
                f"TensorRT {board.runtime_version} takes no typed FP16 network",
                context={"target": board.name, "network": network.file},
                note="strong typing came with TensorRT 9.0; older builders are told by a flag",
            )
        return
    if version > _LAST_FP16_FLAG:
        raise TargetError(
            "fp16-flag-removed",
            f"TensorRT {board.runtime_version} has no FP16 flag",
            context={"target": board.name, "network": network.file},
            note="from TensorRT 11 on only the network's own types count",
        )
    if network.keep_fp32 and version < _FIRST_LAYER_PRECISIONS:
        raise TargetError(
            "layer-precision-too-old",
            f"trtexec of TensorRT {board.runtime_version} cannot keep single layers in FP32",
            context={"target": board.name, "layers": ", ".join(network.keep_fp32)},
            note="--layerPrecisions came with TensorRT 8.4",
            hint="build FP32, or FP16 without kept layers",
        )
    for name in network.keep_fp32:
        if set(name) & set(",:*'"):
            raise TargetError(
                "layer-name-not-spellable",
                f"trtexec cannot be told of the layer '{name}'",
                context={"target": board.name, "layer": name},
                note="',', ':', '*' and ''' mean something else in --layerPrecisions",
                hint="rename the layer in the model",
            )


def _check_tensorrt_optimization(board: Board, network: Network) -> None:
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
    for name in network.outputs:
        if "," in name:
            raise TargetError(
                "output-name-not-spellable",
                f"tensorRT_optimization cannot be told of the output '{name}'",
                context={"target": board.name, "output": name},
                note="',' separates the names in --outputBlobs",
                hint="rename the output in the model",
            )
