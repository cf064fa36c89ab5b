"""From the planner's values to the records of ``gates.json``."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from deploycc.documents.document import Evidence
from deploycc.documents.gates import ConsideredRecord, GateReport, PictureRecord, RegionRecord, Timings

if TYPE_CHECKING:
    from deploycc.documents.gate_plan import GatePlan
    from deploycc.documents.staged_times import StagedRecord
    from deploycc.documents.utilisation import UtilisationProfile
    from deploycc.gate_planning.check import Checked, Networks
    from deploycc.gate_planning.costs import Array
    from deploycc.gate_planning.planner import Planned
    from deploycc.graph.branches.gated_network import GatedNetwork
    from deploycc.workflows.gate_decision import RecordedPictures
    from deploycc.workflows.predicted_gate_costs import AnyGateCosts


def considered_records(planned: Planned) -> tuple[ConsideredRecord, ...]:
    """Return everything that the planner chose from, what it chose first."""
    others = [choice for choice in planned.considered if choice not in planned.chosen]
    return tuple(
        ConsideredRecord(
            layers=choice.layers,
            lowering=choice.lowering,
            sizes=choice.sizes,
            expected_ms=choice.expected_ms,
            all_on_ms=choice.all_on_ms,
            added_bytes=choice.added_bytes,
            chosen=choice in planned.chosen,
        )
        for choice in (*planned.chosen, *others)
    )


def added_bytes_of(planned: Planned, checked: Checked | None) -> int:
    """Return the bytes of weights that branches hold beyond one copy of each weight, after the check."""
    if checked is None:
        return planned.added_bytes
    return sum(part.added_bytes for verdict in checked.verdicts for part in verdict.parts)


def region_records(planned: Planned, checked: Checked | None) -> tuple[RegionRecord, ...]:
    """Return the regions that were planned to become branches, with what the check measured."""
    verdicts = {verdict.choice.layers: verdict for verdict in checked.verdicts} if checked is not None else {}
    multiplies = [choice for choice in planned.considered if choice.lowering == "multiply"]
    multiply_ms = {choice.layers[0]: choice.expected_ms for choice in multiplies}
    records = []
    for choice in planned.chosen:
        if choice.lowering == "multiply":
            continue
        verdict = verdicts.get(choice.layers)
        records.append(
            RegionRecord(
                layers=choice.layers,
                lowering=choice.lowering,
                sizes=choice.sizes,
                predicted_saved_ms=sum(multiply_ms[name] for name in choice.layers) - choice.expected_ms,
                measured_saved_ms=verdict.saved_ms if verdict else None,
                kept=verdict.kept if verdict else True,
                why=verdict.why if verdict else "",
            )
        )
    return tuple(records)


def timings_record(network: GatedNetwork, pictures: RecordedPictures, checked: Checked, machine: str) -> Timings:
    """Return the samples, with what the gates saved, picture by picture."""
    from deploycc.gate_planning.savings import saved_by_kernels, saved_with_inputs
    from deploycc.graph.cost import node_macs

    saved = saved_by_kernels(network.graph, pictures.active)
    with_inputs = saved_with_inputs(network, pictures.active)
    gated = sum(node_macs(node) for node in network.graph.nodes if node.name in pictures.active)
    records = tuple(
        PictureRecord(
            name=name,
            active_share=float(np.clip(1 - kernels / gated, 0, 1)),
            saved_macs=round(float(kernels)),
            saved_macs_with_inputs=round(float(both)),
        )
        for name, kernels, both in zip(pictures.names, saved, with_inputs, strict=True)
    )
    samples, worst = checked.samples_ms, checked.worst_ms
    return Timings(
        evidence=Evidence(kind="measured", source=machine),
        pictures=records,
        dense_ms=_rounds(samples["dense"]),
        multiply_ms=_rounds(samples["multiply"]),
        lowered_ms=_rounds(samples["lowered"]),
        worst_dense_ms=_rounds(worst["dense"]),
        worst_lowered_ms=_rounds(worst["lowered"]),
    )


def _rounds(samples_ms: Array) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in np.round(samples_ms, 6).tolist())


def gate_report(
    plan: GatePlan,
    network: GatedNetwork,
    networks: Networks,
    profile: UtilisationProfile,
    planned: Planned,
    checked: Checked | None,
    recorded: RecordedPictures | None,
    costs: AnyGateCosts,
    max_worst_case: float,
    max_growth: float,
    staged: StagedRecord | None,
) -> GateReport:
    """Return everything that was considered, predicted and measured, as the file keeps it."""
    from deploycc.documents.document import this_tool
    from deploycc.graph.cost import measure_cost

    machine = costs.describe()
    return GateReport(
        tool=this_tool(),
        network=plan.network,
        source_sha256=plan.source_sha256,
        plan_sha256=_sha256(plan.to_json()),
        profile_sha256=_sha256(profile.to_json()),
        target=plan.target,
        threads=costs.threads,
        network_macs=measure_cost(networks.dense).macs,
        scope_macs=profile.scope_macs,
        max_worst_case=max_worst_case,
        max_growth=max_growth,
        weight_bytes=4 * measure_cost(network.graph).params,
        added_bytes=added_bytes_of(planned, checked),
        predicted=Evidence(kind="predicted", source=costs.source()),
        predicted_dense_ms=planned.dense_ms,
        predicted_expected_ms=planned.expected_ms,
        predicted_all_on_ms=planned.all_on_ms,
        intervals=costs.intervals(planned.dense_ms, planned.expected_ms, planned.all_on_ms),
        considered=considered_records(planned),
        regions=region_records(planned, checked),
        timings=timings_record(network, recorded, checked, machine) if recorded and checked else None,
        staged=staged,
    )


def _sha256(text: str) -> str:
    """Digest of the file that this text is written to."""
    return hashlib.sha256(text.encode()).hexdigest()
