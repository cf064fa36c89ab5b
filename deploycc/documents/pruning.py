"""What pruning did to a network: the record that travels inside the pruned file and in every later report.

It is not a file of its own. `deploycc.detector.file` stores it in the ONNX metadata, ``compile.json`` repeats it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from deploycc.documents.document import Count, NoteRecord, Record, Sha256
from deploycc.documents.source import SourceRecord

Pair = tuple[Count, Count]
"""Before and after."""
Criterion = Literal["utilisation", "l1", "fisher", "mask"]
Scope = Literal["back-end", "front-end", "both"]
Coefficient = Literal["mean", "least-squares", "none"]
Share = Annotated[float, Field(ge=0)]


class PrunedLayer(Record):
    """One layer with kernels.

    Attributes:
        name, op: the node.
        kernels, macs, params: before and after, none where the layer went whole; MACs for one picture.
        useless: kernels that the criterion found useless.
        kept_for_multiple: of those, how many stay so that the count is a multiple.
        dropped_for_multiple: kernels removed beyond the useless ones, so that the count is a multiple.
        multiple: what the count was rounded to; None where nothing could be removed.
        decided_with: the layer that shares its channels and whose count was rounded; None for the layer itself.
        predicted_ms: multiple to predicted time of the convolutions that make or read these channels, milliseconds;
            None where no time was measured.
    """

    name: str
    op: str
    kernels: Pair
    macs: Pair
    params: Pair
    useless: Count
    kept_for_multiple: Count
    dropped_for_multiple: Count
    multiple: Count | None
    decided_with: str | None
    predicted_ms: Mapping[int, float] | None


class PrunedPart(Record):
    """Back-end, front-end, gate modules that became constants, or the total."""

    name: Literal["back-end", "front-end", "gate modules", "total"]
    macs: Pair
    params: Pair


class FoldedGateRecord(Record):
    """A gate that became constants.

    Attributes:
        layer, place: see `deploycc.graph.gates.search.Gate`.
        macs: of the gate module, which is gone.
        response_error: coefficient to the share of the gated response's energy that it gets wrong
            (`deploycc.pruning.gate_constants.response_error`); None without a profile.
    """

    layer: str
    place: str
    macs: Count
    response_error: Mapping[str, float] | None


class PrunedBlock(Record):
    """A part of the network that went whole (`deploycc.graph.blocks`).

    Attributes:
        kind: ``sum`` and ``concat``: a branch of one, which counts as zero; ``identity``: what it reads took its place.
        tensor: that it computed.
        layers: with kernels, in graph order.
    """

    kind: Literal["sum", "concat", "identity"]
    tensor: str
    layers: tuple[str, ...]


class RefittedLayer(Record):
    """A layer whose weights were refitted, or not.

    Attributes:
        name: the layer.
        ridge: strength of the regularisation that was chosen; None where the layer stays as it was.
        error: share of the response's energy that is wrong on the held-out pictures, pruned and refitted.
    """

    name: str
    ridge: float | None
    error: tuple[Share, Share]


class ReconstructionRecord(Record):
    """How weights were refitted on pictures without labels.

    Attributes:
        source, sha256: the pictures.
        fitted, held_out: how many were used for what.
        layers: those that were looked at.
        notes: on those that could not be.
    """

    source: str
    sha256: Sha256
    fitted: Count
    held_out: Count
    layers: tuple[RefittedLayer, ...]
    notes: tuple[NoteRecord, ...]


class LatencyGoalRecord(Record):
    """A goal of latency that decided what was removed.

    Attributes:
        asked: the goal as it was given.
        goal_ms: the latency that it means on the target.
        before_ms, after_ms: latency of the network before and after.
        loss: of what the kernels and blocks are worth that are gone (`deploycc.pruning.worth`).
    """

    asked: str
    goal_ms: Annotated[float, Field(gt=0)]
    before_ms: Annotated[float, Field(gt=0)]
    after_ms: Annotated[float, Field(gt=0)]
    loss: Annotated[float, Field(ge=0)]


class PruningRecord(Record):
    """One pruning of one network.

    Attributes:
        source: files of the network before: the trained ones, or those of an earlier pruning.
        criterion: what makes a kernel useless.
        useless: the same in words, with its limit.
        below: the limit: share of the pictures, or of each layer's kernels (l1); 0 where a goal decided instead.
        rankings: how often the kernels were ranked, each time after a part had gone (`fisher`).
        goal: of latency; None where the limit decided.
        scope: part of the network that may lose kernels.
        coefficient: what replaced the gates; None where none was replaced.
        round_to: multiple of kernels that each layer keeps, or ``auto`` where measured times chose.
        profile_sha256: of the profile's content; None without.
        relative_times: candidate counts to time of the whole network, relative to multiples of 16, or to ``all``
            kernels where ``profiles`` of whole networks chose; empty where nothing was timed.
        timed_on: machine of these times, of ``predicted_ms`` and of the goal's, or target that they were predicted
            for; None where no time was asked for.
        times: whether they were measured, or predicted.
        parts: sizes before and after. Gate modules that became constants are a part of their own.
        layers: every layer with kernels, in graph order.
        removed: layer to the kernels that it lost, as numbered before; layers that lost none are left out. Files of
            earlier versions do not say it.
        blocks: that went whole, in the order in which they went.
        gates: those that became constants.
        reconstruction: None where weights were not refitted.
        stays: useless channels that had to stay, and why.
        not_analysed: what the channel analysis had to leave alone.
    """

    source: SourceRecord
    criterion: Criterion
    useless: str
    below: Share
    rankings: Count = 1
    goal: LatencyGoalRecord | None = None
    scope: Scope
    coefficient: Coefficient | None
    round_to: Literal["auto"] | Annotated[int, Field(gt=0)]
    profile_sha256: Sha256 | None
    relative_times: Mapping[str, float]
    timed_on: str | None
    times: Literal["measured", "predicted"] = "measured"
    parts: tuple[PrunedPart, ...]
    layers: tuple[PrunedLayer, ...]
    removed: Mapping[str, tuple[Count, ...]] = Field(default_factory=dict)
    blocks: tuple[PrunedBlock, ...] = ()
    gates: tuple[FoldedGateRecord, ...]
    reconstruction: ReconstructionRecord | None
    stays: tuple[NoteRecord, ...]
    not_analysed: tuple[NoteRecord, ...]

    def part(self, name: str) -> PrunedPart | None:
        """A part by its name; None where the network has none."""
        return next((part for part in self.parts if part.name == name), None)
