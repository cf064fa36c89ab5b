"""``detections.json``: what one or two networks detect in pictures, and where two differ."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue

from deploycc.documents.document import Count, Document, Evidence, Record, Sha256, read_document
from deploycc.documents.plan import Identified

Share = Annotated[float, Field(ge=0, le=1)]


class DetectedBox(Record):
    """One detection.

    Attributes:
        label: class, background included in the numbering.
        name: of the class, or its number.
        score: as the network gives it.
        box: xmin ymin xmax ymax in pixels; may reach outside the picture.
        partner: the other network's detection that this one was matched with, by its position; None without one.
    """

    label: int
    name: str
    score: float
    box: tuple[float, float, float, float]
    partner: Count | None = None


class PictureRecord(Record):
    """The detections of one picture.

    Attributes:
        name: of the picture.
        width, height: pixels.
        detections: per network, best first.
    """

    name: str
    width: Count
    height: Count
    detections: tuple[tuple[DetectedBox, ...], ...]

    @property
    def unmatched(self) -> int:
        """How many detections only one of two networks has."""
        if len(self.detections) < 2:
            return 0
        return sum(found.partner is None for side in self.detections for found in side)


class DetectingNetwork(Record):
    """A network that ran.

    Attributes:
        model: as the user named it.
        name: of the network.
        source_sha256: digest of the trained files that it came from.
        evidence: ``measured``, with what ran it.
    """

    model: str
    name: str
    source_sha256: Sha256
    evidence: Evidence


class Agreement(Record):
    """How far two networks agree.

    Attributes:
        match_iou: two detections of one class are matched from this IoU on.
        matched: pairs.
        only_first, only_second: detections without a partner.
        max_score_difference, min_iou: over the pairs; None without pairs.
        pictures_that_differ: pictures with a detection that has no partner.
    """

    match_iou: Share
    matched: Count
    only_first: Count
    only_second: Count
    max_score_difference: float | None
    min_iou: Share | None
    pictures_that_differ: Count


class DetectionReport(Document):
    """The whole file.

    Attributes:
        networks: one, or two that are compared.
        picture_source: as the user named the pictures.
        pictures_sha256: over names and contents.
        score_threshold: detections with a lower score are left out.
        pictures: in order.
        agreement: of two networks; None for one.
    """

    FILE_NAME: ClassVar[str] = "detections.json"
    MADE_BY: ClassVar[str] = "deploycc detect"

    networks: Annotated[tuple[DetectingNetwork, ...], Field(min_length=1, max_length=2)]
    picture_source: str
    pictures_sha256: Sha256
    score_threshold: float
    pictures: tuple[PictureRecord, ...]
    agreement: Agreement | None = None


class EnginePicture(Record):
    """What an engine detects in a picture.

    Attributes:
        name: of the picture.
        width, height: pixels.
        detections: class, score, xmin ymin xmax ymax in 0..1 of the picture, best first.
    """

    name: str
    width: Count
    height: Count
    detections: tuple[tuple[int, float, float, float, float, float], ...]


class EngineRun(Identified):
    """One engine.

    Attributes:
        status: ``detected``, ``not-possible`` on that machine, or ``failed``.
        reason, hint: where it did not detect: the fact behind it, and what helps.
        engine_sha256: of the engine that ran.
        pictures: in order.
    """

    status: Literal["detected", "not-possible", "failed"]
    reason: str | None = None
    hint: str | None = None
    engine_sha256: Sha256 | None = None
    pictures: tuple[EnginePicture, ...] = ()


class EngineDetections(Document):
    """``engine-detections.json``: what engines detect on the machine that runs them; the agent writes it.

    Attributes:
        target: that the engines are for.
        plan_sha256: of the plan that they were built by.
        environment: of the machine.
        runs: one per engine of the compiled network.
    """

    FILE_NAME: ClassVar[str] = "engine-detections.json"
    MADE_BY: ClassVar[str] = "python3 agent.pyz detect plan.json --pictures DIR"

    target: str
    plan_sha256: Sha256
    environment: dict[str, JsonValue]
    runs: tuple[EngineRun, ...]


def read_detection_report(path: Path) -> DetectionReport:
    """Read ``detections.json``, given itself or its folder.

    Raises:
        ArtefactError: missing or not a valid file of this schema.
    """
    return read_document(path, DetectionReport)
