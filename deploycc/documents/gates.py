"""``gates.json``: how long a gated network takes for each picture, and what was decided about each gate.

It holds raw samples; what is shown is derived on reading (`deploycc.report.gates`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from deploycc.documents.document import Count, Document, Evidence, Record, Sha256, read_document
from deploycc.documents.gate_plan import Lowering
from deploycc.documents.prediction import Interval
from deploycc.documents.staged_times import Positive, Rounds, Share, StagedRecord


class ConsideredRecord(Record):
    """A lowering that was considered for a region: one layer, or several in a row.

    Attributes:
        layers: names, in order.
        lowering: see `deploycc.documents.gate_plan.Lowering`.
        sizes: for each layer, as in the plan.
        expected_ms: predicted mean time over the recorded pictures.
        all_on_ms: predicted time with every kernel on.
        added_bytes: bytes of weights in branches beyond one copy of each weight.
        chosen: whether the planner chose it.
    """

    layers: Annotated[tuple[str, ...], Field(min_length=1)]
    lowering: Lowering
    sizes: tuple[tuple[Count, ...], ...]
    expected_ms: float
    all_on_ms: float
    added_bytes: Count
    chosen: bool


class RegionRecord(Record):
    """What measuring showed about a region that was planned to become branches.

    Attributes:
        layers: names, in order.
        lowering, sizes: as planned.
        predicted_saved_ms: mean over the recorded pictures, against multiplying in the same layers.
        measured_saved_ms: the same for the whole network on the pictures below; None if nothing was measured.
        kept: whether it stays lowered, as planned or in a simpler way.
        why: reason, where it is not as planned.
    """

    layers: Annotated[tuple[str, ...], Field(min_length=1)]
    lowering: Literal["blocks", "widths", "variants"]
    sizes: tuple[tuple[Count, ...], ...]
    predicted_saved_ms: float
    measured_saved_ms: float | None
    kept: bool
    why: str = ""


class PictureRecord(Record):
    """One picture.

    Attributes:
        name: of the file or the generated scene.
        active_share: share of the gated convolutions' MACs that belongs to kernels that are on.
        saved_macs: MACs of kernels that are off.
        saved_macs_with_inputs: the same, with input channels that are zero because of them.
    """

    name: str
    active_share: Share
    saved_macs: Count
    saved_macs_with_inputs: Count


class Timings(Record):
    """Measured times of networks that took turns.

    Attributes:
        evidence: the machine.
        pictures: what the networks read.
        dense_ms, multiply_ms, lowered_ms: without gates, multiplying by every gate, and as planned; [rounds][pictures].
        worst_dense_ms, worst_lowered_ms: with every gate on, on the first of the pictures.
    """

    evidence: Evidence
    pictures: Annotated[tuple[PictureRecord, ...], Field(min_length=1)]
    dense_ms: Rounds
    multiply_ms: Rounds
    lowered_ms: Rounds
    worst_dense_ms: Rounds
    worst_lowered_ms: Rounds

    @model_validator(mode="after")
    def _consistent(self) -> Timings:
        count = len(self.pictures)
        if any(len(row) != count for rounds in (self.dense_ms, self.multiply_ms, self.lowered_ms) for row in rounds):
            raise ValueError("a round does not have one time for each picture")
        pairs = (self.dense_ms, self.multiply_ms), (self.dense_ms, self.lowered_ms)
        if any(len(one) != len(other) for one, other in (*pairs, (self.worst_dense_ms, self.worst_lowered_ms))):
            raise ValueError("networks that were timed in turns have different numbers of rounds")
        widths = {len(row) for rounds in (self.worst_dense_ms, self.worst_lowered_ms) for row in rounds}
        if len(widths) != 1:
            raise ValueError("the worst case was not timed on the same pictures")
        return self


class PredictedTimes(Record):
    """Intervals of 90 % of the whole network's times on a board that is not here.

    Attributes:
        dense, expected, all_on: without gates, the mean over the recorded pictures, and with every kernel on.
    """

    dense: Interval
    expected: Interval
    all_on: Interval


class GateReport(Document):
    """The file.

    Attributes:
        network: its name.
        source_sha256: the trained files.
        plan_sha256: of ``gate-plan.json``.
        profile_sha256: of the profile that it was planned with.
        target: that it was planned for.
        threads: CPU threads of the measurements; 0 where everything is predicted from facts of a board.
        network_macs, scope_macs: of the dense network, and of what the paper counts: its back-end.
        max_worst_case: bound that was asked for.
        max_growth: copies of weights that branches may hold, as a multiple of all weights.
        weight_bytes, added_bytes: of the network, and what branches hold beyond that.
        predicted: where the predictions come from.
        predicted_dense_ms, predicted_expected_ms, predicted_all_on_ms: of the whole network as planned.
        intervals: of these three; None where they follow from measured times of parts.
        considered: what the planner chose from.
        regions: those that it lowered.
        timings: None where no pictures were there to run.
        staged: two networks in a row, where one decision switches many layers and they were considered; where they are
            chosen, everything above is about the best plan in one network.
    """

    FILE_NAME: ClassVar[str] = "gates.json"
    MADE_BY: ClassVar[str] = "deploycc gates"

    network: str
    source_sha256: Sha256
    plan_sha256: Sha256
    profile_sha256: Sha256
    target: str
    threads: Count
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
    intervals: PredictedTimes | None = None
    considered: tuple[ConsideredRecord, ...]
    regions: tuple[RegionRecord, ...]
    timings: Timings | None
    staged: StagedRecord | None = None


def read_gate_report(path: Path) -> GateReport:
    """Read ``gates.json``, from its own path or its folder's.

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
