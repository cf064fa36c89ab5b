"""What a detector is made of, and which targets accept it: as tables and as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deploycc.documents.compile import DetectorRecord, InputRecord, PartRecord
from deploycc.documents.document import NoteRecord
from deploycc.documents.source import SourceRecord
from deploycc.errors import Note
from deploycc.graph.cost import Cost, LayerCost
from deploycc.graph.gates.search import Gate
from deploycc.report.format import count
from deploycc.report.table import Table
from deploycc.target import Target

_NODES_NAMED = 2  # of those that are refused for one reason

_HEADS = {"in-graph": "decoded inside the graph", "opaque": "not recognised: compiled as an opaque network"}


@dataclass(frozen=True)
class Acceptance:
    """What a target's parser says to a detector after the passes.

    Attributes:
        target: the target.
        detection: how boxes are decoded and suppressed there.
        refused: nodes that the parser would refuse, with the reason; a node with two reasons is there twice.
        unproven: what the parser is expected to accept although no source confirms it.
    """

    target: Target
    detection: str
    refused: tuple[Note, ...]
    unproven: tuple[Note, ...] = ()

    @property
    def refused_nodes(self) -> int:
        """Number of nodes that are refused, each counted once."""
        return len({note.node for note in self.refused})


@dataclass(frozen=True)
class Inspection:
    """A detector as imported.

    Attributes:
        source, detector, parts: as in ``compile.json``.
        cost: of the whole network.
        gates: kernel gates.
        gate_notes: what looks like a gate and is none, with the reason.
        outputs: shapes by name; empty where unknown.
        layers: operators that do MACs, in the order of the network.
        part_of: the part of each layer; empty where the heads are unknown.
        targets: what every target says.
    """

    source: SourceRecord
    detector: DetectorRecord
    parts: tuple[PartRecord, ...]
    cost: Cost
    gates: tuple[Gate, ...]
    gate_notes: tuple[NoteRecord, ...]
    outputs: Mapping[str, tuple[int | str, ...]]
    layers: tuple[LayerCost, ...]
    part_of: Mapping[str, str]
    targets: tuple[Acceptance, ...]


def inspection_json(found: Inspection) -> dict[str, Any]:
    """Everything, as plain values."""
    return {
        "source": found.source.model_dump(mode="json"),
        "detector": found.detector.model_dump(mode="json"),
        "nodes": found.cost.nodes,
        "params": found.cost.params,
        "macs": found.cost.macs,
        "parts": [part.model_dump(mode="json") for part in found.parts],
        "gates": [asdict(gate) for gate in found.gates],
        "gate_notes": [note.model_dump(mode="json") for note in found.gate_notes],
        "outputs": {name: list(shape) for name, shape in found.outputs.items()},
        "layers": [
            {
                "name": layer.name,
                "op": layer.op,
                "part": found.part_of.get(layer.name),
                "input": list(layer.input_shape),
                "output": list(layer.output_shape),
                "params": layer.params,
                "macs": layer.macs,
            }
            for layer in found.layers
        ],
        "targets": [
            {
                "target": answer.target.name,
                "tier": answer.target.tier,
                "precisions": list(answer.target.precisions),
                "detection": answer.detection,
                "accepted": not answer.refused,
                "refused": [{"node": note.node, "reason": note.reason} for note in answer.refused],
                "unproven": [note.reason for note in answer.unproven],
            }
            for answer in found.targets
        ],
    }


def inspection_tables(found: Inspection, *, layers: bool) -> list[Table]:
    """The network, its gates, its layers where they are asked for, and the targets."""
    tables = [_network_table(found)]
    if found.gates:
        tables.append(_gates_table(found.gates))
    if layers:
        tables.append(_layers_table(found))
    return [*tables, _targets_table(found.targets)]


def inspection_notes(found: Inspection) -> list[str]:
    """What the importer and the search for gates noted, and why targets refuse nodes."""
    notes = [f"{note.node}: {note.reason}" if note.node else note.reason for note in found.detector.notes]
    notes += [f"{note.node}: {note.reason}" for note in found.gate_notes]
    nodes: dict[tuple[str, str], list[str]] = {}
    for answer in found.targets:
        for note in (*answer.refused, *answer.unproven):
            nodes.setdefault((answer.target.name, note.reason), []).append(note.node)
    targets: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (target, reason), names in nodes.items():
        targets.setdefault((reason, tuple(names)), []).append(target)
    return notes + [
        f"{', '.join(refusing)}: {reason}" + (f" ({_some(names)})" if any(names) else "")
        for (reason, names), refusing in targets.items()
    ]


def _network_table(found: Inspection) -> Table:
    seed = found.source.random_weights
    untrained = "" if seed is None else f" (untrained: random weights, seed {seed})"
    rows = [
        ("source", ", ".join(found.source.files) + untrained),
        ("input", _input(found.detector.input)),
        ("heads", _heads(found.detector)),
        ("outputs", ", ".join(f"{name} {list(shape)}" for name, shape in found.outputs.items())),
        ("operators", f"{found.cost.nodes}"),
        ("parameters", count(found.cost.params)),
        ("MACs", count(found.cost.macs)),
        *((part.name, f"{count(part.macs)} MACs, {count(part.params)} parameters") for part in found.parts),
    ]
    return Table("", ("", found.detector.name), tuple(rows))


def _gates_table(gates: Sequence[Gate]) -> Table:
    columns = ("gated layer", "kernels", "decisions", "granularity", "multiplies", "threshold", "known by", "gate MACs")
    rows = tuple(
        (
            gate.layer,
            f"{gate.kernels}",
            f"{gate.units}",
            gate.granularity,
            gate.place,
            "-" if gate.threshold is None else f"{gate.threshold:g}",
            gate.source,
            count(gate.macs),
        )
        for gate in gates
    )
    return Table("", columns, rows)


def _layers_table(found: Inspection) -> Table:
    columns = ("layer", "operator", "part", "input", "output", "parameters", "MMACs")
    rows = tuple(
        (
            layer.name,
            layer.op,
            found.part_of.get(layer.name, "-"),
            "x".join(map(str, layer.input_shape[1:])),
            "x".join(map(str, layer.output_shape[1:])),
            f"{layer.params}",
            f"{layer.macs / 1e6:.2f}",
        )
        for layer in found.layers
    )
    return Table("", columns, rows)


def _targets_table(targets: Sequence[Acceptance]) -> Table:
    rows = tuple(
        (
            answer.target.name,
            answer.target.tier,
            ", ".join(answer.target.precisions),
            answer.detection,
            _answer(answer),
        )
        for answer in targets
    )
    return Table("", ("target", "tier", "precisions", "decoding and NMS", "parser"), rows)


def _answer(answer: Acceptance) -> str:
    if answer.refused:
        return f"refuses {answer.refused_nodes} {'node' if answer.refused_nodes == 1 else 'nodes'}"
    return "accepts, unproven" if answer.unproven else "accepts"


def _input(spec: InputRecord) -> str:
    assumed = " (assumed)" if spec.assumed else ""
    pixels = f"(pixel - {_numbers(spec.mean)}) * {_numbers(spec.scale)}{assumed}"
    return f"{spec.name} {'x'.join(map(str, spec.shape))} {spec.colour}, {pixels}"


def _heads(detector: DetectorRecord) -> str:
    if detector.heads == "ssd":
        return f"SSD, {detector.priors} priors, {detector.classes} classes"
    return _HEADS[detector.heads]


def _numbers(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else "(" + ", ".join(f"{value:g}" for value in values) + ")"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NODES_NAMED
    return ", ".join(names[:_NODES_NAMED]) + (f" and {more} more" if more > 0 else "")
