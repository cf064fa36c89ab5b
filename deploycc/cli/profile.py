"""``deploycc profile MODEL --images DIR -o FILE``: how much each kernel is used on calibration pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from deploycc.cli.model_options import ModelChoice, takes_model, warn_if_assumed

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.documents.utilisation import LayerUse, UtilisationProfile
    from deploycc.report.utilisation import UtilisationFigure

_PASSES_OF = "x86-cpu"  # the profile runs on this machine's CPU


@takes_model
def command(
    choice: ModelChoice,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Profile to write (JSON).")],
    images: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads the annotation at run time on Python 3.10
        typer.Option("--images", metavar="DIR", help="Folder of calibration pictures."),
    ] = None,
    data: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--data", "-d", metavar="DATA", help="Or: voc:FOLDER[@SPLIT], generated:SEED[:COUNT]."),
    ] = None,
    html: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--html", metavar="FILE", help="Also draw the utilisation into an HTML file."),
    ] = None,
    svg: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--svg", metavar="FILE", help="Also draw the utilisation as a picture."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Record how much each kernel is used on pictures.

    With gates: how often each gated kernel is on. Without: how often each kernel's activation is not zero.

    An interrupted run leaves FILE.partial behind and continues from it when called again.
    """
    from deploycc.cli import console
    from deploycc.files import write_text
    from deploycc.utilisation.measure import measure_utilisation
    from deploycc.workflows.calibration import calibration_pictures, check_one
    from deploycc.workflows.staging import require_folder

    check_one(images, data)
    for path in (output, html, svg):
        require_folder(path)
    partial = output.with_name(f"{output.name}.partial")
    with console.progress("profile") as say:
        say("reading")
        detector = choice.load()
        optimised = _optimise(detector)
        pictures = calibration_pictures(images, data, detector.input)
        profile, notes = measure_utilisation(optimised, pictures, partial=partial, say=say)
    profile.write(output)
    partial.unlink(missing_ok=True)
    for note in notes:
        console.note(note.reason)
    warn_if_assumed(detector.input, "the profile")
    if html is not None or svg is not None:
        from deploycc.report.utilisation import render_utilisation_html, render_utilisation_svg

        figure = _figure(profile)
        if svg is not None:
            write_text(svg, render_utilisation_svg(figure))
        if html is not None:
            write_text(html, render_utilisation_html(figure))
    if as_json:
        console.print_json(summary(profile))
    else:
        _show(profile)


def _optimise(detector: Detector) -> Detector:
    """The FP32 network with raw heads that this machine's CPU would run: layers keep their names."""
    from deploycc import target as targets
    from deploycc.passes import PIPELINE, run
    from deploycc.passes.for_target import options_for

    return run(detector, options_for(targets.load(_PASSES_OF), detection="raw"), PIPELINE).detector


def summary(profile: UtilisationProfile) -> dict[str, Any]:
    """What `profile` prints."""
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


def _layer_summary(profile: UtilisationProfile, layer: LayerUse) -> dict[str, Any]:
    from deploycc.documents.utilisation import utilisation

    used = utilisation(profile, layer)
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


def _show(profile: UtilisationProfile) -> None:
    from deploycc.cli import console
    from deploycc.report.format import count

    facts = summary(profile)
    what = "gate" if profile.kind == "gates" else "activation"
    rows = [
        [
            layer["name"],
            layer["place"] or layer["activation"] or "-",
            f"{layer['kernels']}",
            f"{count(layer['macs'])}",
            f"{100 * layer['mean_utilisation']:.1f} %",
            f"{layer['never']}",
            f"{layer['below_5_percent']}",
            f"{layer['always']}",
        ]
        for layer in facts["layers"]
    ]
    title = f"{profile.network}: {what} utilisation over {profile.pictures.count} pictures"
    console.table(["layer", what, "kernels", "MACs", "mean", "never", "below 5 %", "always"], rows, title)
    reduction = facts["reduction"]
    if reduction is not None:
        console.out()
        columns = ["operation reduction", "average", "std", "minimum", "maximum"]
        row = [f"{reduction[f'{name}_percent']:.1f} %" for name in ("average", "std", "min", "max")]
        console.table(columns, [[f"of {count(profile.scope_macs)} MACs, {profile.scope}", *row]])
        console.note(f"operation reduction: {reduction['definition']}")


def _figure(profile: UtilisationProfile) -> UtilisationFigure:
    from deploycc.documents.utilisation import REDUCTION, operation_reduction, utilisation
    from deploycc.report.utilisation import LayerPanel, ReductionFacts, UtilisationFigure
    from deploycc.workflows.calibration import preparation

    reduction = None
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
        preparation=preparation(profile.input) + (", assumed: no file states it" if profile.input.assumed else ""),
        evidence=profile.evidence,
        scope=profile.scope,
        scope_macs=profile.scope_macs,
        source_sha256=profile.source_sha256,
        pictures_sha256=profile.pictures.sha256,
        panels=tuple(
            LayerPanel(
                layer.name,
                layer.macs,
                tuple(utilisation(profile, layer).tolist()),
                layer.gate.place if layer.gate else layer.activation or "no activation",
            )
            for layer in profile.layers
        ),
        reduction=reduction,
    )
