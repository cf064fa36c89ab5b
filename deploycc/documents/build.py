"""``build.json``: which engines were built, from what, by what; the agent writes it beside them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import JsonValue, model_validator

from deploycc.documents.document import Count, Document, Record, Seconds, Sha256, read_document
from deploycc.documents.plan import EngineName, FileName, Identified


class Layer(Record):
    """A layer of the parsed network, in TensorRT's words: ``CONVOLUTION``, ``HALF``."""

    name: str
    type: str
    precision: str | None = None


class SmokeResult(Record):
    """What an engine found in the pictures that came with its folder, before it was put in its place.

    Attributes:
        status: ``passed``, or ``not-run`` where nothing here runs it. An engine that fails is not built.
        reason: why it was not run.
        pictures: that were run.
        expected, detected, matched: objects that the FP32 network detects, that the engine detects, and that both do.
        largest_difference: of a raw output, root mean square over that of the FP32 network's; None where the network
            decodes itself.
    """

    status: Literal["passed", "not-run"]
    reason: str | None = None
    pictures: Count
    expected: Count
    detected: Count
    matched: Count
    largest_difference: float | None = None


class BuiltSecond(Record):
    """The engine of a second network of a row; see `BuiltEngine`."""

    file: EngineName
    network_sha256: Sha256
    sha256: Sha256
    size_bytes: Count


class BuiltEngine(Identified):
    """One engine, or the engines of a row, built or not.

    Attributes:
        file: engine file beside this one, which exists where `status` is ``built``; of a row the first network's.
        network_sha256: what it was built from.
        status: ``built``; ``not-possible`` on this machine; ``failed``.
        reason, hint: where it was not built: the fact behind it, and what helps.
        node: the network's node or layer the reason is about, where the builder names one.
        sha256, size_bytes: of the engine file.
        second: of a row that was built, one per second network.
        builder, builder_version: what builds it (`deploycc.target.Target.builder`).
        compute_capability: of the GPU it is for.
        build_seconds: wall time of reading, building and writing on the machine that built.
        peak_memory_mib: largest resident size of the building process.
        layers: of the parsed network, empty where the builder does not tell.
        smoke: what it found in the pictures that came with the folder; None where there were none.
        environment: of the machine that built it, where that is not the one of the whole file.
    """

    file: FileName
    network_sha256: Sha256
    status: Literal["built", "not-possible", "failed"]
    reason: str | None = None
    hint: str | None = None
    node: str | None = None
    builder: str
    sha256: Sha256 | None = None
    size_bytes: Count | None = None
    second: tuple[BuiltSecond, ...] = ()
    builder_version: str | None = None
    compute_capability: str | None = None
    build_seconds: Seconds | None = None
    peak_memory_mib: int | None = None
    layers: tuple[Layer, ...] = ()
    smoke: SmokeResult | None = None
    environment: dict[str, JsonValue] | None = None

    @property
    def files(self) -> dict[str, str | None]:
        """The SHA-256 of every file, by name; None where it was not built."""
        return {self.file: self.sha256} | {each.file: each.sha256 for each in self.second}

    @property
    def digests(self) -> tuple[str, ...]:
        """The SHA-256 of every file that was built, the first network's first."""
        return tuple(sha256 for sha256 in self.files.values() if sha256 is not None)

    @property
    def total_bytes(self) -> int | None:
        """Bytes of all files; None where it was not built."""
        return None if self.size_bytes is None else self.size_bytes + sum(each.size_bytes for each in self.second)

    @model_validator(mode="after")
    def _status_matches_fields(self) -> BuiltEngine:
        if self.status == "built" and None in (self.sha256, self.size_bytes):
            raise ValueError("a built engine needs sha256 and size_bytes")
        if self.status != "built" and not self.reason:
            raise ValueError("an engine that was not built needs a reason")
        return self


class BuildResult(Document):
    """The whole file."""

    FILE_NAME: ClassVar[str] = "build.json"
    MADE_BY: ClassVar[str] = "deploycc build"

    target: str
    plan_sha256: Sha256
    environment: dict[str, JsonValue]
    engines: tuple[BuiltEngine, ...]


def read_build_result(path: Path) -> BuildResult:
    """Read ``build.json``, given itself or its folder.

    Raises:
        ArtefactError: missing, or not a valid file of this schema.
    """
    return read_document(path, BuildResult)
