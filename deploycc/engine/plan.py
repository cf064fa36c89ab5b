"""From compiled networks and a target to the plan of what the agent builds and measures."""

from __future__ import annotations

from collections.abc import Sequence

from deploycc.documents.document import this_tool
from deploycc.documents.plan import Board, BuildPlan, Engine, Measurement, Network, SecondEngine
from deploycc.engine import limits
from deploycc.errors import TargetError
from deploycc.target import Target

ENGINE_SUFFIX = {
    "onnxruntime": ".onnx",
    "tensorrt-rtx": ".engine",
    "tensorrt-python": ".engine",
    "trtexec": ".engine",
    "tensorRT_optimization": ".bin",
}


def make_plan(
    target: Target, networks: Sequence[Network], *, source_sha256: str, measurement: Measurement | None = None
) -> BuildPlan:
    """Plan one engine for each network.

    Args:
        target: where they are built and run.
        networks: compiled for that target, and beside them the original, as imported: one per precision and variant.
        source_sha256: the trained files' digest (`deploycc.detector.Source.sha256`).
        measurement: None: the valid default, one thread.

    Raises:
        TargetError: the target's builder cannot be told what a network needs.
    """
    board = Board(
        name=target.name,
        architecture=target.architecture,
        runtime=target.runtime,
        runtime_version=target.runtime_version,
        builder=target.builder,
        cuda_device=target.cuda_device,
        compute_capability=target.compute_capability,
        workspace_mib=target.workspace_mib,
        device_python=target.device_python,
    )
    timing = measurement or Measurement()
    engines = tuple(_engine(board, network) for network in networks)
    return BuildPlan(
        tool=this_tool(),
        source_sha256=source_sha256,
        target=board,
        networks=tuple(networks),
        engines=engines,
        measurement=timing,
    )


def _engine(board: Board, network: Network) -> Engine:
    fp16_flag = network.precision == "fp16" and not network.typed
    if fp16_flag and board.builder in ("onnxruntime", "tensorrt-rtx"):
        raise TargetError(
            "fp16-needs-typed-network",
            f"{board.builder} has no FP16 flag: the network itself must be FP16",
            context={"target": board.name, "network": network.file},
        )
    limits.check(board, network)
    name, suffix = "-".join(["engine", *network.label.split()]), ENGINE_SUFFIX[board.builder]
    row = network.row
    return Engine(
        file=f"{name}{suffix}" if row is None else f"{name}-first{suffix}",
        precision=network.precision,
        variant=network.variant,
        network_sha256=network.sha256,
        fp16_flag=fp16_flag,
        second=tuple(
            SecondEngine(file=f"{name}-second-{number}{suffix}", network_sha256=second.sha256)
            for number, second in enumerate(row.second if row is not None else ())
        ),
    )
