"""One job at a time on a board: a lock that the kernel takes back when its holder ends, however that happens.

The file says who holds it and since when. What it says counts only while the lock is held, so a reboot or a killed
process leaves nothing that has to be cleared away.
"""

import fcntl
import json
import os
import time
from typing import Any, Callable, Dict, Optional

from .outcome import Failed

DEFAULT = "/tmp/deploycc-board.lock"  # one for all users of the board
_LOOK_EVERY_S = 0.2
_MOST_BYTES = 4096


def open_lock(path: str) -> int:
    """Return a descriptor of the lock's file, which every user may open.

    Raises:
        Failed: the file cannot be opened.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        try:
            return os.open(path, flags)  # without O_CREAT, which Linux refuses for another user's file in /tmp
        except FileNotFoundError:
            handle = os.open(path, flags | os.O_CREAT, 0o666)
            try:
                os.fchmod(handle, 0o666)
            except PermissionError:  # another user was faster
                pass
            return handle
    except OSError as error:
        raise Failed("the lock {} cannot be opened: {}".format(path, error.strerror)) from error


def take(path: str, facts: "Dict[str, Any]", on_wait: "Callable[[Optional[Dict[str, Any]]], None]") -> int:
    """Wait until no other job runs on this board, and return a descriptor that holds the lock.

    Args:
        path: the lock's file.
        facts: who holds it, for those who wait.
        on_wait: told who holds it, whenever that changes.

    Raises:
        Failed: the file cannot be opened.
    """
    handle = open_lock(path)
    last = None  # type: Any
    while not _try(handle):
        holder = _read(handle)
        if last is None or holder != last[0]:
            last = (holder,)
            on_wait(holder)
        time.sleep(_LOOK_EVERY_S)
    data = json.dumps(dict(facts, since=time.time())).encode("ascii")
    os.ftruncate(handle, 0)
    os.pwrite(handle, data[:_MOST_BYTES], 0)
    return handle


def holder_of(path: str) -> "Optional[Dict[str, Any]]":
    """Return who holds the lock; None where nobody does.

    Raises:
        Failed: the file cannot be opened.
    """
    if not os.path.lexists(path):
        return None
    handle = open_lock(path)
    try:
        return None if _try(handle) else _read(handle) or {}
    finally:
        os.close(handle)


def sentence(holder: "Optional[Dict[str, Any]]") -> str:
    """Say who holds the lock, and for how long."""
    if not holder:
        return "another job"
    since = holder.get("since")
    age = max(0.0, time.time() - since) if isinstance(since, float) else 0.0  # the clock may have been set back
    return "a job of {} (for {:.0f} s)".format(holder.get("owner") or "somebody", age)


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False


def _read(handle: int) -> "Optional[Dict[str, Any]]":
    try:
        facts = json.loads(os.pread(handle, _MOST_BYTES, 0).decode("utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None
