"""From the compiler's values to the records of ``compile.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import JsonValue

from deploycc.documents.compile import (
    DetectorRecord,
    InputRecord,
    NetworkRecord,
    PartRecord,
    SizeRecord,
    StepRecord,
    TargetRecord,
)
from deploycc.documents.document import NoteRecord
from deploycc.documents.source import SourceRecord

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from deploycc.detector import Detector, InputSpec
    from deploycc.documents.plan import Variant
    from deploycc.errors import Note
    from deploycc.graph.cost import Cost
    from deploycc.graph.split import Split
    from deploycc.passes import Compiled
    from deploycc.target import Target


def note_records(notes: Iterable[Note]) -> tuple[NoteRecord, ...]:
    """Notes as records."""
    return tuple(NoteRecord(node=note.node, code=note.code, reason=note.reason) for note in notes)


def source_record(detector: Detector) -> SourceRecord:
    """Where the detector came from."""
    source = detector.source
    return SourceRecord(
        files=source.files,
        sha256=source.sha256,
        format=source.format,
        random_weights=source.random_weights,
        file_sha256=source.file_sha256,
    )


def input_record(spec: InputSpec) -> InputRecord:
    """The picture tensor."""
    return InputRecord(
        name=spec.name,
        shape=spec.shape,
        colour=spec.colour,
        mean=spec.mean,
        scale=spec.scale,
        assumed=spec.assumed,
    )


def detector_record(detector: Detector) -> DetectorRecord:
    """What the importer recognised."""
    heads = "ssd" if detector.heads else "in-graph" if detector.detections else "opaque"
    return DetectorRecord(
        name=detector.name,
        input=input_record(detector.input),
        heads=heads,  # type: ignore[arg-type]
        classes=detector.heads.classes if detector.heads else None,
        class_names=detector.class_names,
        priors=len(detector.heads.priors) if detector.heads else None,
        notes=note_records(detector.notes),
    )


def target_record(target: Target) -> TargetRecord:
    """The board and its software."""
    return TargetRecord(
        name=target.name,
        title=target.title,
        tier=target.tier,
        runtime=target.runtime,
        runtime_version=target.runtime_version,
        unconfirmed=target.unconfirmed,
    )


def part_records(split: Split | None) -> tuple[PartRecord, ...]:
    """Back-end and front-end, or nothing where the heads are unknown."""
    if split is None:
        return ()
    return tuple(
        PartRecord(name=name, macs=part.macs, params=part.params)
        for name, part in (("back-end", split.backend), ("front-end", split.frontend))
    )


def network_record(compiled: Compiled, file: Path, sha256: str, variant: Variant) -> NetworkRecord:
    """One optimised network and the passes that made it."""
    from deploycc.graph.split import split_heads

    options, heads = compiled.options, compiled.detector.heads
    split = None if heads is None else split_heads(compiled.detector.graph, heads.locations, heads.scores)
    return NetworkRecord(
        variant=variant,
        precision=options.precision,
        file=file.name,
        sha256=sha256,
        size_bytes=file.stat().st_size,
        source_sha256=compiled.detector.source.sha256,
        options={
            "detection": options.detection,
            "precision": options.precision,
            "typed": options.typed,
            "keep_fp32": list[JsonValue](sorted(options.keep_fp32)),
            "parser": options.contract.parser,
            "parser_version": ".".join(map(str, options.contract.version)) or None,
        },
        steps=tuple(
            StepRecord(
                name=step.name,
                seconds=step.seconds,
                changed=step.changed,
                before=_size(step.before),
                after=_size(step.after),
                notes=note_records(step.notes),
            )
            for step in compiled.steps
        ),
        parts=part_records(split),
    )


def _size(cost: Cost) -> SizeRecord:
    return SizeRecord(nodes=cost.nodes, params=cost.params, macs=cost.macs)
