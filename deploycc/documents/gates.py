"""``gates.json``: how a gated network runs, picture by picture, and what was decided about each gate.

Raw samples; what is shown is derived on reading (`deploycc.report.gates`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from deploycc.documents.document import Count, Document, Evidence, Record, Sha256, read_document
from deploycc.documents.gate_plan import Lowering

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rounds = Annotated[tuple[tuple[Positive, ...], ...], Field(min_length=1)]
"""Milliseconds, [rounds][pictures]."""


class ConsideredRecord(Record):
    """One way to carry out a region that was considered.

    Attributes:
        layers: names, in order.
        lowering: see `deploycc.documents.gate_plan.LayerPlan`.
        sizes: of each layer, as in the plan.
        expected_ms: predicted mean over the recorded pictures.
        all_on_ms: predicted with every kernel on.
        added_bytes: of weights that branches hold beyond one copy.
        chosen: whether the planner took it.
    """

    layers: Annotated[tuple[str, ...], Field(min_length=1)]
    lowering: Lowering
    sizes: tuple[tuple[Count, ...], ...]
    expected_ms: float
    all_on_ms: float
    added_bytes: Count
    chosen: bool


class RegionRecord(Record):
    """What measuring said about one lowered region.

    Attributes:
        layers: names, in order.
        lowering, sizes: as planned.
        predicted_saved_ms: against the same layers as products, mean over the recorded pictures.
        measured_saved_ms: the same, of the whole network on the pictures below; None where nothing was measured.
        kept: whether it stays lowered, as planned or in a simpler way.
        why: where it is not as planned.
    """

    layers: Annotated[tuple[str, ...], Field(min_length=1)]
    lowering: Literal["groups", "widths", "variants"]
    sizes: tuple[tuple[Count, ...], ...]
    predicted_saved_ms: float
    measured_saved_ms: float | None
    kept: bool
    why: str = ""


class PictureRecord(Record):
    """One picture.

    Attributes:
        name: of the file or of the generated scene.
        active_share: of the gated convolutions' operations, those of kernels that are on.
        saved_macs: of kernels that are off.
        saved_macs_with_inputs: also of input channels that are zero because of them.
    """

    name: str
    active_share: Share
    saved_macs: Count
    saved_macs_with_inputs: Count


class Timings(Record):
    """Networks timed in turns; every figure measured.

    Attributes:
        evidence: the machine.
        pictures: what they ran on.
        dense_ms, masked_ms, lowered_ms: without gates, gates as products, as planned; [rounds][pictures].
        worst_dense_ms, worst_lowered_ms: with every gate on, on the first of the pictures.
    """

    evidence: Evidence
    pictures: Annotated[tuple[PictureRecord, ...], Field(min_length=1)]
    dense_ms: Rounds
    masked_ms: Rounds
    lowered_ms: Rounds
    worst_dense_ms: Rounds
    worst_lowered_ms: Rounds

    @model_validator(mode="after")
    def _consistent(self) -> Timings:
        count = len(self.pictures)
        if any(len(row) != count for rounds in (self.dense_ms, self.masked_ms, self.lowered_ms) for row in rounds):
            raise ValueError("a round does not have one time for each picture")
        pairs = (self.dense_ms, self.masked_ms), (self.dense_ms, self.lowered_ms)
        if any(len(one) != len(other) for one, other in (*pairs, (self.worst_dense_ms, self.worst_lowered_ms))):
            raise ValueError("networks that were timed in turns have different numbers of rounds")
        widths = {len(row) for rounds in (self.worst_dense_ms, self.worst_lowered_ms) for row in rounds}
        if len(widths) != 1:
            raise ValueError("the worst case was not timed on the same pictures")
        return self


class GateReport(Document):
    """The file.

    Attributes:
        network: its name.
        source_sha256: the trained files.
        plan_sha256: of ``gate-plan.json``.
        profile_sha256: of the profile that it was planned with.
        target: that it was planned for.
        threads: CPU threads of the measurements.
        network_macs, scope_macs: of the dense network, and of what the paper counts: its back-end.
        max_worst_case: bound that was asked for.
        max_growth: copies of weights that branches may hold, as a multiple of all weights.
        weight_bytes, added_bytes: of the network, and what branches hold beyond that.
        predicted: where the predictions come from.
        predicted_dense_ms, predicted_expected_ms, predicted_all_on_ms: of the whole network as planned.
        considered: what the planner chose from.
        regions: those that it lowered.
        timings: None where no pictures were there to run.
    """

    FILE_NAME: ClassVar[str] = "gates.json"
    MADE_BY: ClassVar[str] = "deploycc gates"

    network: str
    source_sha256: Sha256
    plan_sha256: Sha256
    profile_sha256: Sha256
    target: str
    threads: Annotated[int, Field(gt=0)]
    network_macs: Annotated[int, Field(gt=0)]
    scope_macs: Annotated[int, Field(gt=0)]
    max_worst_case: Positive
    max_growth: Annotated[float, Field(ge=0)]
    weight_bytes: Count
    added_bytes: Count
    predicted: Evidence
    predicted_dense_ms: float
    predicted_expected_ms: float
    predicted_all_on_ms: float
    considered: tuple[ConsideredRecord, ...]
    regions: tuple[RegionRecord, ...]
    timings: Timings | None


def read_gate_report(path: Path) -> GateReport:
    """Read ``gates.json``, given itself or its folder.

    Raises:
        ArtefactError: missing or not a valid file of this schema.
    """
    return read_document(path, GateReport)


def find_gate_report(path: Path) -> Path | None:
    """The ``gates.json`` that a path means: itself, or the one in a folder; None where it means something else."""
    if path.is_dir():
        path = path / GateReport.FILE_NAME
        return path if path.is_file() else None
    return path if path.name == GateReport.FILE_NAME else None
