"""The one tar that holds given files: plain files in a given order, of root, mode 0644 or 0755, always one time.

Python's `tarfile` and GNU tar write headers differently from release to release. Here every byte follows from names,
contents and modes (POSIX.1-1988, ustar).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

BLOCK = 512
TIME = 946684800  # 2000-01-01: Debian takes nothing much older
_NAME_BYTES = 100
_FOLDER_BYTES = 155


@dataclass(frozen=True)
class Entry:
    """A file or folder of an archive.

    Attributes:
        name: ASCII; a folder's ends in ``/``.
        content: bytes, or the file that has them; empty for a folder.
        executable: mode 0755 instead of 0644; folders always have 0755.
    """

    name: str
    content: bytes | Path = b""
    executable: bool = False

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


class Output(Protocol):
    """What an archive is written to."""

    def write(self, data: bytes, /) -> int:
        """Add bytes, and return how many."""
        ...


def tar_size(entries: Iterable[Entry]) -> int:
    """Return the bytes of an archive."""
    return sum(BLOCK + entry.size + -entry.size % BLOCK for entry in entries) + 2 * BLOCK


def write_tar(out: Output, entries: Iterable[Entry]) -> None:
    """Write an archive.

    Raises:
        OSError: a file cannot be read, or changed while it was read.
    """
    for entry in entries:
        size = entry.size
        out.write(header(entry.name, size, executable=entry.executable))
        written = 0
        if isinstance(entry.content, bytes):
            written = out.write(entry.content)
        else:
            with entry.content.open("rb") as file:
                while block := file.read(1 << 20):
                    written += out.write(block)
        if written != size:
            raise OSError(None, "it changed while it was read", str(entry.content))
        out.write(bytes(-size % BLOCK))
    out.write(bytes(2 * BLOCK))


def header(name: str, size: int, *, executable: bool = False) -> bytes:
    """Return the header of a file, or of a folder where the name ends in ``/``."""
    is_folder = name.endswith("/")
    mode = 0o755 if executable or is_folder else 0o644
    folder, rest = _split(name)
    before = rest.ljust(100, b"\0") + b"%07o\0" % mode + b"0000000\0" * 2 + b"%011o\0%011o\0" % (size, TIME)
    after = (b"5" if is_folder else b"0") + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2
    after += folder.ljust(167, b"\0")
    return before + b"%06o\0 " % (sum(before) + 8 * ord(" ") + sum(after)) + after


def _split(name: str) -> tuple[bytes, bytes]:
    """Return a name as the two fields of a header; the first is empty unless the name is long.

    Raises:
        OSError: it is too long for both.
    """
    data = name.encode("ascii")
    if len(data) <= _NAME_BYTES:
        return b"", data
    cut = data.rfind(b"/", 0, _FOLDER_BYTES + 1)
    if cut < 0 or len(data) - cut - 1 > _NAME_BYTES:
        raise OSError(None, "the name is too long for an archive", name)
    return data[:cut], data[cut + 1 :]
