"""What hosts keep on this board: files by their SHA-256, so that none travels twice, and a cut transfer goes on.

``objects/``  whole files; ``partial/``  files that are still arriving; ``jobs/``  work (`device_jobs`).
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from typing import Any, Dict, Iterator, Set, Tuple

from . import files
from .outcome import Failed

_WRITABLE_BY_OTHERS = 0o022


class Store:
    """A folder of this user's."""

    def __init__(self, root: str) -> None:
        """Open it, and make it where it does not exist.

        Raises:
            Failed: it cannot be made, or others could change what is in it.
        """
        self.root = root
        self.jobs = os.path.join(root, "jobs")
        self._objects = os.path.join(root, "objects")
        self._partial = os.path.join(root, "partial")
        self._arriving = {}  # type: Dict[str, Any]
        try:
            for folder in (root, self.jobs, self._objects, self._partial):
                os.makedirs(folder, 0o700, exist_ok=True)
            found = os.stat(root)
        except OSError as error:
            raise Failed("the store {} cannot be made: {}".format(root, error.strerror)) from error
        if found.st_uid != os.getuid() or found.st_mode & _WRITABLE_BY_OTHERS:
            raise Failed("the store {} can be changed by others".format(root), hint="chmod go-w, or choose another")

    def path(self, sha256: str) -> str:
        """Where an object is, or would be."""
        return os.path.join(self._objects, sha256[:2], sha256)

    def has(self, sha256: str, size: int) -> bool:
        """Whether an object is here; one of another size is damaged and goes."""
        path = self.path(sha256)
        if not os.path.isfile(path):
            return False
        if os.path.getsize(path) == size:
            return True
        files.remove(path)
        return False

    def arrived(self, sha256: str) -> int:
        """How many bytes of an object that is not whole are here."""
        try:
            return os.path.getsize(os.path.join(self._partial, sha256))
        except OSError:
            return 0

    def reserve(self, size: int) -> None:
        """Make sure that so many bytes can be written: disk and quota.

        Raises:
            OSError: they cannot.
        """
        if not size:
            return
        handle, path = tempfile.mkstemp(prefix="reserve-", dir=self._partial)
        try:
            os.posix_fallocate(handle, 0, size)
        finally:
            os.close(handle)
            files.remove(path)

    def free_bytes(self) -> int:
        """What this user may still write, quotas aside."""
        found = os.statvfs(self.root)
        return int(found.f_bavail * found.f_frsize)

    def receive(self, sha256: str, size: int, offset: int, data: bytes) -> bool:
        """Add a piece to an object that arrives; return whether it is whole now.

        Raises:
            Failed: the piece does not follow what is here, or the bytes are not those of the digest, which are dropped.
            OSError: it cannot be written.
        """
        handle = self._opened(sha256)
        if os.fstat(handle).st_size != offset or offset + len(data) > size:
            raise Failed("a piece at {} does not follow what is here".format(offset))
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
        except OSError:
            os.ftruncate(handle, offset)
            raise
        if offset + len(data) < size:
            return False
        partial = os.path.join(self._partial, sha256)
        if files.sha256_of(partial) != sha256:
            self._close(sha256)
            files.remove(partial)
            raise Failed("{} arrived damaged".format(sha256[:16]))
        os.fsync(handle)
        os.fchmod(handle, 0o444)
        os.makedirs(os.path.dirname(self.path(sha256)), 0o700, exist_ok=True)
        os.replace(partial, self.path(sha256))
        self._close(sha256)
        return True

    def _opened(self, sha256: str) -> int:
        if sha256 not in self._arriving:
            path = os.path.join(self._partial, sha256)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(handle)
                raise Busy() from error
            self._arriving[sha256] = handle
        return self._arriving[sha256]  # type: ignore[no-any-return]

    def _close(self, sha256: str) -> None:
        os.close(self._arriving.pop(sha256))

    def adopt(self, path: str) -> "Tuple[str, int]":
        """Make a file of this board's an object too; return its digest and size.

        Raises:
            Failed, OSError: it cannot be read or kept.
        """
        sha256 = files.sha256_of(path)
        size = os.path.getsize(path)
        if not self.has(sha256, size):
            os.makedirs(os.path.dirname(self.path(sha256)), 0o700, exist_ok=True)
            link_or_copy(path, self.path(sha256))
        return sha256, size

    def give(self, sha256: str, path: str) -> None:
        """Put an object where a job reads it.

        Raises:
            OSError: it is not here, or cannot be put there.
        """
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        link_or_copy(self.path(sha256), path)

    def read(self, sha256: str, offset: int, most: int) -> "Tuple[bytes, int]":
        """Return a piece of an object, and the object's size.

        Raises:
            OSError: it is not here.
        """
        with open(self.path(sha256), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(offset)
            return file.read(most), size

    def clean(self, kept: "Set[str]", agent: str) -> "Dict[str, int]":
        """Remove objects that nothing refers to, transfers that nobody goes on with, and agents but one.

        Args:
            kept: digests of the objects that jobs refer to.
            agent: path of the agent that stays.

        Returns:
            How many files went, and their bytes.
        """
        gone = [_removed(path) for path in self._superfluous(kept, agent)]
        return {"files": len(gone), "bytes": sum(gone)}

    def _superfluous(self, kept: "Set[str]", agent: str) -> "Iterator[str]":
        for folder, _, names in os.walk(self._objects):
            yield from (os.path.join(folder, name) for name in names if name not in kept)
        for name in os.listdir(self._partial):
            if not _is_held(os.path.join(self._partial, name)):
                yield os.path.join(self._partial, name)
        agents = os.path.join(self.root, "agents")
        for name in os.listdir(agents) if os.path.isdir(agents) else []:
            if os.path.join(agents, name) != agent:
                yield os.path.join(agents, name)


class Busy(Exception):  # noqa: N818 - an outcome
    """Another host sends the same object just now."""


def link_or_copy(source: str, path: str) -> None:
    """Give a file a second name; where the file system has none, copy it."""
    partial = path + files.PARTIAL
    files.remove(partial)
    try:
        os.link(source, partial)
    except OSError:
        shutil.copyfile(source, partial)
    os.replace(partial, path)
    files.remove(partial)  # renaming one name of a file to another of the same file does nothing


def is_digest(value: "Any") -> bool:
    """Whether a value is a SHA-256, hexadecimal."""
    return isinstance(value, str) and len(value) == hashlib.sha256().digest_size * 2 and not set(value) - _HEX


_HEX = set("0123456789abcdef")


def _removed(path: str) -> int:
    size = os.path.getsize(path)
    files.remove(path)
    return size


def _is_held(path: str) -> bool:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(handle)
