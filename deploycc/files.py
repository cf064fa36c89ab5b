"""Writing files whole or not at all, and their digests."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploycc.errors import ArtefactError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` when the block ends without an exception.

    A symbolic link is followed and stays. A character device or a pipe is written to, and stays too.

    Raises:
        ArtefactError: ``file-unwritable``: no folder, no permission, a full disk, or ``path`` is a folder or the like.
    """
    with _diagnosed(path):
        mode = _mode(path)
        if is_stream(path):
            with tempfile.TemporaryDirectory(prefix="deploycc-") as folder:
                partial = Path(folder, path.name)
                yield partial
                with partial.open("rb") as source, path.open("wb") as stream:
                    shutil.copyfileobj(source, stream)
            return
        final = path.resolve()
        partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
        try:
            yield partial
            if mode is not None:
                partial.chmod(stat.S_IMODE(mode))
            partial.replace(final)
        finally:
            with contextlib.suppress(OSError):  # already renamed, or the folder cannot be read
                partial.unlink()


def check_writable(*paths: Path | None, inputs: Iterable[Path | str | None] = ()) -> None:
    """Refuse files that `replacing` could not write: at once, not after minutes.

    Args:
        paths: files; None for an output that was not asked for.
        inputs: what the command reads, which must not be replaced; None and what does not exist is passed over.

    Raises:
        ArtefactError: ``file-unwritable``, ``output-is-the-input``.
    """
    read = [Path(each).resolve() for each in inputs if each is not None]
    for path in filter(None, paths):
        with _diagnosed(path):
            _mode(path)
            final = path.resolve()
            if not is_stream(path):
                if not final.parent.is_dir():
                    raise OSError(None, "its folder does not exist")
                tempfile.TemporaryFile(dir=final.parent).close()
        if final in read and final.is_file():
            raise ArtefactError(
                "output-is-the-input",
                f"{path.name} is read by this command, which would replace it",
                context={"path": path},
                hint="choose another name",
            )


def is_stream(path: Path) -> bool:
    """Return whether a path leads to a character device or a pipe, such as ``/dev/stdout``."""
    with contextlib.suppress(OSError):
        mode = path.stat().st_mode
        return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)
    return False


def _mode(path: Path) -> int | None:
    """Return type and permissions of what a path leads to; None where there is nothing.

    Raises:
        OSError: it is neither a file nor something that takes a stream.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISREG(mode) or stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        return mode
    raise OSError(None, "it is a folder" if stat.S_ISDIR(mode) else "it is a block device or a socket")


@contextmanager
def _diagnosed(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArtefactError(
            "file-unwritable",
            f"{path.name} cannot be written",
            context={"file": path},
            note=error.strerror or str(error),
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; see `replacing`."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def path_text(path: Path | str) -> str:
    """Return a path as text that every document can hold; a byte that is not UTF-8 becomes its escape sequence."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
