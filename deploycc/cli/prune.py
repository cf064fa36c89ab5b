"""``deploycc prune MODEL --profile P -o OUT.onnx``: useless kernels leave the network, physically."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from deploycc.cli.model_options import ModelChoice, takes_model, warn_if_assumed
from deploycc.errors import ArtefactError, InputError

if TYPE_CHECKING:
    from deploycc.utilisation.measure import PictureList
    from deploycc.workflows.prune import Pruned, Settings

_CHOICES = {
    "--by": ("utilisation", "l1", "mask"),
    "--scope": ("backend", "frontend", "both"),
    "--coefficient": ("mean", "least-squares", "none"),
    "--round-to": ("auto", "1", "8", "16", "32"),
}
_STAYS_SHOWN = 3


@takes_model
def command(
    choice: ModelChoice,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Pruned detector to write (.onnx).")],
    profile: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads the annotation at run time on Python 3.10
        typer.Option("--profile", metavar="FILE", help="Utilisation profile of this model (`deploycc profile`)."),
    ] = None,
    below: Annotated[
        float,
        typer.Option("--below", min=0, max=1, help="Kernels used less go; with --by l1, the share of each layer."),
    ] = 0.05,
    by: Annotated[str, typer.Option("--by", help="utilisation, l1 (smallest filters) or mask.")] = "utilisation",
    mask: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--mask", metavar="FILE", help='Kernels to remove, JSON: {"layer": [0, 5]}; implies --by mask.'),
    ] = None,
    scope: Annotated[str, typer.Option("--scope", help="backend, frontend or both.")] = "backend",
    coefficient: Annotated[
        str, typer.Option("--coefficient", help="What replaces a gate: mean (its utilisation), least-squares or none.")
    ] = "mean",
    round_to: Annotated[
        str,
        typer.Option("--round-to", help="Kernels kept are a multiple of 1, 8, 16, 32, or auto: the fastest here."),
    ] = "auto",
    costs: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--costs", metavar="FILE", help="Convolution times for --round-to auto: read, completed, kept."),
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of these measurements; 0: every core.")] = 0,
    keep_gates: Annotated[
        bool, typer.Option("--keep-gates", help="Leave the gates in; they shrink with their kernels.")
    ] = False,
    always_from: Annotated[
        float,
        typer.Option("--always-from", min=0, max=1, help="With --keep-gates: a gate this much on goes too."),
    ] = 0.95,
    reconstruct: Annotated[
        bool, typer.Option("--reconstruct", help="Refit what is left on pictures; no labels are used.")
    ] = False,
    images: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--images", metavar="DIR", help="Folder of pictures for --reconstruct."),
    ] = None,
    data: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--data", "-d", metavar="DATA", help="Or: voc:FOLDER[@SPLIT], generated:SEED[:COUNT]."),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="List every channel that had to stay, and why.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Remove kernels that are hardly used, with every channel that depends on them."""
    from deploycc.cli import console
    from deploycc.detector.file import save
    from deploycc.timing.machine import check_threads, usable_cores
    from deploycc.workflows.calibration import calibration_pictures, check_one
    from deploycc.workflows.prune import Settings, prune_detector

    check_threads(threads)
    given = {"--by": by, "--scope": scope, "--coefficient": coefficient, "--round-to": round_to}
    for option, value in given.items():
        if value not in _CHOICES[option]:
            raise InputError("prune-option", f"{option} {value} is none of {', '.join(_CHOICES[option])}")
    if reconstruct:
        check_one(images, data)
    elif images is not None or data is not None:
        raise InputError("prune-option", "--images and --data are for --reconstruct", hint="add --reconstruct")
    for path in (output, costs):
        if path is not None and not path.parent.is_dir():  # now, not after minutes
            fact = "its folder does not exist"
            raise ArtefactError("file-unwritable", f"{path.name} cannot be written", context={"file": path}, note=fact)
    settings = Settings(
        by="mask" if mask is not None else by,  # type: ignore[arg-type]
        below=below,
        scope=scope,  # type: ignore[arg-type]
        coefficient=coefficient,  # type: ignore[arg-type]
        multiple=None if round_to == "auto" else int(round_to),
        keep_gates=keep_gates,
        profile=profile,
        mask=mask,
        costs=costs,
        threads=threads or usable_cores(),
        always_from=always_from,
    )
    with console.progress("prune") as say:
        say("reading")
        detector = choice.load()
        pictures = calibration_pictures(images, data, detector.input) if reconstruct else None
        pruned = prune_detector(detector, settings, say, pictures)
    if pictures is not None:
        warn_if_assumed(detector.input, "what was refitted")
    sha256 = save(pruned.detector, output)
    facts = summary(pruned, settings, output, sha256, pictures)
    if as_json:
        console.print_json(facts)
    else:
        _show(facts, explain)


def summary(
    pruned: Pruned, settings: Settings, output: Path, sha256: str, pictures: PictureList | None = None
) -> dict[str, Any]:
    """What `prune` prints."""
    rounded = {name: each for each in pruned.rounded for name in each.layers}
    layers = []
    for layer in pruned.report.layers:
        useless = len(pruned.choice.kernels.get(layer.name, ()))
        how = rounded.get(layer.name)
        layers.append(
            {
                "name": layer.name,
                "op": layer.op,
                "kernels": layer.kernels,
                "macs": layer.macs,
                "params": layer.params,
                "useless": useless,
                "kept_for_multiple": max(0, how.kept - how.least) if how else 0,
                "dropped_for_multiple": max(0, how.least - how.kept) if how else 0,
                "multiple": how.multiple if how else None,
                "with": how.layers[0] if how and how.layers[0] != layer.name else None,
                "predicted_ms": dict(how.times_ms) if how and how.times_ms else None,
            }
        )
    return {
        "network": pruned.detector.name,
        "file": str(output),
        "sha256": sha256,
        "useless": pruned.choice.why,
        "scope": settings.scope,
        "coefficient": settings.coefficient if pruned.gates else None,
        "round_to": settings.multiple or "auto",
        "relative_times": dict(pruned.compared) or None,
        "sizes": pruned.sizes,
        "layers": layers,
        "gates": [
            {"layer": gate.layer, "place": gate.place, "macs": gate.macs, "response_error": gate.errors}
            for gate in pruned.gates
        ],
        "reconstruction": _reconstruction(pruned, pictures),
        "stays": [{"node": n.node, "code": n.code, "reason": n.reason} for n in pruned.stays],
        "unknown": [{"node": n.node, "code": n.code, "reason": n.reason} for n in pruned.report.unknown],
    }


def _reconstruction(pruned: Pruned, pictures: PictureList | None) -> dict[str, Any] | None:
    found = pruned.reconstruction
    if found is None or pictures is None:
        return None
    return {
        "pictures": {"source": pictures.source, "sha256": pictures.sha256},
        "fitted": found.pictures[0],
        "held_out": found.pictures[1],
        "layers": [{"name": each.name, "ridge": each.ridge, "error": each.error} for each in found.layers],
        "notes": [{"node": n.node, "code": n.code, "reason": n.reason} for n in found.notes],
    }


def _show(facts: dict[str, Any], explain: bool) -> None:
    from deploycc.cli import console
    from deploycc.report.format import change, count

    rows = []
    for layer in facts["layers"]:
        before, after = layer["kernels"]
        macs = layer["macs"]
        if before != after or layer["useless"] or macs[0] != macs[1]:
            row = [layer["name"], f"{before}", f"{after}", count(macs[0]), count(macs[1]), change(*macs), _why(layer)]
            rows.append(row)
    title = f"{facts['network']}: kernels {facts['useless']} are useless"
    if rows:
        console.table(["layer", "kernels", "after", "MACs", "after", "change", "why"], rows, title)
        console.out()
    else:
        console.note(f"{title}; no layer has any that could go")
    parts = [
        [part, count(size["macs"][0]), count(size["macs"][1]), change(*size["macs"]), count(size["params"][0]),
         count(size["params"][1]), change(*size["params"])]
        for part, size in facts["sizes"].items()
    ]  # fmt: skip
    console.table(["part", "MACs", "after", "change", "parameters", "after", "change"], parts)
    if facts["relative_times"]:
        _show_times(facts["relative_times"])
    if facts["gates"]:
        _show_gates(facts)
    if facts["reconstruction"]:
        _show_reconstruction(facts["reconstruction"], explain)
    _show_stays(facts["stays"], explain)
    if explain:
        for note in facts["unknown"]:
            console.out(f"not analysed: {note['node']}: {note['reason']} ({note['code']})")
    console.note(f"written: {facts['file']}")


def _why(layer: dict[str, Any]) -> str:
    before, after = layer["kernels"]
    parts = []
    if layer["useless"]:
        parts.append(f"{layer['useless']} useless")
        stay = layer["useless"] - (before - after) - layer["kept_for_multiple"] + layer["dropped_for_multiple"]
        if layer["kept_for_multiple"]:
            parts.append(f"{layer['kept_for_multiple']} kept for a multiple of {layer['multiple']}")
        if layer["dropped_for_multiple"]:
            parts.append(f"{layer['dropped_for_multiple']} more dropped for a multiple of {layer['multiple']}")
        if stay > 0:
            parts.append(f"{stay} must stay")
    elif before != after:
        parts.append(f"goes with {layer['with']}" if layer["with"] else "its channels are constant")
    else:
        parts.append("fewer inputs")
    return ", ".join(parts)


def _show_gates(facts: dict[str, Any]) -> None:
    from deploycc.cli import console
    from deploycc.report.format import count

    rows = []
    for gate in facts["gates"]:
        errors = gate["response_error"] or {}
        cells = [f"{100 * errors[name]:.1f} %" if name in errors else "-" for name in ("mean", "least-squares")]
        rows.append([gate["layer"], gate["place"], count(gate["macs"]), *cells])
    console.out()
    title = f"gates that became constants ({facts['coefficient']}), and the energy of responses that either gets wrong"
    console.table(["layer", "place", "gate MACs", "mean", "least-squares"], rows, title)


def _show_reconstruction(facts: dict[str, Any], explain: bool) -> None:
    from deploycc.cli import console

    layers = facts["layers"]
    if explain and layers:
        rows = [
            [layer["name"], "unchanged" if layer["ridge"] is None else f"{layer['ridge']:g}",
             *(f"{100 * error:.2f} %" for error in layer["error"])]
            for layer in layers
        ]  # fmt: skip
        console.out()
        title = f"energy of responses that is wrong on {facts['held_out']} held-out pictures"
        console.table(["layer", "refitted with ridge", "pruned", "refitted"], rows, title)
    for note in facts["notes"]:
        console.note(f"{note['node']}: {note['reason']}")
    if not layers:
        console.note("no layer needed refitting")
        return
    changed = sum(layer["ridge"] is not None for layer in layers)
    before, after = (median(layer["error"][side] for layer in layers) for side in (0, 1))
    console.note(
        f"{changed} of {len(layers)} layers refitted on {facts['fitted']} pictures without labels; on "
        f"{facts['held_out']} others the energy of responses that is wrong fell from {100 * before:.1f} % to "
        f"{100 * after:.1f} % (median layer{'' if explain else '; --explain lists them'})"
    )


def _show_times(times: dict[str, float]) -> None:
    from deploycc.cli import console

    spelled = {"each": "each layer's fastest", "down": "multiples of 16, down where few are over"}
    names = [spelled.get(name, f"multiples of {name}") for name in times]
    shown = ", ".join(f"{name} {value:.2f}" for name, value in zip(names, times.values(), strict=True))
    console.note(f"the whole network's time by kernels kept, measured here: {shown}; on equal terms 16 is kept")


def _show_stays(stays: list[dict[str, str]], explain: bool) -> None:
    from deploycc.cli import console

    if not stays:
        return
    if explain:
        console.out()
        console.table(["layer", "code", "why it stays"], [[n["node"], n["code"], n["reason"]] for n in stays])
        return
    codes = Counter(note["code"] for note in stays)
    listed = ", ".join(f"{number} {code}" for code, number in codes.most_common(_STAYS_SHOWN))
    console.note(f"{len(stays)} useless channels had to stay ({listed}); --explain lists them")
