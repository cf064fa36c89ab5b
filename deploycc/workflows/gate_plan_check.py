"""Whether a gate plan is for a network and a target: a decision holds where its times were measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploycc.errors import ArtefactError, TargetError

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.documents.gate_plan import GatePlan
    from deploycc.target import Target


def check_gate_plan(plan: GatePlan | None, detector: Detector, target: Target) -> None:
    """Refuse a plan for something else.

    Raises:
        ArtefactError: ``gate-plan-other-model``.
        TargetError: ``gate-plan-other-target``; ``gate-plan-staged``: it runs networks in a row, and the target reads
            Caffe.
    """
    if plan is None:
        return
    made_for = (plan.source_sha256, plan.random_weights)
    if made_for != (detector.source.sha256, detector.source.random_weights):
        raise ArtefactError(
            "gate-plan-other-model",
            "the gate plan was made for another network",
            context={"plan": plan.source_sha256[:16], "network": detector.source.sha256[:16]},
            hint="make it again for this network with `deploycc gates`",
        )
    if plan.target != target.name:
        raise TargetError(
            "gate-plan-other-target",
            f"the gate plan was made for target {plan.target}",
            context={"target": target.name},
            note="the times of branches and convolutions were measured there; here another plan may be the fastest",
            hint=f"`deploycc gates --target {target.name}` makes one, on the machine that it is for",
        )
    if plan.staged and target.model_format == "caffe":
        raise TargetError(
            "gate-plan-staged",
            f"target {target.name} reads Caffe networks, which cannot compute the decision of networks in a row",
            context={"plan": plan.network},
            hint="`deploycc prune` makes constants of gates",
        )
