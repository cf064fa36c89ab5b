"""The trained files that everything else is made from."""

from __future__ import annotations

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
