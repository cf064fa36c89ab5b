"""Reading a bundle: a signed tar, or the folder that it was unpacked into.

There is exactly one tar that holds given files: ``manifest.json``, its signature, then what the manifest lists, in
order, as plain files with fixed modes and no times. So nothing of a header is believed. It is compared with the one
that the signed manifest asks for, and what is left (a link, a device, a path outside, a sparse file, a second file of
the same name, other padding, more bytes at the end) is refused before a byte of it is written.
"""

import hashlib
import os
import stat
from typing import Any, Callable, Dict, Iterator, Optional

from . import bundle_manifest, ed25519, files
from .outcome import Failed

BLOCK = 512
_END = bytes(2 * BLOCK)
_CHUNK = 1 << 20
_TIME = 946684800  # 2000-01-01: Debian takes nothing much older
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a folder",
    b"6": "a pipe",
    b"S": "a sparse file",
    b"x": "an extended header",
    b"g": "an extended header",
    b"L": "a long name",
    b"K": "a long link",
}

Sink = Callable[[Dict[str, Any]], Any]
"""Takes an entry of the manifest and returns an open file that receives its bytes; they may still turn out wrong."""


class Bundle:
    """A bundle whose bytes are those that were signed.

    Attributes:
        manifest: see `bundle_manifest`.
        digest: SHA-256 of ``manifest.json``: the identity of everything in the bundle.
    """

    def __init__(self, manifest: "Dict[str, Any]", digest: str) -> None:
        self.manifest = manifest
        self.digest = digest

    def size_bytes(self) -> int:
        """Return the bytes of all listed files."""
        return sum(file["size_bytes"] for file in self.manifest["files"])


def read(
    path: str,
    key: "Optional[bytes]",
    accept: "Callable[[Bundle], None]" = lambda bundle: None,
    sink: "Optional[Sink]" = None,
) -> Bundle:
    """Check every byte of a bundle, and hand the files on.

    Args:
        path: the tar, or a folder.
        key: the public key that must have signed it; None: only the digests are checked (of a release that was
            verified when it was installed).
        accept: called when the manifest is known to be signed, before the first file is read; raises what refuses it.
        sink: receives the manifest, the signature and each file while it is read; None: nothing is kept.

    Raises:
        Failed: it is not a bundle, not signed with the key, or not as it was signed.
    """
    source = _Folder(path) if os.path.isdir(path) else _Tar(path)  # type: Any
    try:
        text = source.head(bundle_manifest.NAME, bundle_manifest.MOST_BYTES)
        signature = source.head(bundle_manifest.SIGNATURE, ed25519.SIGNATURE_BYTES)
        if len(signature) != ed25519.SIGNATURE_BYTES:
            raise Failed("the signature of {} has {} bytes instead of 64".format(path, len(signature)))
        if key is not None and not ed25519.is_signed(key, text, signature):
            raise Failed(
                "{} is not signed with this key, or its {} was changed".format(path, bundle_manifest.NAME),
                hint="take the public key of whoever made the bundle, and the bundle as it was made",
            )
        bundle = Bundle(bundle_manifest.parsed(text), hashlib.sha256(text).hexdigest())
        source.expect(bundle.manifest["files"])
        accept(bundle)
        if sink is not None:
            for name, data in ((bundle_manifest.NAME, text), (bundle_manifest.SIGNATURE, signature)):
                with sink({"name": name, "executable": False, "size_bytes": len(data)}) as out:
                    out.write(data)
        for entry in bundle.manifest["files"]:
            _copy(source, entry, sink)
        source.finish()
        return bundle
    except OSError as error:
        raise Failed("cannot read {}: {}".format(path, error.strerror)) from error
    finally:
        source.close()


def _copy(source: "Any", entry: "Dict[str, Any]", sink: "Optional[Sink]") -> None:
    digest = hashlib.sha256()
    out = None if sink is None else sink(entry)
    try:
        for block in source.blocks(entry):
            digest.update(block)
            if out is not None:
                out.write(block)
        if digest.hexdigest() != entry["sha256"]:
            raise Failed("{} is not the file that was signed".format(entry["name"]))
    finally:
        if out is not None:
            out.close()


def header(name: str, size: int, executable: bool = False) -> bytes:
    """Return the header of a file in a bundle's tar (POSIX.1-1988, ustar): root's, always of one time."""
    fields = (
        name.encode("ascii").ljust(100, b"\0"),
        b"0000755\0" if executable else b"0000644\0",
        b"0000000\0" * 2,  # user, group
        "{:011o}".format(size).encode("ascii") + b"\0",
        "{:011o}".format(_TIME).encode("ascii") + b"\0",
    )
    rest = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(155 + 12)
    before = b"".join(fields)
    checksum = sum(before) + 8 * ord(" ") + sum(rest)
    return before + "{:06o}".format(checksum).encode("ascii") + b"\0 " + rest


def _padding(size: int) -> int:
    return -size % BLOCK


class _Tar:
    """A bundle as one file."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._file = files.open_regular(path)
        except OSError as error:
            raise Failed("cannot read {}: {}".format(path, error.strerror)) from error
        self._left = os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        self._file.close()

    def head(self, name: str, most: int) -> bytes:
        """Return the content of the manifest or its signature, whose size only its own header tells.

        Raises:
            Failed: another file is there, or it is larger than ``most``.
        """
        found = self._read(BLOCK)
        digits = found[124:135]
        size = int(digits, 8) if digits and not digits.strip(b"01234567") else 0
        if found != header(name, size):
            raise self._refused(found, name)
        if size > most:
            raise Failed("{}: {} would have {} bytes, and {} is the most".format(self._path, name, size, most))
        data = self._read(size)
        self._read_padding(size, name)
        return data

    def expect(self, listed: "Any") -> None:
        """Refuse a tar that cannot hold the listed files, whatever it holds instead."""
        needed = sum(BLOCK + file["size_bytes"] + _padding(file["size_bytes"]) for file in listed) + len(_END)
        if needed != self._left:
            raise Failed(
                "{} has {} bytes after its manifest, and what it lists has {}".format(self._path, self._left, needed),
                hint="it was cut short, or something was added",
            )

    def blocks(self, entry: "Dict[str, Any]") -> "Iterator[bytes]":
        """Yield the bytes of the next file.

        Raises:
            Failed: the next file is another one.
        """
        found = self._read(BLOCK)
        if found != header(entry["name"], entry["size_bytes"], entry["executable"]):
            raise self._refused(found, entry["name"])
        left = entry["size_bytes"]
        while left:
            block = self._read(min(left, _CHUNK))
            left -= len(block)
            yield block
        self._read_padding(entry["size_bytes"], entry["name"])

    def finish(self) -> None:
        """Refuse a tar whose end is another one.

        Raises:
            Failed: it is.
        """
        if self._read(len(_END)) != _END or self._file.read(1):
            raise Failed("{} does not end where a bundle ends".format(self._path))

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)  # type: bytes
        if len(data) < size:
            raise Failed("{} is not a bundle, or was cut short".format(self._path), hint="`deploycc package` makes one")
        self._left -= size
        return data

    def _read_padding(self, size: int, name: str) -> None:
        if any(self._read(_padding(size))):
            raise Failed("{}: the padding after {} is not empty".format(self._path, name))

    def _refused(self, found: bytes, wanted: str) -> Failed:
        if found[257:262] != b"ustar":
            return Failed("{} is not a bundle".format(self._path), hint="`deploycc package` makes one")
        name = found[:100].rstrip(b"\0").decode("ascii", "replace")
        kind = _KINDS.get(found[156:157])
        if kind is not None:
            return Failed("{}: {} is {}, which a bundle never holds".format(self._path, name or "an entry", kind))
        if name != wanted:
            return Failed("{}: {} is in the place of {}".format(self._path, name or "an entry", wanted))
        return Failed("{}: the header of {} is not the one that the manifest asks for".format(self._path, name))


class _Folder:
    """A bundle that was unpacked."""

    def __init__(self, path: str) -> None:
        self._path = path

    def close(self) -> None:
        """Every file was closed after it was read."""

    def head(self, name: str, most: int) -> bytes:
        """Return the content of the manifest or its signature.

        Raises:
            Failed: it cannot be read, or is larger than ``most``.
        """
        if not os.path.lexists(os.path.join(self._path, name)):
            raise Failed("{} has no {}: it is not a bundle".format(self._path, name))
        with self._opened(name) as file:
            data = file.read(most + 1)  # type: bytes
        if len(data) > most:
            raise Failed("{}: {} has more than {} bytes".format(self._path, name, most))
        return data

    def expect(self, listed: "Any") -> None:
        """Refuse a folder that holds anything but the listed files.

        Raises:
            Failed: it does.
        """
        names = {file["name"] for file in listed} | {bundle_manifest.NAME, bundle_manifest.SIGNATURE}
        folders = {folder for name in names for folder in bundle_manifest.folders_of(name)}
        for place, below, here in os.walk(self._path):
            for name in below + here:
                path = os.path.join(place, name)
                inside = os.path.relpath(path, self._path)
                if os.path.islink(path):
                    raise Failed("{}: {} is a symbolic link, which a bundle never holds".format(self._path, inside))
                if inside not in (folders if name in below else names):
                    raise Failed("{}: {} is not listed".format(self._path, inside))

    def blocks(self, entry: "Dict[str, Any]") -> "Iterator[bytes]":
        """Yield the bytes of a file.

        Raises:
            Failed: it is not an ordinary file, or has another size.
        """
        with self._opened(entry["name"]) as file:
            facts = os.fstat(file.fileno())
            if facts.st_size != entry["size_bytes"]:
                raise Failed(
                    "{}: {} has {} bytes instead of {}".format(
                        self._path, entry["name"], facts.st_size, entry["size_bytes"]
                    )
                )
            for block in iter(lambda: file.read(_CHUNK), b""):
                yield block

    def finish(self) -> None:
        """Everything was compared by name before."""

    def _opened(self, name: str) -> "Any":
        path = os.path.join(self._path, name)
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise Failed("{}: {} is not an ordinary file".format(self._path, name))
        return files.open_regular(path)
