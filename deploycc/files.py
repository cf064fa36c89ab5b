"""Writing files atomically, and their digests."""

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
    """Yield a temporary path that replaces ``path`` when the block ends without an exception.

    Raises:
        ArtefactError: ``file-unwritable``: no folder, no permission, a full disk.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise ArtefactError(
            "file-unwritable",
            f"{path.name} cannot be written",
            context={"file": path},
            note=error.strerror or str(error),
        ) from None
    finally:
        with contextlib.suppress(OSError):  # already renamed, or the folder cannot be read
            partial.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; see `replacing`."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
