"""``build.json``: which engines were built, from what, by what; the agent writes it beside them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import JsonValue

from deploycc.documents.document import Document, Record, Sha256, read_document
from deploycc.documents.plan import FileName, Identified


class Layer(Record):
    """A layer of the parsed network, in TensorRT's words: ``CONVOLUTION``, ``HALF``."""

    name: str
    type: str
    precision: str | None = None


class BuiltEngine(Identified):
    """One engine, built or not.

    Attributes:
        file: engine file beside this one, there when `status` is ``built``.
        network_sha256: what it was built from.
        status: ``built``; ``not-possible`` on this machine; ``failed``.
        reason, hint: where it was not built: the fact behind it, and what helps.
        node: the network's node or layer the reason is about, where the builder names one.
        sha256, bytes: of the engine file.
        builder, builder_version: what built it.
        compute_capability: of the GPU it is for.
        seconds: wall time of reading, building and writing.
        peak_memory_mib: largest resident size of the building process.
        layers: of the parsed network, empty where the builder does not tell.
    """

    file: FileName
    network_sha256: Sha256
    status: Literal["built", "not-possible", "failed"]
    reason: str | None = None
    hint: str | None = None
    node: str | None = None
    sha256: Sha256 | None = None
    bytes: int | None = None
    builder: str | None = None
    builder_version: str | None = None
    compute_capability: str | None = None
    seconds: float | None = None
    peak_memory_mib: int | None = None
    layers: tuple[Layer, ...] = ()


class BuildResult(Document):
    """The whole file."""

    FILE_NAME: ClassVar[str] = "build.json"
    MADE_BY: ClassVar[str] = "deploycc build"

    target: str
    plan_sha256: Sha256
    environment: dict[str, JsonValue]
    engines: tuple[BuiltEngine, ...]


def read_manifest(path: Path) -> BuildResult:
    """Read ``build.json``, given itself or its folder.

    Raises:
        ArtefactError: missing, or not a valid file of this schema.
    """
    return read_document(path, BuildResult)
