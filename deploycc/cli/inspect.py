"""``deploycc inspect MODEL``: what a detector is made of, and which targets would take it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploycc.cli.model_options import ModelChoice, takes_model

if TYPE_CHECKING:
    from deploycc.detector import Detector


@takes_model
def command(
    choice: ModelChoice,
    layers: Annotated[bool, typer.Option("--layers", help="List every layer that multiplies.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Show layers, heads, gates, and which targets accept them."""
    from deploycc.cli import console

    with console.progress("inspect") as say:
        say("reading")
        detector = choice.load()
        facts = describe_detector(detector)
        say("asking the targets")
        facts["targets"] = _acceptance(detector)
    if as_json:
        console.print_json(facts)
    else:
        _show(facts, layers)


def describe_detector(detector: Detector) -> dict[str, Any]:
    """Return what `inspect` prints, without the targets: counts are read off the graph as imported."""
    from dataclasses import asdict

    from deploycc.graph.cost import layer_costs, measure_cost
    from deploycc.graph.gates.search import search_gates
    from deploycc.graph.split import split_heads
    from deploycc.workflows.records import detector_record, note_records, part_records, source_record

    cost = measure_cost(detector.graph)
    heads = detector.heads
    split = split_heads(detector.graph, heads.locations, heads.scores) if heads else None
    gates, gate_notes = search_gates(detector.graph, detector.gates)
    side = {}
    if split:
        side = dict.fromkeys(split.backend.nodes, "back-end") | dict.fromkeys(split.frontend.nodes, "front-end")
    return {
        "source": source_record(detector).model_dump(mode="json"),
        "detector": detector_record(detector).model_dump(mode="json"),
        "nodes": cost.nodes,
        "params": cost.params,
        "macs": cost.macs,
        "parts": [part.model_dump(mode="json") for part in part_records(split)],
        "gates": [asdict(gate) for gate in gates],
        "gate_notes": [note.model_dump(mode="json") for note in note_records(gate_notes)],
        "outputs": {tensor.name: list(tensor.shape or ()) for tensor in detector.graph.outputs},
        "layers": [
            {
                "name": layer.name,
                "op": layer.op,
                "part": side.get(layer.name),
                "input": list(layer.input_shape),
                "output": list(layer.output_shape),
                "params": layer.params,
                "macs": layer.macs,
            }
            for layer in layer_costs(detector.graph)
        ],
    }


def _acceptance(detector: Detector) -> list[dict[str, Any]]:
    """For every target: what its parser would refuse after the passes, for FP32 and where FP16 stands."""
    from deploycc import target as targets
    from deploycc.passes import PIPELINE, run
    from deploycc.passes.for_target import options_for

    answers = []
    notes_of: dict[Any, tuple[Any, ...]] = {}  # targets with the same options share one run
    for name in targets.names():
        target = targets.load(name)
        options = options_for(target)
        if options not in notes_of:
            compiled = run(detector, options, PIPELINE)
            notes_of[options] = tuple(note for note in compiled.notes if note.code == "parser-refuses")
        refused = notes_of[options]
        answers.append(
            {
                "target": name,
                "tier": target.tier,
                "precisions": list(target.precisions),
                "detection": options.detection,
                "accepted": not refused,
                "refused": [{"node": note.node, "reason": note.reason} for note in refused],
            }
        )
    return answers


def _show(facts: dict[str, Any], layers: bool) -> None:
    from deploycc.cli import console
    from deploycc.report.format import count

    detector, spec = facts["detector"], facts["detector"]["input"]
    source = facts["source"]
    seed = source["random_weights"]
    untrained = "" if seed is None else f" (untrained: random weights, seed {seed})"
    pixels = f"(pixel - {_list(spec['mean'])}) * {_list(spec['scale'])}{' (assumed)' if spec['assumed'] else ''}"
    rows = [
        ["source", ", ".join(source["files"]) + untrained],
        ["input", f"{spec['name']} {'x'.join(map(str, spec['shape']))} {spec['colour']}, {pixels}"],
        ["heads", _heads(detector)],
        ["outputs", ", ".join(f"{name} {shape}" for name, shape in facts["outputs"].items())],
        ["operators", f"{facts['nodes']}"],
        ["parameters", count(facts["params"])],
        ["MACs", count(facts["macs"])],
    ]
    for part in facts["parts"]:
        rows.append([part["name"], f"{count(part['macs'])} MACs, {count(part['params'])} parameters"])
    console.table(["", detector["name"]], rows)
    if facts["gates"]:
        console.out()
        console.table(
            ["gated layer", "kernels", "decisions", "multiplies", "threshold", "reads", "known by", "gate MACs"],
            [
                [
                    gate["layer"],
                    f"{gate['kernels']}",
                    f"{gate['units']} ({gate['granularity']})",
                    gate["place"],
                    "-" if gate["threshold"] is None else f"{gate['threshold']:g}",
                    ", ".join(gate["reads"]),
                    gate["source"],
                    count(gate["macs"]),
                ]
                for gate in facts["gates"]
            ],
        )
    if layers:
        console.out()
        console.table(
            ["layer", "operator", "part", "input", "output", "parameters", "MMACs"],
            [
                [
                    layer["name"],
                    layer["op"],
                    layer["part"] or "-",
                    "x".join(map(str, layer["input"][1:])),
                    "x".join(map(str, layer["output"][1:])),
                    f"{layer['params']}",
                    f"{layer['macs'] / 1e6:.2f}",
                ]
                for layer in facts["layers"]
            ],
        )
    console.out()
    console.table(
        ["target", "tier", "precisions", "decoding and NMS", "parser"],
        [
            [
                row["target"],
                row["tier"],
                ", ".join(row["precisions"]),
                row["detection"],
                "accepts" if row["accepted"] else f"refuses {len(row['refused'])} node(s)",
            ]
            for row in facts["targets"]
        ],
    )
    for note in [*detector["notes"], *facts["gate_notes"]]:
        console.note(f"{note['node'] + ': ' if note['node'] else ''}{note['reason']}")
    for reason in _reasons(facts["targets"]):
        console.note(reason)


def _reasons(targets: list[dict[str, Any]]) -> list[str]:
    """One line for each different refusal, with the targets it concerns."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for row in targets:
        for refusal in row["refused"]:
            by_reason.setdefault((refusal["node"], refusal["reason"]), []).append(row["target"])
    return [f"{', '.join(names)}: {node}: {reason}" for (node, reason), names in by_reason.items()]


def _heads(detector: dict[str, Any]) -> str:
    if detector["heads"] == "ssd":
        return f"SSD, {detector['priors']} priors, {detector['classes']} classes"
    return {"in-graph": "decoded inside the graph", "opaque": "not recognised: compiled as an opaque network"}[
        detector["heads"]
    ]


def _list(values: list[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else "(" + ", ".join(f"{value:g}" for value in values) + ")"
