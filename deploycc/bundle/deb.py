"""A bundle as a Debian package: dpkg puts it on a board, or into a root file system, and the agent installs it there.

The package is written here and not by `dpkg-deb`: that is not on every machine, and how it compresses differs from one
release to the next. So the archives are gzip files whose blocks are stored as they are (networks and engines hardly get
smaller), and every byte follows from the bundle. The format: deb(5), ar(5), RFC 1951 and 1952.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from deploycc.bundle.tar import Entry, tar_size, write_tar
from deploycc.errors import InputError

_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
_MOST_STORED = 0xFFFF  # bytes of a block
_ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}
_HOME = "usr/lib/deploycc"

_POSTINST = """#!/bin/sh
set -e
if [ "$1" = configure ]; then
    home="$DPKG_ROOT/{home}/{name}"
    python3 "$home/bundle/agent.pyz" install "$home/bundle" --key "$home/key.pem" --root "${{DPKG_ROOT:-/}}"
fi
"""


@dataclass(frozen=True)
class Package:
    """What the control file says.

    Attributes:
        name, version: of the bundle.
        architecture: as the kernel calls it, ``aarch64``.
        target: the board it is for.
        maintainer: ``Name <mail>``.
        copyright: text of the package's copyright file.
    """

    name: str
    version: str
    architecture: str
    target: str
    maintainer: str
    copyright: str


def write_deb(out: Path, package: Package, files: Iterable[Entry], public_key: bytes) -> None:
    """Write the package.

    Args:
        out: the file.
        package: its description.
        files: of the bundle, with its manifest and signature.
        public_key: PEM file that the board verifies the bundle with.

    Raises:
        InputError: ``deb-architecture``: Debian has no name for the board's architecture.
        OSError: a file cannot be read or written.
    """
    if package.architecture not in _ARCHITECTURES:
        raise InputError(
            "deb-architecture",
            f"there is no Debian architecture for {package.architecture}",
            context={"package": package.name},
            note=f"known: {', '.join(sorted(_ARCHITECTURES))}",
        )
    home = f"{_HOME}/{package.name}"
    documents = f"usr/share/doc/{package.name}"
    data = [
        Entry(f"{home}/key.pem", public_key),
        *(Entry(f"{home}/bundle/{file.name}", file.content, file.executable) for file in files),
        Entry(f"{documents}/copyright", package.copyright.encode("utf-8")),
        Entry(f"{documents}/{_changelog_name(package.version)}", _gzipped(_changelog(package).encode("utf-8"))),
    ]
    installed_kib = sum(-(-file.size // 1024) for file in data)
    sums = "".join(f"{_md5(file)}  {file.name}\n" for file in data)
    control = [
        Entry("./control", _control(package, installed_kib).encode("utf-8")),
        Entry("./md5sums", sums.encode("ascii")),
        Entry("./postinst", _POSTINST.format(home=_HOME, name=package.name).encode("ascii"), executable=True),
    ]
    with out.open("wb") as file:
        file.write(b"!<arch>\n" + _member_header("debian-binary", 4) + b"2.0\n")
        for name, entries in (("control.tar.gz", [Entry("./"), *control]), ("data.tar.gz", _with_folders(data))):
            size = _stored_size(tar_size(entries))
            file.write(_member_header(name, size))
            packed = _StoredGzip(file, tar_size(entries))
            write_tar(packed, entries)
            packed.close()
            file.write(b"\n" * (size % 2))


def _with_folders(files: Iterable[Entry]) -> list[Entry]:
    entries = {f"./{file.name}": Entry(f"./{file.name}", file.content, file.executable) for file in files}
    folders = {"./"}
    for name in entries:
        parts = name.split("/")
        folders |= {"/".join(parts[:depth]) + "/" for depth in range(1, len(parts))}
    return sorted([*entries.values(), *map(Entry, folders)], key=lambda entry: entry.name)


def _control(package: Package, installed_kib: int) -> str:
    return (
        f"Package: {package.name}\n"
        f"Version: {package.version}\n"
        f"Architecture: {_ARCHITECTURES[package.architecture]}\n"
        f"Maintainer: {package.maintainer}\n"
        f"Installed-Size: {installed_kib}\n"
        "Depends: python3 (>= 3.5)\n"
        "Section: misc\n"
        "Priority: optional\n"
        f"Description: object detector for {package.target}\n"
        " A signed bundle of deploycc. On installation it is verified, and becomes the\n"
        " current release below /var/lib/deploycc; the one before stays for a rollback.\n"
    )


def _changelog_name(version: str) -> str:
    return "changelog.Debian.gz" if "-" in version else "changelog.gz"  # Debian Policy, 12.7


def _changelog(package: Package) -> str:
    return (
        f"{package.name} ({package.version}) unstable; urgency=medium\n\n"
        "  * Packaged by deploycc.\n\n"
        f" -- {package.maintainer}  Sat, 01 Jan 2000 00:00:00 +0000\n"
    )


def _md5(entry: Entry) -> str:
    if isinstance(entry.content, bytes):
        return hashlib.md5(entry.content, usedforsecurity=False).hexdigest()
    digest = hashlib.md5(usedforsecurity=False)
    with entry.content.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _member_header(name: str, size: int) -> bytes:
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{size:<10}`\n".encode("ascii")


def _gzipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    packed = _StoredGzip(buffer, len(data))
    packed.write(data)
    packed.close()
    return buffer.getvalue()


def _stored_size(size: int) -> int:
    """Return the bytes of a gzip file of so many bytes that are stored as they are."""
    return len(_GZIP_HEADER) + 5 * -(-size // _MOST_STORED) + size + 8


class _StoredGzip:
    """A gzip file without compression, which no library writes in its own way."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        """Begin it; ``size`` bytes will be written."""
        self._file = file
        self._left = self._size = size
        self._in_block = 0
        self._check = 0
        file.write(_GZIP_HEADER)

    def write(self, data: bytes) -> int:
        """Add bytes."""
        self._check = zlib.crc32(data, self._check)
        view = memoryview(data)
        while view:
            if not self._in_block:
                self._in_block = min(self._left, _MOST_STORED)
                is_last = self._in_block == self._left
                self._file.write(bytes([is_last]) + self._in_block.to_bytes(2, "little"))
                self._file.write((self._in_block ^ 0xFFFF).to_bytes(2, "little"))
            piece = view[: self._in_block]
            self._file.write(piece)
            self._in_block -= len(piece)
            self._left -= len(piece)
            view = view[len(piece) :]
        return len(data)

    def close(self) -> None:
        """Add the checksum and the size."""
        assert self._left == 0
        self._file.write(self._check.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little"))
