"""Hostile bundles: archives that a bundle never is, and bundles whose signer means harm."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from deploycc.agent import bundle as reader
from deploycc.bundle.keys import read_private_key
from deploycc.documents.seal import content_digest

ORDER = 2**252 + 27742317777372353535851937790883648493  # of the group of Ed25519
Manifest = dict[str, Any]


def crafted(bundle: Path, private: Path, other: Path) -> Iterator[tuple[str, bytes]]:
    """Yield a description and the bytes of each hostile bundle made from a good one.

    Args:
        bundle: the good one.
        private: key that signed it.
        other: another private key.
    """
    good = _Parts(bundle.read_bytes(), private)
    yield from _entries(good)
    yield from _names(good)
    yield from _figures(good)
    yield from _signatures(good, other)
    yield from _archives(good)


class _Parts:
    """A bundle taken apart: its entries as (header, content) in order."""

    def __init__(self, data: bytes, private: Path) -> None:
        self.data = data
        self.key = read_private_key(private)
        self.entries: list[tuple[bytes, bytes]] = []
        at = 0
        while data[at] != 0:
            header, size = data[at : at + 512], int(data[at + 124 : at + 135], 8)
            self.entries.append((header, data[at + 512 : at + 512 + size]))
            at += 512 + size + -size % 512
        self.manifest: Manifest = json.loads(self.entries[0][1])

    def archive(self, entries: list[tuple[bytes, bytes]]) -> bytes:
        return b"".join(header + content + bytes(-len(content) % 512) for header, content in entries) + bytes(1024)

    def signed(self, change: Callable[[Manifest], None], more: list[tuple[bytes, bytes]] | None = None) -> bytes:
        """A bundle whose signer wrote another manifest, and maybe other files."""
        manifest = json.loads(json.dumps(self.manifest))
        change(manifest)
        manifest["content_sha256"] = content_digest(manifest)
        return self.with_manifest(json.dumps(manifest).encode(), more)

    def with_manifest(self, text: bytes, more: list[tuple[bytes, bytes]] | None = None) -> bytes:
        head = [
            (reader.header("manifest.json", len(text)), text),
            (reader.header("manifest.sig", 64), self.key.sign(text)),
        ]
        return self.archive([*head, *(self.entries[2:] if more is None else more)])


def checked(header: bytes) -> bytes:
    """A header with the checksum that fits it."""
    blank = header[:148] + b" " * 8 + header[156:]
    return header[:148] + b"%06o\0 " % sum(blank) + header[156:]


def _patched(header: bytes, at: int, data: bytes) -> bytes:
    return checked(header[:at] + data + header[at + len(data) :])


def _entries(good: _Parts) -> Iterator[tuple[str, bytes]]:
    """Entries that are not plain files, in the place of one or beside them; links that lead out."""
    for kind in (b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"x", b"g", b"L", b"K"):
        for place in (2, len(good.entries) - 1):
            header, content = good.entries[place]
            link = _patched(_patched(header, 156, kind), 157, b"../../../etc/passwd")
            entries = list(good.entries)
            entries[place] = (link, content)
            yield f"entry {place} has type {kind.decode()}", good.archive(entries)
    extra = {
        "a path outside": b"../outside",
        "an absolute path": b"/tmp/outside",
        "a second file of a name": good.entries[2][0][:100].rstrip(b"\0"),
        "a name in other case": good.entries[2][0][:100].rstrip(b"\0").swapcase(),
        "a path below a link": b"model/link/../../../outside",
    }
    for what, name in extra.items():
        header = checked(name.ljust(100, b"\0") + reader.header("x", 6)[100:])
        yield f"{what} at the end", good.archive([*good.entries, (header, b"harm!\n")])
        yield f"{what} first", good.archive([(header, b"harm!\n"), *good.entries])
        yield f"{what} instead of a file", good.archive([*good.entries[:-1], (header, b"harm!\n")])
    for at, data in (
        (100, b"0004755\0"),
        (100, b"0000777\0"),
        (108, b"0001750\0"),
        (136, b"14772231400\0"),
        (265, b"root\0"),
    ):
        header, content = good.entries[3]
        entries = list(good.entries)
        entries[3] = (_patched(header, at, data), content)
        yield f"other bytes at {at} of a header: {data!r}", good.archive(entries)


def _names(good: _Parts) -> Iterator[tuple[str, bytes]]:
    """Names that a signed manifest lists and no bundle may have."""
    hostile = ["../outside", "/tmp/outside", "a/../../outside", "./a", "a//b", "a/", "", ".", "..", "-rf", "a\\b", "ä"]
    hostile += ["a" * 101, "a\0b", "a\nb", "manifest.json", "MANIFEST.json", "manifest.sig", "model/.hidden", "con:"]
    for name in hostile:

        def rename(manifest: Manifest, name: str = name) -> None:
            manifest["files"][0]["name"] = name
            manifest["files"].sort(key=lambda file: file["name"])

        data = name.encode("utf-8")[:100].ljust(100, b"\0")
        entry = (checked(data + good.entries[2][0][100:]), good.entries[2][1])
        yield f"a file called {name[:20]!r}", good.signed(rename, [entry, *good.entries[3:]])

    def twice(manifest: Manifest) -> None:
        manifest["files"].insert(1, dict(manifest["files"][0]))

    def other_case(manifest: Manifest) -> None:
        manifest["files"].append({**manifest["files"][0], "name": manifest["files"][0]["name"].lower()})
        manifest["files"].sort(key=lambda file: file["name"])

    def as_folder(manifest: Manifest) -> None:
        manifest["files"].insert(1, {**manifest["files"][0], "name": manifest["files"][0]["name"] + "/below"})

    first = good.entries[2]
    lower = (checked(first[0][:100].lower() + first[0][100:]), first[1])
    below = (checked((first[0][:100].rstrip(b"\0") + b"/below").ljust(100, b"\0") + first[0][100:]), first[1])
    yield "a file listed twice", good.signed(twice, [first, *good.entries[2:]])
    yield "two names that differ in case", good.signed(other_case, [*good.entries[2:], lower])
    yield "a file that is a folder, too", good.signed(as_folder, [first, below, *good.entries[3:]])
    yield "files out of order", good.signed(lambda manifest: manifest["files"].reverse())


def _figures(good: _Parts) -> Iterator[tuple[str, bytes]]:
    """Sizes, digests and counts that a signed manifest must not state."""
    values: list[tuple[str, Any]] = [("size_bytes", value) for value in (1 << 33, 1 << 63, -1, 1.5, "7", True, None, 0)]
    values += [("sha256", "0" * 64), ("sha256", "x"), ("executable", 1), ("other", 1)]
    for field, value in values:
        yield f"{field} is {value}", good.signed(lambda m, f=field, v=value: m["files"][0].update({f: v}))
    yield "5000 files", good.signed(lambda m: m.update(files=[m["files"][0]] * 5000))
    yield "no files", good.signed(lambda m: m.update(files=[]))
    yield "another schema", good.signed(lambda m: m.update(schema=2))
    yield "an unknown field", good.signed(lambda m: m.update(run="rm -rf /"))
    yield "a plan outside", good.signed(lambda m: m.update(plan="../plan.json"))
    yield "deep JSON", good.with_manifest(b"[" * 100_000)
    yield "not JSON", good.with_manifest(b"\xff" * 100)
    yield "a manifest that is a list", good.with_manifest(b"[]")
    yield "a manifest whose digest is another", good.with_manifest(good.entries[0][1].replace(b'"model/', b'"m0del/'))
    yield "a manifest of 5 MB", good.with_manifest(good.entries[0][1] + b" " * (5 << 20))


def _signatures(good: _Parts, other: Path) -> Iterator[tuple[str, bytes]]:
    text, signature = good.entries[0][1], good.entries[1][1]
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    wrong = {
        "another key's": read_private_key(other).sign(text),
        "of another text": good.key.sign(text + b" "),
        "all zero": bytes(64),
        "the halves swapped": signature[32:] + signature[:32],
        "with a scalar too large": signature[:32] + scalar.to_bytes(32, "little"),
        "truncated": signature[:63],
        "empty": b"",
        "too long": signature + b"\0",
        "of the digest": good.key.sign(hashlib.sha256(text).digest()),
    }
    for what, data in wrong.items():
        entry = (reader.header("manifest.sig", len(data)), data)
        yield f"signature {what}", good.archive([good.entries[0], entry, *good.entries[2:]])
    yield "no signature", good.archive([good.entries[0], *good.entries[2:]])
    yield "no manifest", good.archive(good.entries[1:])


def _archives(good: _Parts) -> Iterator[tuple[str, bytes]]:
    swapped = [*good.entries[:2], good.entries[3], good.entries[2], *good.entries[4:]]
    contents = [*good.entries[:2], (good.entries[2][0], good.entries[3][1]), *good.entries[3:]]
    yield "two files swapped", good.archive(swapped)
    yield "two contents swapped", good.archive(contents)
    yield "a file left out", good.archive(good.entries[:-1])
    yield "nothing at all", b""
    yield "zeros", bytes(10240)
    yield "gzip", gzip.compress(good.data)
    yield "another block at the end", good.data + bytes(512)
    yield "a byte at the end", good.data + b"\0"
    yield "no end", good.data[:-1024]
    for share in (0.01, 0.3, 0.6, 0.99):
        yield f"cut at {share:.0%}", good.data[: int(len(good.data) * share)]
    header, content = good.entries[2]
    for what, digits in (("huge", b"77777777777\0"), ("in base 256", b"\x80" + bytes(7) + b"\x7f" + bytes(3))):
        bomb = (_patched(header, 124, digits), content)
        yield f"a size {what}", good.archive([*good.entries[:2], bomb, *good.entries[3:]])
        head = _patched(good.entries[0][0], 124, digits)
        yield f"a manifest's size {what}", good.archive([(head, good.entries[0][1]), *good.entries[1:]])
    padding = bytearray(good.data)
    padding[512 + len(good.entries[0][1])] = 1
    yield "something in the padding", bytes(padding)
