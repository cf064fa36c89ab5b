"""The only place that turns a target into what the passes know."""

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
        detection: where decoding and suppression happen; None takes the target's preferred place.
        keep_fp32: nodes that stay FP32 in an FP16 network.

    Raises:
        TargetError: the target does not do this precision or this lowering.
    """
    able = capabilities(target)
    if precision not in target.precisions:
        raise TargetError(
            "target-refuses-precision",
            f"target {target.name} does not build {precision}",
            context={"target": target.name, "precisions": ", ".join(target.precisions)},
            note=target.refused_precisions.get(precision),
            hint=f"--precision {','.join(target.precisions)}",
        )
    if detection is not None and detection not in able.detections:
        raise TargetError(
            "target-refuses-detection",
            f"target {target.name} cannot run the detection lowering '{detection}'",
            context={"target": target.name, "possible": ", ".join(able.detections)},
            hint=f"--detection {able.detections[0]}",
        )
    return Options(
        contract=contract(target),
        detection=detection or able.detections[0],  # type: ignore[arg-type]
        precision=precision,
        typed=able.fp16 == "typed",
        keep_fp32=frozenset(keep_fp32),
        no_conditional=_no_conditional(target),
    )


def _no_conditional(target: Target) -> str:
    """Why branches save nothing on a target; empty where the branch that is not taken is not run."""
    what = {
        "none": "has no If",
        "constant": "takes an If with a constant condition only",
        "select": "runs both branches of an If and selects, so nothing would be saved",
    }.get(capabilities(target).conditional)
    if what is None:
        return ""
    if target.model_format == "caffe":
        return f"target {target.name} reads Caffe networks, which know no If: its gate stays a product"
    version = target.runtime_version or "of a version that is read on the device"
    return f"TensorRT {version} {what}: its gate stays a product; real conditionals came with TensorRT 8.2"
