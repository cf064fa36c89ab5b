"""``prediction.json``: how long a network takes on boards that are not here, and what bounds each launch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from deploycc.documents.compile import TargetRecord
from deploycc.documents.document import Count, Document, Evidence, Record, read_document
from deploycc.documents.source import SourceRecord

Milliseconds = Annotated[float, Field(ge=0)]
Bound = Literal["compute", "tile waste", "latency", "memory", "launch"]
"""The largest part of a launch's time: arithmetic; arithmetic on padding to whole tiles; the length of its sum, where
there are too few outputs to fill the GPU; memory traffic; the launch itself."""


class Interval(Record):
    """A predicted time with the interval that holds the measured one in 90 % of cases, in milliseconds."""

    ms: Milliseconds
    low_ms: Milliseconds
    high_ms: Milliseconds


class KernelStep(Record):
    """A smaller number of kernels of one convolution, and what it saves.

    Attributes:
        kernels: that the layer keeps.
        saved_ms: by this layer alone.
    """

    kernels: Count
    saved_ms: Milliseconds


class LaunchPrediction(Record):
    """One launch of the runtime: one node, or several that it merges.

    Attributes:
        name: of its first node.
        nodes: names of all nodes that it computes.
        kind: what the GPU does.
        time: predicted.
        bound: what most of the time goes to.
        work_ms, padding_ms, latency_ms, memory_ms, launch_ms: the parts. Arithmetic (the first three) and memory
            traffic overlap: the longer one counts.
        macs: multiply-accumulates.
        wasted_macs: of these more, on padding to whole tiles.
        kernels: of a convolution.
        steps: the next smaller numbers of kernels that take less time, nearest first.
    """

    name: str
    nodes: tuple[str, ...]
    kind: str
    time: Interval
    bound: Bound
    work_ms: Milliseconds
    padding_ms: Milliseconds
    latency_ms: Milliseconds
    memory_ms: Milliseconds
    launch_ms: Milliseconds
    macs: Count
    wasted_macs: Count
    kernels: Count | None = None
    steps: tuple[KernelStep, ...] = ()


class TargetPrediction(Record):
    """One network on one target in one precision.

    Attributes:
        target: the board.
        precision: of the engine.
        evidence: always predicted; its source names the constants and the measurements behind them.
        timed: what the measured times behind the constants include.
        remarks: why the interval is wider than that of the board that the constants were measured on.
        time: of the whole network.
        network_ms: part of it that belongs to no launch.
        nodes, macs, wasted_macs: of the network.
        branches: conditional branches in the network; the costlier side of each counts.
        branch_ms: their own cost, part of `time`.
        skipping: the mean time if gated convolutions computed only their active kernels; None without gates.
        gates: how that was worked out, or why gates save nothing; empty without gates.
        launches: in the network's order.
    """

    target: TargetRecord
    precision: Literal["fp32", "fp16"]
    evidence: Evidence
    timed: str
    remarks: tuple[str, ...] = ()
    time: Interval
    network_ms: Milliseconds
    nodes: Count
    macs: Count
    wasted_macs: Count
    branches: Count = 0
    branch_ms: Milliseconds = 0.0
    skipping: Interval | None = None
    gates: str = ""
    launches: tuple[LaunchPrediction, ...]


class RefusedTarget(Record):
    """A target whose times cannot be predicted, with the reason."""

    target: str
    code: str
    reason: str


class PredictionReport(Document):
    """The file.

    Attributes:
        source: the network's files; random weights where a definition came without weights.
        predictions: by target and precision.
        refused: targets without a prediction.
    """

    FILE_NAME: ClassVar[str] = "prediction.json"
    MADE_BY: ClassVar[str] = "deploycc predict"

    source: SourceRecord
    predictions: tuple[TargetPrediction, ...]
    refused: tuple[RefusedTarget, ...] = ()


def read_prediction_report(path: Path) -> PredictionReport:
    """Read ``prediction.json``, given itself or its folder.

    Raises:
        ArtefactError: missing or not a valid file of this schema.
    """
    return read_document(path, PredictionReport)
