"""Turning a target into options of the passes; the only place that does."""

from __future__ import annotations

from collections.abc import Iterable

from deploycc.errors import TargetError
from deploycc.passes.options import Detection, Options, Precision
from deploycc.target import Target, capabilities, contract


def options_for(
    target: Target,
    *,
    precision: Precision = "fp32",
    detection: Detection | None = None,
    keep_fp32: Iterable[str] = (),
) -> Options:
    """Return the options that compile for ``target``; arguments may only narrow what the target allows.

    Args:
        target: the board and its software.
        precision: one of the target's precisions.
        detection: where decoding and suppression happen; None takes the target's preference.
        keep_fp32: nodes that stay FP32 in an FP16 network.

    Raises:
        TargetError: the target does not support this precision or this lowering.
    """
    capable = capabilities(target)
    if precision not in target.precisions:
        raise TargetError(
            "target-refuses-precision",
            f"target {target.name} does not build {precision}",
            context={"target": target.name, "precisions": ", ".join(target.precisions)},
            note=target.refused_precisions.get(precision),
            hint=f"`precision={','.join(target.precisions)}`",
        )
    if detection is not None and detection not in capable.detections:
        raise TargetError(
            "target-refuses-detection",
            f"target {target.name} cannot run the detection lowering '{detection}'",
            context={"target": target.name, "possible": ", ".join(capable.detections)},
            hint=f"`detection={capable.detections[0]}`",
        )
    return Options(
        contract=contract(target),
        detection=detection or capable.detections[0],  # type: ignore[arg-type]
        precision=precision,
        typed=capable.fp16 == "typed",
        keep_fp32=frozenset(keep_fp32),
        no_conditional=_no_conditional(target),
        plain_conditionals=capable.conditional == "plain",
    )


def _no_conditional(target: Target) -> str:
    """Return why branches save nothing on a target; empty if a branch that is not taken is not executed."""
    limit = {
        "none": "has no If",
        "constant": "supports If only with a constant condition",
        "select": "executes both branches of an If and selects, which saves nothing",
        "unconnected": "connects no tensor to the branches of an If, which 8.5 repaired",
    }.get(capabilities(target).conditional)
    if limit is None:
        return ""
    if target.model_format == "caffe":
        return f"target {target.name} reads Caffe networks, which have no If: the gate stays a multiply"
    version = target.runtime_version or "(version read on the device)"
    return f"TensorRT {version} {limit}: the gate stays a multiply; real conditionals came with TensorRT 8.2"
