"""Summarise a utilisation profile for tables, and extract the contents of its plot."""

from __future__ import annotations

from typing import Any

from deploycc.documents.utilisation import LayerUse, UtilisationProfile
from deploycc.report.format import count, preparation
from deploycc.report.table import Table
from deploycc.report.utilisation import LayerPanel, ReductionFacts, UtilisationFigure


def utilisation_summary(profile: UtilisationProfile) -> dict[str, Any]:
    """Summarise a profile as JSON values: one row per layer, and the operation reduction."""
    from deploycc.documents.utilisation import REDUCTION

    reduction = profile.reduction
    return {
        "network": profile.network,
        "kind": profile.kind,
        "pictures": profile.pictures.count,
        "scope": profile.scope,
        "scope_macs": profile.scope_macs,
        "reduction": None if reduction is None else {**reduction.model_dump(), "definition": REDUCTION},
        "layers": [_layer_summary(profile, layer) for layer in profile.layers],
    }


def utilisation_tables(profile: UtilisationProfile) -> list[Table]:
    """One row per layer; with gates also the operation reduction."""
    facts = utilisation_summary(profile)
    what = "gate" if profile.kind == "gates" else "activation"
    rows = tuple(
        (
            layer["name"],
            layer["place"] or layer["activation"] or "-",
            str(layer["kernels"]),
            count(layer["macs"]),
            f"{100 * layer['mean_utilisation']:.1f} %",
            str(layer["never"]),
            str(layer["below_5_percent"]),
            str(layer["always"]),
        )
        for layer in facts["layers"]
    )
    title = f"{profile.network}: {what} utilisation over {profile.pictures.count} pictures"
    columns = ("layer", what, "kernels", "MACs", "mean", "never", "below 5 %", "always")
    tables = [Table(title, columns, rows)]
    if (reduction := facts["reduction"]) is not None:
        percents = (f"{reduction[f'{name}_percent']:.1f} %" for name in ("average", "std", "min", "max"))
        row = (f"of {count(profile.scope_macs)} MACs, {profile.scope}", *percents)
        statistics = ("operation reduction", "average", "std", "minimum", "maximum")
        tables.append(Table("", statistics, (row,)))
    return tables


def utilisation_remarks(profile: UtilisationProfile) -> list[str]:
    """Say how the operation reduction is defined, where there is one."""
    from deploycc.documents.utilisation import REDUCTION

    return [] if profile.reduction is None else [f"operation reduction: {REDUCTION}"]


def _layer_summary(profile: UtilisationProfile, layer: LayerUse) -> dict[str, Any]:
    used = profile.mean_utilisation(layer)
    return {
        "name": layer.name,
        "kernels": layer.kernels,
        "macs": layer.macs,
        "activation": layer.activation,
        "place": layer.gate.place if layer.gate else None,
        "granularity": layer.gate.granularity if layer.gate else None,
        "mean_utilisation": float(used.mean()),
        "never": int((used == 0).sum()),
        "below_5_percent": int((used < 0.05).sum()),
        "always": int((used == 1).sum()),
    }


def utilisation_figure(profile: UtilisationProfile) -> UtilisationFigure:
    """Extract the contents of a profile's plot: one panel per layer, and the operation reduction."""
    from deploycc.documents.utilisation import REDUCTION, operation_reduction

    spec, reduction = profile.input, None
    assumed = ", assumed: no file states it" if spec.assumed else ""
    if profile.reduction is not None:
        shares = operation_reduction(profile.layers, profile.pictures.count, profile.scope_macs)
        facts = profile.reduction
        reduction = ReductionFacts(
            average_percent=facts.average_percent,
            std_percent=facts.std_percent,
            min_percent=facts.min_percent,
            max_percent=facts.max_percent,
            percents=tuple((100 * shares).tolist()),
            definition=REDUCTION,
        )
    return UtilisationFigure(
        network=profile.network,
        kind=profile.kind,
        pictures=profile.pictures.count,
        picture_source=profile.pictures.source,
        preparation=preparation(spec.colour, spec.mean, spec.scale) + assumed,
        evidence=profile.evidence,
        scope=profile.scope,
        scope_macs=profile.scope_macs,
        source_sha256=profile.source_sha256,
        pictures_sha256=profile.pictures.sha256,
        panels=tuple(
            LayerPanel(
                layer.name,
                layer.macs,
                tuple(profile.mean_utilisation(layer).tolist()),
                layer.gate.place if layer.gate else layer.activation or "no activation",
            )
            for layer in profile.layers
        ),
        reduction=reduction,
    )
