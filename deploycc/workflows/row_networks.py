"""Networks that run in a row, through the pipeline: the passes before a split, the split, and those after it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.errors import InputError, ModelError
from deploycc.progress import Say, prefixed, quiet

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.documents.gate_plan import GatePlan
    from deploycc.graph.cost import Cost
    from deploycc.passes import Compiled, Step
    from deploycc.passes.options import Detection, Precision, Prune
    from deploycc.target import Target
    from deploycc.workflows.row_files import CompiledRow


def run_row_passes(
    detector: Detector,
    target: Target,
    precision: Precision,
    plan: GatePlan,
    *,
    detection: Detection | None = None,
    keep_fp32: Sequence[str] = (),
    prune: Prune | None = None,
    dump_to: Path | None = None,
    say: Say = quiet,
) -> tuple[Compiled, CompiledRow]:
    """Run the pipeline for one precision and split the network where a plan says so.

    Returns:
        the network in one, whose gates multiply, with the steps of the row; and the row.

    Raises:
        InputError: ``row-keep-fp32``.
        ModelError: ``stages-impossible``, ``row-tensors``: the network cannot be split there; ``parser-refuses``.
        TargetError: the target does not do what was asked.
    """
    from deploycc.graph.branches.gated_network import read_gated_network
    from deploycc.graph.shapes import infer_shapes
    from deploycc.passes import CHECK, DROP_DEAD, FIT, FOLD, LOWER, PRUNE, Compiled, Step, run
    from deploycc.workflows.networks import refuse_unparsable, run_passes
    from deploycc.workflows.row_files import CompiledRow
    from deploycc.workflows.staged import stage_network

    if keep_fp32:
        raise InputError(
            "row-keep-fp32",
            "layers of networks in a row cannot be kept in FP32",
            context={"layers": ", ".join(keep_fp32)},
            hint="compile FP32, or plan a single network: `deploycc gates` without `--staged`",
        )
    whole = run_passes(
        detector, target, precision, detection=detection, prune=prune, dump_to=dump_to, say=prefixed(say, "in one")
    )
    before = run(detector, whole.options, FOLD + DROP_DEAD + PRUNE)
    prepared = before.detector
    infer_shapes(prepared.graph)
    say(f"{precision} split_at_decision")
    begin = time.perf_counter()
    stages = stage_network(prepared, read_gated_network(prepared.graph), plan.layers)
    seconds = time.perf_counter() - begin
    if plan.shares and len(plan.shares) != len(stages.second):
        raise ModelError(
            "stages-impossible",
            f"the plan has {len(plan.shares)} second networks, and the split makes {len(stages.second)}",
            context={"network": prepared.name},
            hint="make the plan again for this network with `deploycc gates --staged`",
        )
    first = replace(prepared, graph=stages.first, heads=None, detections=None, gates=())
    compiled = []
    for number, part in enumerate((first, *stages.second)):
        say(f"{precision} network {number + 1} of {1 + len(stages.second)} in a row")
        compiled.append(run(part, whole.options, LOWER + FIT + CHECK))
    _check_handed(prepared.name, compiled[0].detector, stages.decision)
    after = _steps_of_all(compiled)
    split = Step("split_at_decision", seconds, True, before.steps[-1].after, after[0].before, stages.notes)
    steps = Compiled(whole.detector, whole.options, (*before.steps, split, *after))
    refuse_unparsable(steps, target)
    row = CompiledRow(compiled[0].detector, stages.decision, tuple(each.detector for each in compiled[1:]), plan.shares)
    return steps, row


def _check_handed(name: str, first: Detector, decision: str) -> None:
    """Refuse tensors that a runtime cannot hand over as they are: the agent takes FP32 of a fixed shape.

    Raises:
        ModelError: ``row-tensors``.
    """
    import numpy as np

    for tensor in first.graph.outputs:
        fixed = all(isinstance(size, int) and size > 0 for size in tensor.shape or ())
        if tensor.name != decision and (tensor.dtype != np.float32 or not tensor.shape or not fixed):
            raise ModelError(
                "row-tensors",
                f"the first network would hand over {tensor.name}, which is not FP32 of a fixed shape",
                context={"network": name, "type": tensor.dtype, "shape": list(tensor.shape or ())},
                hint="`deploycc gates` without `--staged` plans a single network",
            )


def _steps_of_all(compiled: Sequence[Compiled]) -> tuple[Step, ...]:
    """Return one step for each pass that ran on every network; sizes are those of the first and the last one.

    That the first network has no detections is no news.
    """
    from deploycc.passes import Step

    return tuple(
        Step(
            each[0].name,
            sum(step.seconds for step in each),
            any(step.changed for step in each),
            _sum(each[0].before, each[-1].before),
            _sum(each[0].after, each[-1].after),
            tuple(dict.fromkeys(note for step in each for note in step.notes if note.code != "opaque")),
        )
        for each in zip(*(one.steps for one in compiled), strict=True)
    )


def _sum(one: Cost, other: Cost) -> Cost:
    from deploycc.graph.cost import Cost

    return Cost(one.nodes + other.nodes, one.params + other.params, one.macs + other.macs)
