"""``manifest.json`` of a bundle: what is signed.

The agent checks it by the same rules (``deploycc/agent/bundle_manifest.py``).
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from deploycc.documents.document import Count, Document, Record, Sha256

SIGNATURE = "manifest.sig"
MOST_FILES = 4096

_PART = r"[A-Za-z0-9_][A-Za-z0-9._+-]*"
BundleName = Annotated[str, Field(max_length=100, pattern=rf"^{_PART}(/{_PART})*$")]
"""Of a file inside a bundle: a path in plain ASCII that every file system, and a tar header, can hold."""


class BundledFile(Record):
    """A file of the bundle. ``executable``: it gets mode 0755 instead of 0644."""

    name: BundleName
    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=0, lt=1 << 33)]
    executable: bool


class BundledEngine(Record):
    """What an engine needs of the board that is to run it; None where its builder did not tell.

    Attributes:
        file: name in the bundle.
        builder_version: of the TensorRT that built it.
        compute_capability: of the GPU that it is for.
        l4t: release of Linux for Tegra that it was built under.
    """

    file: BundleName
    builder_version: str | None
    compute_capability: str | None
    l4t: str | None


class ChainLink(Record):
    """An artefact on the way from the trained files to the engines (`deploycc.report.chain.Link`)."""

    what: str
    name: str
    sha256: Sha256 | None


class BundleManifest(Document):
    """The whole file. Its SHA-256 is the identity of the bundle.

    Attributes:
        name, version: of the bundle, as the user calls it.
        target, architecture, runtime, runtime_version, compute_capability: the board and the software it is for.
        build_on_device: a board may build engines from the bundle's networks where the engines do not fit it.
        plan: name of the build plan in the bundle.
        engines: those that are in the bundle.
        chain: from each trained file to each engine.
        files: everything in the bundle but this file and its signature, by name.
    """

    FILE_NAME: ClassVar[str] = "manifest.json"
    MADE_BY: ClassVar[str] = "deploycc package"

    name: Annotated[str, Field(max_length=100, pattern=r"^[a-z0-9][a-z0-9.+-]*$")]
    version: Annotated[str, Field(max_length=100, pattern=r"^[0-9A-Za-z][0-9A-Za-z.+~-]*$")]
    target: Annotated[str, Field(max_length=200)]
    architecture: Annotated[str, Field(max_length=32)]
    runtime: Literal["onnxruntime", "tensorrt", "tensorrt-rtx"]
    runtime_version: str | None
    compute_capability: str | None
    build_on_device: bool
    plan: BundleName
    engines: Annotated[tuple[BundledEngine, ...], Field(max_length=100)]
    chain: Annotated[tuple[ChainLink, ...], Field(max_length=1000)]
    files: Annotated[tuple[BundledFile, ...], Field(min_length=1, max_length=MOST_FILES)]

    @model_validator(mode="after")
    def _names_can_be_together(self) -> BundleManifest:
        names = [file.name for file in self.files]
        if names != sorted(names):
            raise ValueError("the files are not in order")
        taken = [name.lower() for name in (*names, self.FILE_NAME, SIGNATURE)]
        if len(set(taken)) < len(taken):
            raise ValueError("two files have the same name, or names that differ in case only")
        if any(name.startswith(f"{other}/") for name in taken for other in taken):
            raise ValueError("a file has the name of a folder")
        return self

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each file by its name."""
        return {file.name: file.sha256 for file in self.files}

    def size_bytes(self) -> Count:
        """Return the bytes of all files."""
        return sum(file.size_bytes for file in self.files)
