"""From the values of a pruning to the record that travels with the network."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from deploycc.documents.pruning import (
    FoldedGateRecord,
    PrunedBlock,
    PrunedLayer,
    PrunedPart,
    PruningRecord,
    ReconstructionRecord,
    RefittedLayer,
)
from deploycc.workflows.records import note_records, source_record

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.detector.picture_list import PictureList
    from deploycc.documents.utilisation import UtilisationProfile
    from deploycc.graph.gates.search import Gate
    from deploycc.passes.prune_channels import LayerChange, PruneReport
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.timing.convolutions import Costs
    from deploycc.workflows.cut import Cut
    from deploycc.workflows.prune_decision import PruneDecision
    from deploycc.workflows.prune_settings import PruneSettings


def pruning_record(
    decision: PruneDecision,
    settings: PruneSettings,
    cut: Cut,
    profile: UtilisationProfile | None,
    costs: Costs | PredictedCosts,
    pictures: PictureList | None,
) -> PruningRecord:
    """Say what was removed, how it was chosen, and what had to stay."""
    report, reconstruction = cut.report, cut.reconstruction
    rounding_timed = bool(decision.relative_times) or any(layer.times_ms for layer in decision.rounded)
    timed = rounding_timed or decision.goal is not None
    return PruningRecord(
        source=source_record(decision.original),
        criterion=settings.by,
        useless=decision.choice.why,
        below=settings.below if decision.goal is None else 0.0,
        rankings=decision.rankings,
        goal=decision.goal,
        scope=settings.scope,
        coefficient=settings.coefficient if decision.folded else None,
        round_to=settings.multiple or "auto",
        profile_sha256=None if profile is None else hashlib.sha256(profile.to_json().encode()).hexdigest(),
        relative_times=decision.relative_times,
        timed_on=costs.describe() if timed else None,
        times=costs.evidence,
        parts=_parts(decision, cut.detector),
        layers=_layers(decision, report.layers),
        removed={name: kernels for name, kernels in report.removed.items() if kernels},
        blocks=tuple(
            PrunedBlock(kind=block.kind, tensor=block.tensor, layers=block.layers) for block in decision.blocks
        ),
        gates=tuple(_folded_gate(gate, profile, report) for gate in decision.folded),
        reconstruction=None
        if reconstruction is None or pictures is None
        else ReconstructionRecord(
            source=pictures.source,
            sha256=pictures.sha256,
            fitted=reconstruction.pictures[0],
            held_out=reconstruction.pictures[1],
            layers=tuple(
                RefittedLayer(name=layer.name, ridge=layer.ridge, error=layer.error) for layer in reconstruction.layers
            ),
            notes=note_records(reconstruction.notes),
        ),
        stays=note_records((*decision.stays, *report.stays)),
        not_analysed=note_records(report.unknown),
    )


def _parts(decision: PruneDecision, small: Detector) -> tuple[PrunedPart, ...]:
    """Sizes by part. Back-end and front-end are counted without the gates that became constants."""
    from deploycc.passes.fold_affine import fold_affine
    from deploycc.workflows.prune_settings import cpu_options

    dense = fold_affine(replace(decision.dense, graph=decision.dense.graph.copy()), cpu_options()).detector
    before, after = _sizes(dense), _sizes(small)
    original, whole = _sizes(decision.original)["total"], after.pop("total")
    without_gates = before.pop("total")
    pairs = {name: (before[name], after[name]) for name in before}
    if decision.folded:
        modules = (original[0] - without_gates[0], original[1] - without_gates[1])
        pairs["gate modules"] = (modules, (0, 0))
    pairs["total"] = (original, whole)
    return tuple(
        PrunedPart(name=name, macs=(old[0], new[0]), params=(old[1], new[1]))  # type: ignore[arg-type]
        for name, (old, new) in pairs.items()
    )


def _sizes(detector: Detector) -> dict[str, tuple[int, int]]:
    """MACs and parameters of back-end, front-end and total."""
    from deploycc.graph.cost import measure_cost
    from deploycc.graph.split import split_heads

    total, sizes = measure_cost(detector.graph), {}
    if detector.heads is not None:
        split = split_heads(detector.graph, detector.heads.locations, detector.heads.scores)
        sizes["back-end"] = (split.backend.macs, split.backend.params)
        sizes["front-end"] = (split.frontend.macs, split.frontend.params)
    return {**sizes, "total": (total.macs, total.params)}


def _layers(decision: PruneDecision, changes: tuple[LayerChange, ...]) -> tuple[PrunedLayer, ...]:
    rounded = {name: layer for layer in decision.rounded for name in layer.layers}
    records = []
    for change in changes:
        how = rounded.get(change.name)
        records.append(
            PrunedLayer(
                name=change.name,
                op=change.op,
                kernels=change.kernels,
                macs=change.macs,
                params=change.params,
                useless=len(decision.choice.kernels.get(change.name, ())),
                kept_for_multiple=max(0, how.kept - how.least) if how else 0,
                dropped_for_multiple=max(0, how.least - how.kept) if how else 0,
                multiple=how.multiple if how else None,
                decided_with=how.layers[0] if how and how.layers[0] != change.name else None,
                predicted_ms=dict(how.times_ms) if how and how.times_ms else None,
            )
        )
    return tuple(records)


def _folded_gate(gate: Gate, profile: UtilisationProfile | None, report: PruneReport) -> FoldedGateRecord:
    import numpy as np

    from deploycc.pruning.gate_constants import response_error
    from deploycc.workflows.prune_decision import all_coefficients

    errors = None
    if profile is not None:
        layer = profile.layer(gate.layer)
        assert layer.gate is not None
        squares, used_squares = np.array(layer.squares), np.array(layer.gate.used_squares)
        errors = {}
        for name, coefficients in all_coefficients(profile, layer).items():
            kept = np.array(coefficients)
            kept[list(report.removed.get(gate.layer, ()))] = 0
            errors[name] = response_error(squares, used_squares, kept)
    return FoldedGateRecord(layer=gate.layer, place=gate.place, macs=gate.macs, response_error=errors)
