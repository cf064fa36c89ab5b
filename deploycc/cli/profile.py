"""``deploycc profile MODEL --images DIR -o FILE``: how much each kernel is used on calibration pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploycc.cli.model_options import ModelChoice, one_source, takes_model, warn_if_assumed
from deploycc.terminal import console

if TYPE_CHECKING:
    from deploycc.documents.utilisation import UtilisationProfile


@takes_model
def command(
    choice: ModelChoice,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Profile to write (JSON).")],
    images: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of calibration pictures.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            "-d",
            metavar="DATA",
            help="Pictures instead of --images: voc:FOLDER[@SPLIT] or generated:SEED[:COUNT].",
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the utilisation into an HTML file.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw the utilisation as a picture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Record how much each kernel is used on pictures.

    With gates: how often each gated kernel is on. Without: how often each kernel's activation is not zero.

    An interrupted run leaves FILE.partial behind and continues from it when called again.
    """
    from deploycc.files import check_writable, is_stream, write_text
    from deploycc.report.utilisation_summary import utilisation_figure, utilisation_summary
    from deploycc.workflows.pictures import open_pictures
    from deploycc.workflows.profile import measure_profile

    source = one_source(images, data)
    check_writable(output, html, svg, inputs=[choice.model, choice.weights])
    partial = None if is_stream(output) else output.with_name(f"{output.name}.partial")
    with console.progress("profile") as say:
        say("reading")
        detector = choice.load()
        profiled = measure_profile(detector, open_pictures(source, detector.input), partial=partial, say=say)
    profile = profiled.profile
    profile.write(output)
    if partial is not None:
        partial.unlink(missing_ok=True)
    console.notes(profiled.notes)
    warn_if_assumed(detector.input, "the profile")
    if html is not None or svg is not None:
        from deploycc.report.utilisation import render_utilisation_html, render_utilisation_svg

        figure = utilisation_figure(profile)
        if svg is not None:
            write_text(svg, render_utilisation_svg(figure))
        if html is not None:
            write_text(html, render_utilisation_html(figure))
    if as_json:
        console.print_json(utilisation_summary(profile))
    else:
        _show(profile)
    console.wrote(*filter(None, (output, html, svg)))


def _show(profile: UtilisationProfile) -> None:
    from deploycc.report.format import count
    from deploycc.report.utilisation_summary import utilisation_summary

    facts = utilisation_summary(profile)
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
