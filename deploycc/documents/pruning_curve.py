"""``pruning-curve.json``: how much accuracy each strength of pruning costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from deploycc.documents.document import Count, Document, Evidence, Record, Sha256

Share = Annotated[float, Field(ge=0, le=1)]


class Calibration(Record):
    """Pictures that weights were refitted on, without labels."""

    source: str
    count: Annotated[int, Field(gt=0)]
    sha256: Sha256


class CurvePoint(Record):
    """One network.

    Attributes:
        criterion: what decides which kernels go; ``none`` for the network as trained.
        below: strength, as `deploycc prune --below` takes it.
        refitted: whether the weights of what is left were refitted.
        macs: of the whole network, for one picture.
        backend_macs: of its back-end; of the whole network where its heads are unknown.
        params: elements of its weights.
        latency_ms: of the whole network on the curve's target; None where nothing tells it.
        file: the network, in the curve's folder; None where it was not kept, as the one as trained.
        map50: VOC mean average precision at IoU 0.5 (area under the curve), one a data set.
        map50_11point: likewise, by eleven points.
    """

    criterion: Literal["none", "utilisation", "l1"]
    below: Share
    refitted: bool
    macs: Count
    backend_macs: Count
    params: Count
    latency_ms: Annotated[float, Field(gt=0)] | None = None
    file: str | None = None
    map50: tuple[Share, ...]
    map50_11point: tuple[Share, ...]


class PruningCurve(Document):
    """The file.

    Attributes:
        evidence: of the accuracies: what ran.
        target: name of the one whose costs decided numbers of kernels, and that latencies are of.
        latency: where they come from; None where nothing tells them.
        network: its name.
        source_sha256: the trained files.
        data: the annotated pictures, as the user wrote them.
        pictures: how many, one a data set.
        calibration: None where nothing was refitted.
        points: the network as trained first.
    """

    FILE_NAME: ClassVar[str] = "pruning-curve.json"
    MADE_BY: ClassVar[str] = "deploycc prune-curve"

    evidence: Evidence
    target: str = "x86-cpu"
    latency: Evidence | None = None
    network: str
    source_sha256: Sha256
    data: Annotated[tuple[str, ...], Field(min_length=1)]
    pictures: tuple[Count, ...]
    calibration: Calibration | None
    points: Annotated[tuple[CurvePoint, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> PruningCurve:
        if self.points[0].criterion != "none" or any(point.criterion == "none" for point in self.points[1:]):
            raise ValueError("the network as trained must come first, and only once")
        accuracies = [each for point in self.points for each in (point.map50, point.map50_11point)]
        if any(len(each) != len(self.data) for each in (self.pictures, *accuracies)):
            raise ValueError("every point needs one accuracy a data set")
        if any(point.refitted for point in self.points) and self.calibration is None:
            raise ValueError("weights were refitted, but no pictures are named")
        if any((point.latency_ms is None) != (self.latency is None) for point in self.points):
            raise ValueError("every point has a latency, or none has")
        return self

    @property
    def dense(self) -> CurvePoint:
        """The network as trained."""
        return self.points[0]

    def series(self) -> Iterator[tuple[str, list[CurvePoint]]]:
        """Points that differ in strength only, each with its name, the network as trained in front."""
        for key in dict.fromkeys((point.criterion, point.refitted) for point in self.points[1:]):
            own = [point for point in self.points if (point.criterion, point.refitted) == key]
            yield f"{key[0]}{', refitted' if key[1] else ''}", [self.dense, *own]
