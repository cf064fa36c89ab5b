"""What a detector is made of, and which targets accept it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from deploycc.progress import Say, quiet

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.errors import Note
    from deploycc.passes.options import Options
    from deploycc.report.inspection import Acceptance, Inspection
    from deploycc.target import Target


def inspect_detector(detector: Detector, targets: Sequence[Target] | None = None, say: Say = quiet) -> Inspection:
    """Read layers, parts, heads and gates off the graph as imported, and ask targets whether they accept it.

    Args:
        detector: as imported.
        targets: whose parsers are asked; default: all that are shipped.
        say: told which target is asked.
    """
    from deploycc import target as shipped
    from deploycc.graph.cost import layer_costs, measure_cost
    from deploycc.graph.gates.search import search_gates
    from deploycc.graph.split import split_heads
    from deploycc.report.inspection import Inspection
    from deploycc.workflows.records import detector_record, note_records, part_records, source_record

    if targets is None:
        targets = [shipped.load(name) for name in shipped.names()]
    heads, graph = detector.heads, detector.graph
    split = split_heads(graph, heads.locations, heads.scores) if heads else None
    gates, gate_notes = search_gates(graph, detector.gates)
    part_of = {}
    if split:
        part_of = dict.fromkeys(split.backend.nodes, "back-end") | dict.fromkeys(split.frontend.nodes, "front-end")
    return Inspection(
        source=source_record(detector),
        detector=detector_record(detector),
        parts=part_records(split),
        cost=measure_cost(graph),
        gates=tuple(gates),
        gate_notes=note_records(gate_notes),
        outputs={tensor.name: tuple(tensor.shape or ()) for tensor in graph.outputs},
        layers=tuple(layer_costs(graph)),
        part_of=part_of,
        targets=_acceptance(detector, targets, say),
    )


def _acceptance(detector: Detector, targets: Sequence[Target], say: Say) -> tuple[Acceptance, ...]:
    """Run the passes for each target in FP32 and keep what its parser would refuse."""
    from deploycc.passes import CHECK, DROP_DEAD, FIT, FOLD, LOWER, PRUNE, run
    from deploycc.passes.for_target import options_for
    from deploycc.report.inspection import Acceptance

    answers = []
    said: dict[Options, tuple[Note, ...]] = {}  # targets with the same options share one run
    folded = None  # the passes up to here read no options, so all targets share them
    for number, target in enumerate(targets):
        say("asking the targets", number, len(targets))
        options = options_for(target)
        if folded is None:
            folded = run(detector, options, FOLD + DROP_DEAD).detector
        if options not in said:
            said[options] = run(folded, options, PRUNE + LOWER + FIT + CHECK).notes
        refused, unproven = (
            tuple(note for note in said[options] if note.code == code) for code in ("parser-refuses", "parser-unproven")
        )
        answers.append(Acceptance(target, options.detection, refused, unproven))
    return tuple(answers)
