"""Bundles installed side by side, one of them the current one: switched by one rename, and back.

Below ``var/lib/deploycc`` of a root file system:

``releases/<digest>``  an installed bundle; it gets this name when every byte of it is on the disk
``current``            link to the release that programs use
``previous``           link to the one before, which `rollback` makes the current one again
``.previous``          the next ``previous`` while ``current`` is switched
``engines/<digest>``   engines that this board built for a release (`first_boot`)

Power may fail at any moment: before and after every single step ``current`` leads to a whole release, and the one
before it is known.
"""

import fcntl
import os
import shutil
from typing import Any, Callable, Dict, List, Optional

from . import bundle, bundle_manifest, files
from .outcome import Failed

BASE = "var/lib/deploycc"
CURRENT = "current"
PREVIOUS = "previous"
ENGINES = "engines"

_PENDING = ".previous"
_RELEASES = "releases"
_HEX = frozenset("0123456789abcdef")


class Releases:
    """What is installed below a root file system; one process at a time changes it."""

    def __init__(self, root: str, changes: bool = True) -> None:
        """Open it, and make it where it does not exist.

        Args:
            root: of the file system.
            changes: something is to be changed: nobody else may, meanwhile.

        Raises:
            Failed: there is no such root, its own links lead out of it, or another process works on it.
            OSError: it cannot be made.
        """
        if not os.path.isdir(root):
            raise Failed("there is no root file system at {}".format(root))
        top = os.path.realpath(root)
        self.base = os.path.join(top, BASE)
        self._folder = os.path.join(self.base, _RELEASES)
        for folder in (self._folder, os.path.join(self.base, ENGINES)):
            if not (os.path.realpath(folder) + os.sep).startswith(top.rstrip(os.sep) + os.sep):
                raise Failed("{} leads out of {} over a link".format(folder, top))
        self._lock = -1
        if changes:
            self._make()
            self._lock = os.open(self.base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self.close()
                raise Failed("another process changes {} just now".format(self.base), hint="try again") from error

    def close(self) -> None:
        """Let other processes change it."""
        if self._lock >= 0:
            os.close(self._lock)

    def path(self, digest: str) -> str:
        """Return where a release is, or would be."""
        return os.path.join(self._folder, digest)

    def digest_of(self, link: str) -> "Optional[str]":
        """Return the digest of the release that `CURRENT` or `PREVIOUS` leads to; None where there is none."""
        pending = self._target(_PENDING) if link == PREVIOUS else None
        if pending is not None and pending != self._target(CURRENT):  # the power failed after the switch
            return pending
        return self._target(link)

    def _target(self, link: str) -> "Optional[str]":
        try:
            folder, digest = os.path.split(os.readlink(os.path.join(self.base, link)))
        except OSError:
            return None
        return digest if folder == _RELEASES and os.path.isdir(self.path(digest)) else None

    def digests(self) -> "List[str]":
        """Return the digests of all releases."""
        names = os.listdir(self._folder) if os.path.isdir(self._folder) else []
        return sorted(name for name in names if len(name) == 64 and not set(name) - _HEX)

    def install(self, path: str, key: bytes, accept: "Callable[[bundle.Bundle], None]") -> bundle.Bundle:
        """Make a bundle the current release.

        Args:
            path: the bundle, or the folder that it was unpacked into.
            key: the public key that must have signed it.
            accept: raises what refuses it, before anything is written.

        Raises:
            Failed: it is refused, or this file system cannot hold it; the current release is as before.
            OSError: it cannot be written; likewise.
        """
        self._sweep()
        partial = os.path.join(self._folder, ".partial")
        try:
            arrived = bundle.read(path, key, lambda found: self._check_room(found, accept), _Writer(partial))
            final = self.path(arrived.digest)
            if not self._is_whole(arrived.digest):
                _sync_folders(partial)
                self._discard(final)  # it was damaged
                os.rename(partial, final)
                _sync(self._folder)
        finally:
            _remove(partial)
        self._switch(arrived.digest)
        return arrived

    def rollback(self) -> str:
        """Make the previous release the current one, and the other way round; return its digest.

        Raises:
            Failed: there is none, or it is damaged.
        """
        now, before = self.digest_of(CURRENT), self.digest_of(PREVIOUS)
        if before is None or before == now:
            raise Failed("there is no previous release below {}".format(self.base))
        bundle.read(self.path(before), None)
        self._switch(before)
        return before

    def collect(self) -> "List[str]":
        """Remove every release but the current and the previous one, and engines of releases that are gone.

        Returns:
            the digests of what went.
        """
        self._sweep()
        kept = {self.digest_of(CURRENT), self.digest_of(PREVIOUS)}
        gone = [digest for digest in self.digests() if digest not in kept]
        for digest in gone:
            self._discard(self.path(digest))
        engines = os.path.join(self.base, ENGINES)
        for digest in os.listdir(engines) if os.path.isdir(engines) else []:
            if digest not in kept:
                shutil.rmtree(os.path.join(engines, digest))
        return gone

    def rows(self) -> "List[Dict[str, Any]]":
        """Return digest, name, version, target, bytes and role of every release."""
        roles = {self.digest_of(PREVIOUS): PREVIOUS}
        roles[self.digest_of(CURRENT)] = CURRENT
        return [dict(self._row(digest), role=roles.get(digest)) for digest in self.digests()]

    def manifest(self, digest: str) -> "Dict[str, Any]":
        """Return the manifest of a release.

        Raises:
            Failed: it is damaged.
        """
        text = files.read_bytes(os.path.join(self.path(digest), bundle_manifest.NAME), bundle_manifest.MOST_BYTES)
        return bundle_manifest.parsed(text)

    def _make(self) -> None:
        if not os.path.isdir(self._folder):
            os.makedirs(self._folder, exist_ok=True)
            for folder in (self._folder, self.base):
                os.chmod(folder, 0o755)  # whatever the umask says: programs of other users read it
                _sync(os.path.dirname(folder))

    def _row(self, digest: str) -> "Dict[str, Any]":
        row = {"digest": digest}  # type: Dict[str, Any]
        try:
            manifest = self.manifest(digest)
        except Failed as error:
            row["damaged"] = error.reason
            return row
        row.update((name, manifest[name]) for name in ("name", "version", "target"))
        row["size_bytes"] = sum(file["size_bytes"] for file in manifest["files"])
        return row

    def _check_room(self, found: bundle.Bundle, accept: "Callable[[bundle.Bundle], None]") -> None:
        accept(found)
        state = os.statvfs(self._folder)
        free = state.f_bavail * state.f_frsize
        needed = found.size_bytes() + state.f_frsize * 2 * len(found.manifest["files"])
        if needed > free and not os.path.isdir(self.path(found.digest)):
            raise Failed(
                "the bundle needs {} MiB, and {} has {} MiB free".format(needed >> 20, self.base, free >> 20),
                hint="`agent.pyz gc` removes releases that nobody uses",
            )

    def _is_whole(self, digest: str) -> bool:
        if not os.path.isdir(self.path(digest)):
            return False
        try:
            return bundle.read(self.path(digest), None).digest == digest
        except Failed:
            return False

    def _switch(self, digest: str) -> None:
        """Lead `CURRENT` to a release, and `PREVIOUS` to the one that it led to."""
        now = self.digest_of(CURRENT)
        if now == digest:
            return
        if now is not None:
            self._lead(_PENDING, now)
        self._lead(CURRENT, digest)
        if now is not None:
            os.replace(os.path.join(self.base, _PENDING), os.path.join(self.base, PREVIOUS))
            _sync(self.base)

    def _lead(self, link: str, digest: str) -> None:
        path = os.path.join(self.base, link)
        beside = os.path.join(self.base, ".link.partial")
        if os.path.lexists(beside):
            os.remove(beside)
        os.symlink(os.path.join(_RELEASES, digest), beside)
        os.replace(beside, path)
        _sync(self.base)

    def _discard(self, path: str) -> None:
        """Remove a release; it loses its name first, so that half of it is never taken for a whole one."""
        if os.path.lexists(path):
            gone = os.path.join(self._folder, ".gone")
            _remove(gone)
            os.rename(path, gone)
            _remove(gone)

    def _sweep(self) -> None:
        """Remove what a process left that was killed."""
        for name in (".partial", ".gone"):
            _remove(os.path.join(self._folder, name))


class _Writer:
    """Writes the files of a bundle into a new folder, each to the disk before the next."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __call__(self, entry: "Dict[str, Any]") -> "Any":
        path = os.path.join(self._folder, entry["name"])
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        mode = 0o755 if entry["executable"] else 0o644
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        os.fchmod(handle, mode)  # whatever the umask says
        return _SyncedFile(handle)


class _SyncedFile:
    """A file that is on the disk when it is closed."""

    def __init__(self, handle: int) -> None:
        self._file = os.fdopen(handle, "wb")

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def __enter__(self) -> "Any":
        return self

    def __exit__(self, *error: "Any") -> None:
        self.close()


def _remove(path: str) -> None:
    """Remove a folder with everything in it, or a link to one without following it, if it is there."""
    if os.path.islink(path):
        os.remove(path)
    elif os.path.lexists(path):
        shutil.rmtree(path)


def _sync_folders(top: str) -> None:
    for folder, _, _ in os.walk(top):
        os.chmod(folder, 0o755)
        _sync(folder)


def _sync(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
