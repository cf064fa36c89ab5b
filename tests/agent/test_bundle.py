"""Reading bundles: the good one, every kind of hostile one, and the folder that one was unpacked into."""

from __future__ import annotations

import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bundles import board_bundle, keys
from crafted_bundles import crafted
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from deploycc.agent import bundle, ed25519
from deploycc.agent.outcome import Failed
from deploycc.bundle import tar
from deploycc.workflows.package import Packaged


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Packaged, bytes, Path]:
    """A bundle, the key that verifies it, and its folder."""
    place = tmp_path_factory.mktemp("bundle")
    packaged, public = board_bundle(place)
    return packaged, ed25519.read_public_key(str(public)), place


@pytest.fixture(scope="module")
def hostile(made: tuple[Packaged, bytes, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    other, _ = keys(tmp_path_factory.mktemp("other"), "other")
    return dict(crafted(made[0].files[0], made[2] / "me.key", other))


@pytest.fixture(autouse=True)
def _fast_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library checks them, which takes a hundredth of the time; `test_ed25519` proves that ours says the same."""
    monkeypatch.setattr(ed25519, "is_signed", is_signed)


def is_signed(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


@pytest.fixture
def unpacked(made: tuple[Packaged, bytes, Path], tmp_path: Path) -> Path:
    with tarfile.open(made[0].files[0]) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    return tmp_path / "unpacked"


class Received:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def __call__(self, entry: dict[str, Any]) -> Any:
        received = self.files
        received[entry["name"]] = b""

        class File:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *error: object) -> None:
                self.close()

            def write(self, data: bytes) -> None:
                received[entry["name"]] += data

            def close(self) -> None:
                pass

        return File()


def test_every_file_is_handed_on(made: tuple[Packaged, bytes, Path], unpacked: Path) -> None:
    packaged, key, _ = made
    for path in (packaged.files[0], unpacked):
        received = Received()
        read = bundle.read(str(path), key, sink=received)
        assert read.digest == packaged.digest
        assert set(received.files) == {*packaged.manifest.digests(), "manifest.json", "manifest.sig"}
        assert received.files["model/engine-fp32.engine"] == b"engine of a board"


def test_the_writer_and_the_reader_have_the_same_header() -> None:
    for name, size, executable in (("a", 0, False), ("model/engine.bin", 123_456_789, False), ("agent.pyz", 1, True)):
        assert tar.header(name, size, executable=executable) == bundle.header(name, size, executable)


def test_what_is_not_signed_is_not_looked_at(made: tuple[Packaged, bytes, Path], tmp_path: Path) -> None:
    packaged, _, _ = made
    _, public = keys(tmp_path, "stranger")
    seen = Received()
    with pytest.raises(Failed, match="not signed with this key"):
        bundle.read(str(packaged.files[0]), ed25519.read_public_key(str(public)), sink=seen)
    assert seen.files == {}


def test_every_changed_byte_is_noticed(made: tuple[Packaged, bytes, Path], tmp_path: Path) -> None:
    packaged, key, _ = made
    data = bytearray(packaged.files[0].read_bytes())
    path = tmp_path / "changed.tar"
    chosen = random.Random(15)
    for at in (0, 512, len(data) - 1, *(chosen.randrange(len(data)) for _ in range(25))):
        data[at] ^= 1 << chosen.randrange(8)
        path.write_bytes(data)
        with pytest.raises(Failed):
            bundle.read(str(path), key)
        data[:] = packaged.files[0].read_bytes()


def test_hostile_bundles_are_refused(
    made: tuple[Packaged, bytes, Path], hostile: dict[str, bytes], tmp_path: Path
) -> None:
    taken = []
    path = tmp_path / "hostile.tar"
    for what, data in hostile.items():
        path.write_bytes(data)
        try:
            bundle.read(str(path), made[1])
        except Failed:
            continue
        taken.append(what)
    assert taken == []
    assert len(hostile) > 100


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("entry 2 has type 2", "LICENSE is a symbolic link, which a bundle never holds"),
        ("entry 2 has type 3", "LICENSE is a character device"),
        ("entry 2 has type S", "LICENSE is a sparse file"),
        ("a path outside first", "../outside is in the place of manifest.json"),
        ("a size huge", "the header of LICENSE is not the one that the manifest asks for"),
        ("a manifest's size huge", "manifest.json would have 8589934591 bytes, and 4194304 is the most"),
        ("two names that differ in case", "lists license beside LICENSE: one file would replace the other"),
        ("a file that is a folder, too", "lists LICENSE as a file and as a folder"),
        ("signature truncated", "has 63 bytes instead of 64"),
        ("cut at 60%", "it was cut short, or something was added"),
        ("gzip", "is not a bundle"),
    ],
)
def test_a_refusal_says_why(
    made: tuple[Packaged, bytes, Path], hostile: dict[str, bytes], tmp_path: Path, what: str, reason: str
) -> None:
    (tmp_path / "hostile.tar").write_bytes(hostile[what])
    with pytest.raises(Failed) as caught:
        bundle.read(str(tmp_path / "hostile.tar"), made[1])
    assert reason in f"{caught.value.reason} ({caught.value.hint})"


def link(folder: Path) -> None:
    (folder / "NOTICE").unlink()
    (folder / "NOTICE").symlink_to("LICENSE")


def linked_folder(folder: Path) -> None:
    (folder / "model").rename(folder.parent / "elsewhere")
    (folder / "model").symlink_to(folder.parent / "elsewhere")


def pipe(folder: Path) -> None:
    (folder / "NOTICE").unlink()
    os.mkfifo(folder / "NOTICE")


CHANGES: dict[str, Callable[[Path], object]] = {
    "is not the file that was signed": lambda folder: (folder / "NOTICE").write_bytes(
        (folder / "NOTICE").read_bytes().swapcase()
    ),
    "bytes instead of": lambda folder: (folder / "NOTICE").write_bytes(b""),
    "more is not listed": lambda folder: (folder / "more").write_bytes(b""),
    "other is not listed": lambda folder: (folder / "other").mkdir(),
    "NOTICE is a symbolic link": link,
    "model is a symbolic link": linked_folder,
    "NOTICE is not an ordinary file": pipe,
    "No such file": lambda folder: (folder / "NOTICE").unlink(),
    "has no manifest.json": lambda folder: (folder / "manifest.json").unlink(),
    "not signed with this key": lambda folder: (folder / "manifest.json").write_bytes(b"{}"),
    "has more than 64 bytes": lambda folder: (folder / "manifest.sig").write_bytes(bytes(65)),
}


@pytest.mark.parametrize("reason", CHANGES)
def test_a_changed_folder_is_refused(made: tuple[Packaged, bytes, Path], unpacked: Path, reason: str) -> None:
    CHANGES[reason](unpacked)
    with pytest.raises(Failed, match=reason):
        bundle.read(str(unpacked), made[1])
