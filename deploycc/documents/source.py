"""The trained files that everything else is made from."""

from __future__ import annotations

from pydantic import model_validator

from deploycc.documents.document import Record, Sha256


class SourceRecord(Record):
    """See `deploycc.detector.Source`.

    Attributes:
        files: paths as the user gave them, topology first.
        sha256: over the bytes of all files, in that order.
        format: ``caffe``, ``onnx`` or ``pytorch``.
        random_weights: seed of the weights where none were trained, else None.
        file_sha256: of each file by itself, in the same order; empty where an older version wrote the description.
    """

    files: tuple[str, ...]
    sha256: Sha256
    format: str
    random_weights: int | None = None
    file_sha256: tuple[Sha256, ...] = ()

    @model_validator(mode="after")
    def _a_digest_per_file(self) -> SourceRecord:
        if self.file_sha256 and len(self.file_sha256) != len(self.files):
            raise ValueError("file_sha256 must have one digest per file, or none")
        return self
