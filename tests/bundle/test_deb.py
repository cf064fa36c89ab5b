"""Debian packages: read back member by member, and by dpkg-deb where there is one."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from deploycc.bundle.deb import Package, write_deb
from deploycc.bundle.tar import Entry
from deploycc.errors import InputError

PACKAGE = Package("detector", "1.0", "aarch64", "jetson-tx2-jp461", "Jane Doe <jane@example.org>", "Copyright (c) me\n")
LARGE = bytes(range(256)) * 700  # more than two stored blocks
FILES = [
    Entry("agent.pyz", b"#!", executable=True),
    Entry("model/engine.engine", LARGE),
    Entry("model/plan.json", b"{}"),
]


@pytest.fixture
def deb(tmp_path: Path) -> Path:
    write_deb(tmp_path / "a.deb", PACKAGE, FILES, b"key")
    return tmp_path / "a.deb"


def members(deb: Path) -> dict[str, bytes]:
    data, found = deb.read_bytes(), {}
    assert data.startswith(b"!<arch>\n")
    at = 8
    while at < len(data):
        name, size = data[at : at + 16].decode().strip(), int(data[at + 48 : at + 58])
        assert data[at + 58 : at + 60] == b"`\n"
        found[name] = data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    return found


def archive(data: bytes) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as tar:
        files = [(entry, tar.extractfile(entry) if entry.isfile() else None) for entry in tar]
        return {entry.name: (entry, file.read() if file else b"") for entry, file in files}


def test_what_is_in_it(deb: Path) -> None:
    found = members(deb)
    assert list(found) == ["debian-binary", "control.tar.gz", "data.tar.gz"]
    assert found["debian-binary"] == b"2.0\n"
    control, data = archive(found["control.tar.gz"]), archive(found["data.tar.gz"])
    home = "./usr/lib/deploycc/detector"
    assert data[f"{home}/bundle/model/engine.engine"][1] == LARGE
    assert data[f"{home}/key.pem"][1] == b"key"
    assert {name for name, (entry, _) in data.items() if entry.isdir()} >= {".", home, f"{home}/bundle/model"}
    assert {entry.mode for entry, _ in data.values()} == {0o755, 0o644}
    assert {(entry.uid, entry.gid) for entry, _ in data.values()} == {(0, 0)}
    fields = dict(line.split(": ", 1) for line in control["./control"][1].decode().splitlines() if line[0] != " ")
    assert (fields["Package"], fields["Version"], fields["Architecture"]) == ("detector", "1.0", "arm64")
    sums = dict(reversed(line.split("  ")) for line in control["./md5sums"][1].decode().splitlines())
    assert sums == {
        name.removeprefix("./"): hashlib.md5(content, usedforsecurity=False).hexdigest()
        for name, (entry, content) in data.items()
        if entry.isfile()
    }
    assert control["./postinst"][0].mode == 0o755
    assert b'home="$DPKG_ROOT/usr/lib/deploycc/detector"' in control["./postinst"][1]
    assert b'install "$home/bundle" --key "$home/key.pem" --root "${DPKG_ROOT:-/}"' in control["./postinst"][1]


def test_dpkg_reads_it(deb: Path, tmp_path: Path) -> None:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs dpkg-deb")
    shown = subprocess.run(["dpkg-deb", "--field", deb, "Package"], capture_output=True, text=True, check=True).stdout
    assert shown == "detector\n"
    subprocess.run(["dpkg-deb", "--extract", deb, tmp_path / "root"], check=True)
    assert (tmp_path / "root/usr/lib/deploycc/detector/bundle/model/engine.engine").read_bytes() == LARGE


def test_an_architecture_that_debian_does_not_know(tmp_path: Path) -> None:
    package = Package("detector", "1.0", "sparc", "t", PACKAGE.maintainer, "")
    with pytest.raises(InputError) as caught:
        write_deb(tmp_path / "a.deb", package, FILES, b"key")
    assert caught.value.code == "deb-architecture"


def test_long_names(tmp_path: Path) -> None:
    name = f"model/{'n' * 90}.onnx"
    write_deb(tmp_path / "a.deb", PACKAGE, [Entry(name, b"1")], b"key")
    assert f"./usr/lib/deploycc/detector/bundle/{name}" in archive(members(tmp_path / "a.deb")["data.tar.gz"])
