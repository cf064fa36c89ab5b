"""Bundles installed, switched, rolled back and removed; nothing of them outside, and no half of one."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from bundles import board_bundle, board_folder

from deploycc.agent import bundle, ed25519, releases
from deploycc.agent.outcome import Failed
from deploycc.agent.releases import CURRENT, PREVIOUS, Releases
from deploycc.workflows.package import Packaged, package


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[Packaged]]:
    """The public key, and three bundles signed with it."""
    place = tmp_path_factory.mktemp("bundles")
    first, public = board_bundle(place)
    made = [first]
    for number in (2, 3):
        folder = board_folder(place / f"out{number}", engine=b"engine %d" % number)
        made.append(package(folder, place / "me.key", place / f"bundle{number}.tar"))
    return ed25519.read_public_key(str(public)), made


def install(root: Path, key: bytes, packaged: Packaged) -> None:
    installed = Releases(str(root))
    try:
        installed.install(str(packaged.files[0]), key, lambda found: None)
    finally:
        installed.close()


def current_engine(root: Path) -> bytes:
    return (root / releases.BASE / CURRENT / "model/engine-fp32.engine").read_bytes()


def test_the_life_of_releases(bundles: tuple[bytes, list[Packaged]], tmp_path: Path) -> None:
    key, made = bundles
    install(tmp_path, key, made[0])
    assert current_engine(tmp_path) == b"engine of a board"
    for packaged in (made[1], made[2], made[2]):  # the last one once more: nothing changes
        install(tmp_path, key, packaged)
    installed = Releases(str(tmp_path))
    try:
        assert (installed.digest_of(CURRENT), installed.digest_of(PREVIOUS)) == (made[2].digest, made[1].digest)
        assert {row["digest"]: row["role"] for row in installed.rows()} == {
            made[0].digest: None,
            made[1].digest: PREVIOUS,
            made[2].digest: CURRENT,
        }
        assert installed.rollback() == made[1].digest
        assert current_engine(tmp_path) == b"engine 2"
        assert installed.rollback() == made[2].digest  # and forward again
        assert installed.collect() == [made[0].digest]
        assert installed.digests() == sorted([made[1].digest, made[2].digest])
    finally:
        installed.close()
    assert sorted(path.name for path in tmp_path.rglob("*") if path.name.startswith(".")) == []


def test_modes_do_not_depend_on_the_umask(bundles: tuple[bytes, list[Packaged]], tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        install(tmp_path, bundles[0], bundles[1][0])
    finally:
        os.umask(before)
    release = tmp_path / releases.BASE / CURRENT
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (release, *release.rglob("*"))}
    assert {modes.pop(name) for name in (CURRENT, "model", "agent.pyz")} == {0o755}
    assert set(modes.values()) == {0o644}


def test_a_refused_bundle_leaves_everything_as_it_was(bundles: tuple[bytes, list[Packaged]], tmp_path: Path) -> None:
    key, made = bundles
    root = tmp_path / "root"
    root.mkdir()
    install(root, key, made[0])
    before = sorted(root.rglob("*"))
    data = bytearray(made[1].files[0].read_bytes())
    data[-2000] ^= 1  # in the last file: all others are written by then
    (tmp_path / "changed.tar").write_bytes(data)
    installed = Releases(str(root))
    try:
        with pytest.raises(Failed, match=r"sbom.cdx.json is not the file that was signed"):
            installed.install(str(tmp_path / "changed.tar"), key, lambda found: None)
        with pytest.raises(Failed, match="no previous release"):
            installed.rollback()
    finally:
        installed.close()
    assert sorted(root.rglob("*")) == before
    assert current_engine(root) == b"engine of a board"


def test_a_damaged_release_is_not_rolled_back_to_and_is_mended_by_installing(
    bundles: tuple[bytes, list[Packaged]], tmp_path: Path
) -> None:
    key, made = bundles
    for packaged in made[:2]:
        install(tmp_path, key, packaged)
    damaged = tmp_path / releases.BASE / "releases" / made[0].digest / "model/engine-fp32.engine"
    damaged.write_bytes(b"engine of a b0ard")
    installed = Releases(str(tmp_path))
    try:
        with pytest.raises(Failed, match=r"engine-fp32\.engine is not the file that was signed"):
            installed.rollback()
        assert installed.digest_of(CURRENT) == made[1].digest
    finally:
        installed.close()
    install(tmp_path, key, made[0])
    assert current_engine(tmp_path) == b"engine of a board"


@pytest.mark.parametrize(
    "link", ["var/lib", "var/lib/deploycc", "var/lib/deploycc/releases", "var/lib/deploycc/engines"]
)
def test_a_link_of_the_root_that_leads_out_is_refused(tmp_path: Path, link: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / link).parent.mkdir(parents=True)
    outside.mkdir()
    (root / link).symlink_to(outside)
    with pytest.raises(Failed, match="leads out of"):
        Releases(str(root))
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", [".partial", ".gone"])
def test_a_link_in_the_place_of_leftovers_is_not_followed(
    bundles: tuple[bytes, list[Packaged]], tmp_path: Path, name: str
) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / releases.BASE / "releases").mkdir(parents=True)
    outside.mkdir()
    (outside / "mine").write_text("mine")
    (root / releases.BASE / "releases" / name).symlink_to(outside)
    install(root, bundles[0], bundles[1][0])
    assert [path.name for path in outside.iterdir()] == ["mine"]
    assert current_engine(root) == b"engine of a board"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    first = Releases(str(tmp_path))
    try:
        with pytest.raises(Failed, match="another process changes"):
            Releases(str(tmp_path))
        assert Releases(str(tmp_path), changes=False).rows() == []  # reading needs no turn
    finally:
        first.close()


def test_what_a_killed_process_left_goes(bundles: tuple[bytes, list[Packaged]], tmp_path: Path) -> None:
    folder = tmp_path / releases.BASE / "releases"
    (folder / ".partial/model").mkdir(parents=True)
    (folder / ".gone").mkdir()
    (folder.parent / ".link.partial").symlink_to("nowhere")
    install(tmp_path, bundles[0], bundles[1][0])
    assert [path.name for path in folder.iterdir()] == [bundles[1][0].digest]
    assert current_engine(tmp_path) == b"engine of a board"


class PowerCut(BaseException):
    """The process ends here."""


def cut_at(root: Path, number: int, change: Callable[[Releases], object], patch: pytest.MonkeyPatch) -> bool:
    """Make a change of which the call of this number that changes a name never happens; return whether there was one."""
    calls = 0

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object) -> None:
            nonlocal calls
            calls += 1
            if calls == number:
                raise PowerCut
            real(*arguments)

        return call

    installed = Releases(str(root))
    for name in ("symlink", "replace", "rename"):
        patch.setattr(os, name, counted(getattr(os, name)))
    try:
        change(installed)
    except PowerCut:
        return True
    finally:
        installed.close()
    return False


@pytest.mark.parametrize("kind", ["install", "rollback"])
def test_wherever_the_power_fails_there_are_two_whole_releases(
    bundles: tuple[bytes, list[Packaged]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    key, made = bundles
    before = tmp_path / "before"
    before.mkdir()
    for packaged in made[:2]:
        install(before, key, packaged)
    first, second, third = (packaged.digest for packaged in made)

    def change(installed: Releases) -> object:
        if kind == "rollback":
            return installed.rollback()
        return installed.install(str(made[2].files[0]), key, lambda found: None)

    seen = []
    for number in range(1, 20):
        root = Path(shutil.copytree(before, tmp_path / str(number), symlinks=True))
        with monkeypatch.context() as patch:
            if not cut_at(root, number, change, patch):
                break
        installed = Releases(str(root), changes=False)
        seen.append((installed.digest_of(CURRENT), installed.digest_of(PREVIOUS)))
        for digest in seen[-1]:
            release = root / releases.BASE / "releases" / str(digest)
            assert bundle.read(str(release), None).digest == digest
    after = (third, second) if kind == "install" else (first, second)
    assert set(seen) == {(second, first), after}
    assert seen == sorted(seen, key=[(second, first), after].index)  # it switches once


def test_nothing_is_made_by_listing(tmp_path: Path) -> None:
    assert Releases(str(tmp_path), changes=False).rows() == []
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Failed, match="there is no root file system"):
        Releases(str(tmp_path / "nothing"), changes=False)


def test_a_full_disk_is_said_before_anything_is_written(
    bundles: tuple[bytes, list[Packaged]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(tmp_path)

    class Full:
        f_bavail = 1
        f_frsize = real.f_frsize

    monkeypatch.setattr(os, "statvfs", lambda path: Full)
    with pytest.raises(Failed, match="MiB free"):
        install(tmp_path, bundles[0], bundles[1][0])
    assert list((tmp_path / releases.BASE / "releases").iterdir()) == []
