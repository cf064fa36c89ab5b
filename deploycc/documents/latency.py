"""``latency.json``: every timed sample and the environment it was taken in, as the agent on the device writes it.

Nothing here is derived: percentiles and verdicts are computed on reading (`deploycc.report.stats`).
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue, model_validator

from deploycc.documents.document import Count, Document, Record, Seconds, Sha256, read_document
from deploycc.documents.plan import MOST_SECOND, Identified, Shares, Variant, check_unique

Positive = Annotated[float, Field(gt=0)]
Milliseconds = Annotated[float, Field(ge=0)]


class EngineFile(Record):
    """The engine that ran; of a row that of the first network.

    Attributes:
        second_sha256: of a row, the engine of each second network.
    """

    file: str
    sha256: Sha256 | None = None
    runtime: str
    runtime_version: str | None = None
    second_sha256: tuple[Sha256, ...] = ()

    @property
    def digests(self) -> tuple[str, ...]:
        """The SHA-256 of every file, the first network's first."""
        return () if self.sha256 is None else (self.sha256, *self.second_sha256)


class PartRun(Record):
    """One engine of a row, timed by itself, in turns with none of the others."""

    file: str
    samples_ms: Annotated[tuple[Positive, ...], Field(min_length=1)]


class RowRun(Record):
    """What is particular to a run of networks in a row.

    Attributes:
        shares: for each second network, the share of the pictures that need it, as the plan has it; empty: not known.
        second: number of the second network that ran, one per sample; empty where the engines were timed apart.
        parts: each engine by itself where no sample is of the whole: the first network, then the second ones.
    """

    shares: Shares = ()
    second: tuple[Annotated[int, Field(ge=0, lt=MOST_SECOND)], ...] = ()
    parts: Annotated[tuple[PartRun, ...], Field(max_length=1 + MOST_SECOND)] = ()

    @model_validator(mode="after")
    def _same_networks(self) -> RowRun:
        if self.parts and len(self.parts) < 3:
            raise ValueError("a row has a first network and two others or more")
        if self.shares and max(self.second, default=0) >= len(self.shares):
            raise ValueError("a second network ran that has no share of the pictures")
        if self.shares and self.parts and len(self.parts) != 1 + len(self.shares):
            raise ValueError("not every second network has a share of the pictures and times")
        return self


class LayerTime(Record):
    """One layer, as the runtime's own profiler times it.

    Attributes:
        name, op: the layer in the runtime's words.
        nodes: names of the network's nodes that it computes; empty where the runtime does not tell them.
        median_ms: over the profiled runs, which are not the timed ones: profiling costs time.
        share: of the sum over all layers, 0..1.
    """

    name: str
    op: str
    nodes: tuple[str, ...] = ()
    median_ms: Milliseconds
    share: Annotated[float, Field(ge=0, le=1)]

    @property
    def title(self) -> str:
        """Return what people know the layer by: its nodes where the runtime tells them, for its name may name none."""
        return " + ".join(self.nodes) or self.name


class Constraints(Record):
    """What a valid measurement needs."""

    min_duration_s: Seconds = 10.0
    min_samples: Count = 100


class ScenarioRecord(Record):
    """A scenario of MLPerf Automotive's.

    Attributes:
        name: ``single-stream``: the next picture as soon as the last one is done; ``constant-stream``: one per period.
        period_ms: from one picture to the next, which is also the deadline of each.
    """

    name: Literal["single-stream", "constant-stream"]
    period_ms: Positive | None = None

    @model_validator(mode="after")
    def _stream_has_a_period(self) -> ScenarioRecord:
        if (self.name == "constant-stream") != (self.period_ms is not None):
            raise ValueError("a constant stream has a period, and nothing else has one")
        return self


class Telemetry(Record):
    """What the device's sensors told while an engine ran.

    Attributes:
        period_s: from one reading to the next.
        offsets_s: time of each reading, counted as `Run.start_offsets_s` are; below 0 during the warm-up.
        readings: by sensor, one value per reading, None where it told nothing. Names carry the unit, and after a colon
            what was measured: ``gpu_clock_mhz``, ``power_mw:VDD_IN``, ``temperature_c:GPU-therm``. Counters only grow:
            ``energy_uj:package-0``, ``throttle_events:oc3``. ``throttled:SW power cap`` is 1 while that reason holds.
    """

    period_s: Positive
    offsets_s: tuple[float, ...]
    readings: dict[str, tuple[float | None, ...]]

    @model_validator(mode="after")
    def _one_value_per_reading(self) -> Telemetry:
        if any(len(values) != len(self.offsets_s) for values in self.readings.values()):
            raise ValueError("each sensor needs one value per reading")
        return self


class Run(Identified):
    """One engine on one device, one picture at a time.

    Attributes:
        engine: None where there is none to run.
        network_sha256: the network the engine was built from.
        device: what ran it, in words.
        status: ``measured``; ``composed``: the engines of a row were timed apart, and there is no sample of the whole;
            ``not-possible`` on this machine; ``failed``.
        reason, hint: where it was not measured: the fact behind it, and what helps.
        threads: CPU threads of the runtime.
        warmup_samples, warmup_s: dropped before the first sample, and at the start of each further block.
        duration_s: from the start of the first sample to the end of the last, without what lies between blocks.
        samples_ms: latency of every picture, in order, warm-up excluded; in a constant stream from when it is due.
        start_offsets_s: start of every sample, from the first sample of all runs that were taken in turns.
        blocks: number of successive samples of each block. Runs that were taken in turns have as many blocks as one
            another, and block i of one was taken directly before or after block i of the other. A run that was taken
            alone is one block, which may be left out.
        turns: the same for all runs that were taken in turns with one another, in whichever file; None for one alone.
        scenario: how pictures came; None: the next as soon as the last one was done, for as long as the plan says.
        telemetry: of the device while it ran; None where it was not watched or tells nothing.
        layers: per-layer times, empty where the runtime gives none.
        row: of networks in a row; None for a single network.
        constraints: what this run had to meet.
        environment: before the first sample, where it is not the one of the whole file.
        environment_after: the environment again, after the last sample.
    """

    engine: EngineFile | None = None
    network_sha256: Sha256 | None = None
    device: str
    status: Literal["measured", "composed", "not-possible", "failed"]
    reason: str | None = None
    hint: str | None = None
    threads: Count | None = None
    warmup_samples: Count = 0
    warmup_s: Seconds = 0.0
    duration_s: Seconds = 0.0
    samples_ms: tuple[Positive, ...] = ()
    start_offsets_s: tuple[Seconds, ...] = ()
    blocks: tuple[Annotated[int, Field(gt=0)], ...] = ()
    turns: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None
    scenario: ScenarioRecord | None = None
    telemetry: Telemetry | None = None
    layers: tuple[LayerTime, ...] = ()
    row: RowRun | None = None
    constraints: Constraints = Constraints()
    environment: dict[str, JsonValue] | None = None
    environment_after: dict[str, JsonValue] = Field(default_factory=dict)

    def block_slices(self) -> tuple[slice, ...]:
        """Return where each block lies in `samples_ms`; a run without stated blocks is one."""
        ends = tuple(itertools.accumulate(self.blocks or (len(self.samples_ms),)))
        return tuple(slice(start, end) for start, end in zip((0, *ends), ends, strict=False))

    @property
    def period_ms(self) -> float | None:
        """From one picture to the next in a constant stream; None where the next came as soon as it could."""
        return self.scenario.period_ms if self.scenario is not None else None

    @property
    def has_times(self) -> bool:
        """Whether something was timed: the whole, or each engine of a row."""
        return self.status in ("measured", "composed")

    @model_validator(mode="after")
    def _row_fits(self) -> Run:
        composed = self.row is not None and bool(self.row.parts)
        if composed != (self.status == "composed"):
            raise ValueError("a composed run has times of the parts of a row, and no other run has them")
        if self.row is not None and len(self.row.second) != len(self.samples_ms):
            raise ValueError("not every sample says which second network ran")
        return self

    @model_validator(mode="after")
    def _status_matches_fields(self) -> Run:
        if self.has_times and not (self.engine and self.engine.sha256):
            raise ValueError("a measured run needs an engine with its sha256")
        if self.status == "measured" and not self.samples_ms:
            raise ValueError("a measured run needs samples")
        if self.status != "measured" and self.samples_ms:
            raise ValueError("a run that was not measured cannot have samples")
        if self.status != "measured" and not self.reason:
            raise ValueError("a run that was not measured needs a reason")
        if len(self.start_offsets_s) != len(self.samples_ms):
            raise ValueError("start_offsets_s and samples_ms must have the same length")
        if self.blocks and sum(self.blocks) != len(self.samples_ms):
            raise ValueError("blocks must add up to the number of samples")
        return self


class LatencyReport(Document):
    """The whole file.

    Attributes:
        target: name of the target it was measured for.
        plan_sha256: the plan whose engines ran; None where an older agent measured.
        quick: True where the run was cut short on purpose; it is never valid.
        environment: of the device before the first run: hardware, clocks, governor, versions. Keys carry units.
        runs: one per engine.
    """

    FILE_NAME: ClassVar[str] = "latency.json"

    target: str
    plan_sha256: Sha256 | None = None
    quick: bool
    environment: dict[str, JsonValue]
    runs: tuple[Run, ...]

    def run(self, precision: str, variant: Variant = "compiled") -> Run | None:
        """Return the run of a precision and variant; None where there is none."""
        return next((run for run in self.runs if (run.precision, run.variant) == (precision, variant)), None)

    @model_validator(mode="after")
    def _one_run_per_engine(self) -> LatencyReport:
        check_unique(self.runs, "runs")
        return self


def read_latency_report(path: Path) -> LatencyReport:
    """Read ``latency.json``, given itself or its folder.

    Raises:
        ArtefactError: missing or not a valid file of this schema.
    """
    return read_document(path, LatencyReport)
