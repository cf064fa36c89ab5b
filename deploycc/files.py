"""Files: read within limits, written whole or not at all, and their digests."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from deploycc.errors import ArtefactError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DOCUMENT_BYTES = 512 << 20
"""Largest document: hours of samples. A file from elsewhere could fill the memory."""
MODEL_BYTES = 1 << 31
"""Largest network or file of weights: protobuf reads no larger message."""
_STREAM_BYTES = 256 << 20


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
    read = [Path(os.path.realpath(each)) for each in inputs if each is not None]  # a loop of links is no fault here
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


def read_bytes(path: Path, most_bytes: int = DOCUMENT_BYTES) -> bytes:
    """Return the content of a file that a user names.

    A pipe that nobody writes to is empty instead of waited for, and a device does not fill the memory.

    Args:
        path: a file, or a stream.
        most_bytes: largest content; of a stream, 256 MiB at most.

    Raises:
        OSError: the system refuses it, or it is too large; ``strerror`` says which.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 - a pipe must not block
        os.set_blocking(file.fileno(), True)
        facts = os.fstat(file.fileno())
        if stat.S_ISDIR(facts.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if stat.S_ISREG(facts.st_mode):
            data = file.read() if facts.st_size <= most_bytes else None
        else:
            most_bytes = min(most_bytes, _STREAM_BYTES)
            data = _at_most(file, most_bytes)
    if data is None:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes >> 20} MiB", str(path))
    return data


def _at_most(stream: BinaryIO, most_bytes: int) -> bytes | None:
    """Read a stream to its end; None where it does not end in time."""
    parts, size = [], 0
    while part := stream.read(1 << 20):
        parts.append(part)
        size += len(part)
        if size > most_bytes:
            return None
    return b"".join(parts)


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file; see `read_bytes`.

    Raises:
        OSError: it cannot be read, or is not UTF-8; ``strerror`` says why.
    """
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise OSError(errno.EILSEQ, f"it is not UTF-8: {error}", str(path)) from None


def parse_toml(text: str) -> dict[str, Any]:
    """Return the table that a TOML text is.

    Raises:
        ValueError: it is not TOML, or holds a number or a depth that Python refuses.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


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
