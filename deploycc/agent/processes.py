"""Processes that end together: the agent with whoever started it, a job with the agent, a program with its job.

A parent that is killed cannot end its children, so children look after themselves. The kernel is asked to kill them
(``PR_SET_PDEATHSIG``), and a thread watches: a pipe of which the parent holds the other end, and who the parent is.
"""

import ctypes
import os
import select
import signal
import subprocess
import threading
import time
from typing import Any, Callable, List, Optional

from . import steady

GRACE_S = 2.0
_LOOK_EVERY_S = 0.5
_SET_PDEATHSIG = 1  # linux/prctl.h


class Interrupted(KeyboardInterrupt):
    """Somebody asked this process to end, or whoever started it is gone."""


def obey_signals() -> None:
    """End in order on the signals of a shell, a closed terminal and `kill`; those ignored so far stay so (nohup)."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: "Any") -> None:
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(other, signal.SIG_IGN)  # one is enough: what it began must not be cut short
    raise Interrupted


def _prctl() -> "Optional[Any]":
    try:
        return ctypes.CDLL(None).prctl
    except (OSError, AttributeError):  # no Linux
        return None


_PRCTL = _prctl()


def kill_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends; where the kernel cannot, nothing happens."""
    if _PRCTL is not None:
        _PRCTL(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def end_with_parent(pipe: int, in_order: bool) -> None:
    """End this process when the one that started it is gone.

    Args:
        pipe: its reading end; nobody writes into it, and the parent holds the other end.
        in_order: by an interruption, which cleans up; otherwise at once, with everything in its session.
    """
    parent = os.getppid()
    if not in_order:
        kill_with_parent()

    def end() -> None:
        if in_order:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            os.killpg(0, signal.SIGKILL)

    watcher = threading.Thread(target=_watch, args=(pipe, parent, end))
    watcher.daemon = True
    watcher.start()


def _watch(pipe: int, parent: int, end: "Callable[[], None]") -> None:
    while os.getppid() == parent:
        ready, _, _ = select.select([pipe], [], [], _LOOK_EVERY_S)
        if ready and not os.read(pipe, 1):
            break
    end()


class Child:
    """A process that ends with this one. A job leads a session of its own, in which its programs are."""

    def __init__(self, arguments: "List[str]", leads_session: bool, **more: "Any") -> None:
        """Start it; see `subprocess.Popen`.

        Raises:
            OSError, ValueError: it cannot be started.
        """
        self._leads_session = leads_session
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, start_new_session=leads_session, preexec_fn=kill_with_parent, **more
        )  # type: Any
        self.stdout = self._process.stdout  # type: Any

    def read(self, pipe: int, limit_s: float) -> "Any":
        """Return what it writes into a pipe until it closes its end; None where that takes longer than the limit."""
        deadline = steady.now() + limit_s
        parts = []  # type: Any
        while True:
            ready, _, _ = select.select([pipe], [], [], max(0.0, min(deadline - steady.now(), 3600.0)))
            if not ready:
                if steady.now() >= deadline:
                    return None
                continue
            part = os.read(pipe, 1 << 16)
            if not part:
                return b"".join(parts)
            parts.append(part)

    def wait(self) -> int:
        """Wait for its end, end what it left running, and return its exit code; negative: the signal that ended it."""
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)  # its number stays taken
        self._kill()
        return self._process.wait()  # type: ignore[no-any-return]

    def end(self, grace_s: float = 0.0) -> None:
        """End it if it still runs: politely, so that it ends in order, then for good; and what it left running."""
        if self._process.returncode is not None:
            return
        if grace_s:
            self._process.terminate()
        deadline = steady.now() + grace_s
        while steady.now() < deadline and not _has_ended(self._process.pid):
            time.sleep(0.01)
        self._kill()
        self._process.wait()

    def _kill(self) -> None:
        try:
            if self._leads_session:
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                os.kill(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def _has_ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return True
