"""From the planner's values to the records of ``gates.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from deploycc.documents.document import Evidence
from deploycc.documents.gates import ConsideredRecord, PictureRecord, RegionRecord, Timings

if TYPE_CHECKING:
    from deploycc.gate_planning.check import Checked
    from deploycc.gate_planning.costs import Array
    from deploycc.gate_planning.planner import Planned
    from deploycc.graph.branches.gated_network import GatedNetwork
    from deploycc.workflows.gate_decision import RecordedPictures


def considered_records(planned: Planned) -> tuple[ConsideredRecord, ...]:
    """Everything the planner chose from; what it chose is among it."""
    others = [each for each in planned.considered if each not in planned.chosen]
    return tuple(
        ConsideredRecord(
            layers=each.layers,
            lowering=each.lowering,
            sizes=each.sizes,
            expected_ms=each.expected_ms,
            all_on_ms=each.all_on_ms,
            added_bytes=each.added_bytes,
            chosen=each in planned.chosen,
        )
        for each in (*planned.chosen, *others)
    )


def added_bytes_of(planned: Planned, checked: Checked | None) -> int:
    """Bytes of weights that branches hold beyond one copy, after the check."""
    if checked is None:
        return planned.added_bytes
    return sum(part.added_bytes for verdict in checked.verdicts for part in verdict.parts)


def region_records(planned: Planned, checked: Checked | None) -> tuple[RegionRecord, ...]:
    """The lowered regions, with what the check said."""
    verdicts = {each.choice.layers: each for each in checked.verdicts} if checked is not None else {}
    multiplying = {each.layers[0]: each.expected_ms for each in planned.considered if each.lowering == "multiply"}
    records = []
    for each in planned.chosen:
        if each.lowering == "multiply":
            continue
        verdict = verdicts.get(each.layers)
        records.append(
            RegionRecord(
                layers=each.layers,
                lowering=each.lowering,
                sizes=each.sizes,
                predicted_saved_ms=sum(multiplying[name] for name in each.layers) - each.expected_ms,
                measured_saved_ms=verdict.saved_ms if verdict else None,
                kept=verdict.kept if verdict else True,
                why=verdict.why if verdict else "",
            )
        )
    return tuple(records)


def timings_record(network: GatedNetwork, pictures: RecordedPictures, checked: Checked, machine: str) -> Timings:
    """Samples and what the gates said, picture by picture."""
    from deploycc.gate_planning.savings import saved_by_kernels, saved_with_inputs
    from deploycc.graph.cost import node_macs

    saved = saved_by_kernels(network.graph, pictures.active)
    with_inputs = saved_with_inputs(network, pictures.active)
    gated = sum(node_macs(node) for node in network.graph.nodes if node.name in pictures.active)
    records = tuple(
        PictureRecord(
            name=name,
            active_share=float(np.clip(1 - own / gated, 0, 1)),
            saved_macs=round(float(own)),
            saved_macs_with_inputs=round(float(both)),
        )
        for name, own, both in zip(pictures.names, saved, with_inputs, strict=True)
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
