"""Files that appear whole or not at all, and their digests."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploycc.errors import ArtefactError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` that takes its place when the block ends without an exception.

    Raises:
        ArtefactError: ``file-unwritable``: no folder, no permission, a full disk.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        raise ArtefactError(
            "file-unwritable",
            f"{path.name} cannot be written",
            context={"file": path},
            note=error.strerror or str(error),
        ) from None
    finally:
        with contextlib.suppress(OSError):  # it was renamed, or its folder cannot be read
            beside.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, whole or not at all; see `replacing`."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
