"""Group the notes of a compilation: one entry per reason, with all its nodes."""

from __future__ import annotations

from dataclasses import dataclass

from deploycc.documents.compile import CompileReport
from deploycc.documents.document import NoteRecord


@dataclass(frozen=True)
class GatheredNote:
    """Notes with the same code and reason, in the order of their first appearance."""

    code: str
    reason: str
    nodes: tuple[str, ...]


def gather_notes(report: CompileReport) -> tuple[GatheredNote, ...]:
    """Group the notes of the importer and of all passes; notes repeated for every precision appear once."""
    notes: list[NoteRecord] = [*report.detector.notes]
    notes += [note for network in report.networks for step in network.steps for note in step.notes]
    groups: dict[tuple[str, str], dict[str, None]] = {}
    for note in notes:
        nodes = groups.setdefault((note.code, note.reason), {})
        if note.node:
            nodes[note.node] = None
    return tuple(GatheredNote(code, reason, tuple(nodes)) for (code, reason), nodes in groups.items())
