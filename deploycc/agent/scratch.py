"""A folder of the agent's own, for what it has not finished, found and removed at the next start if it is killed.

Its owner holds a lock on it. The kernel gives the lock back when the owner ends, however that happens.
"""

import fcntl
import os
import shutil
import stat
import tempfile
from typing import Any

from .outcome import Failed

PREFIX = ".deploycc-agent-"
_LOCK = "lock"


class Scratch:
    """Exists while it is entered."""

    def __init__(self, parent: str) -> None:
        """Take the folder that it is to lie in; an engine must be on the disk where it is to go."""
        self._parent = parent
        self._lock = None  # type: Any
        self.path = ""

    def __enter__(self) -> "Scratch":
        """Make it, and remove those of agents that were killed.

        Raises:
            Failed: it cannot be made.
        """
        sweep(self._parent)
        try:
            self.path = tempfile.mkdtemp(prefix=PREFIX, dir=self._parent)
            self._lock = os.open(os.path.join(self.path, _LOCK), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.__exit__()
            raise Failed("cannot write into {}: {}".format(self._parent, error.strerror)) from error
        return self

    def __exit__(self, *error: "Any") -> None:
        """Remove it with what is in it."""
        if self.path:
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)


def sweep(parent: str) -> None:
    """Remove the folders in ``parent`` whose owners are gone."""
    try:
        names = os.listdir(parent)
    except OSError:
        return
    for name in names:
        path = os.path.join(parent, name)
        if name.startswith(PREFIX) and _is_abandoned(path):
            shutil.rmtree(path, ignore_errors=True)


def _is_abandoned(path: str) -> bool:
    """Whether it is a folder whose lock nobody holds."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            return False
        lock = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(lock)
