"""Several processes of this machine as an executor."""

from __future__ import annotations

import itertools
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from deploycc.agent_host.temporary import temporary_folder

T = TypeVar("T")

_GRACE_S = 5.0


@contextmanager
def local_processes(jobs: int) -> Iterator[Executor | None]:
    """Yield an executor of so many processes; None for one, which is this process.

    They end with the block, at once where it is left by an exception, and when this process is killed.
    """
    if jobs == 1:
        yield None
        return
    others = set(multiprocessing.active_children())
    with temporary_folder() as folder:
        executor = _Processes(jobs, folder)
        try:
            yield executor
        except BaseException:
            _end([child for child in multiprocessing.active_children() if child not in others])
            raise
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


class _Processes(ProcessPoolExecutor):
    """Processes that exchange work and results in files.

    Their pipes get file names only, which are written at once: a process that is killed while it reads or writes a
    large object would leave the others, and this process, waiting for the rest of it.
    """

    def __init__(self, jobs: int, folder: Path) -> None:
        fresh = multiprocessing.get_context("spawn")  # a fork would inherit the threads' locks, but not the threads
        super().__init__(jobs, fresh, _started)
        self._files = (folder / str(number) for number in itertools.count())

    def submit(self, work: Callable[..., T], /, *arguments: Any, **named: Any) -> Future[T]:
        file = next(self._files)
        file.write_bytes(pickle.dumps(partial(work, *arguments, **named)))
        given: Future[None] = super().submit(_run, file)
        handed: _Handed[T] = _Handed(given)
        given.add_done_callback(partial(_hand_over, handed, file))
        return handed


class _Handed(Future[T]):
    """A result that is read from a file once another future is done."""

    def __init__(self, given: Future[None]) -> None:
        super().__init__()
        self._given = given

    def cancel(self) -> bool:
        return self._given.cancel()  # which `_hand_over` tells this one

    def running(self) -> bool:
        return self._given.running()


def _hand_over(handed: _Handed[T], file: Path, given: Future[None]) -> None:
    if given.cancelled():
        Future.cancel(handed)
        handed.set_running_or_notify_cancel()
    elif (error := given.exception()) is not None:
        handed.set_exception(error)
    else:
        handed.set_result(pickle.loads(file.read_bytes()))
    file.unlink(missing_ok=True)


def _run(file: Path) -> None:
    """Do what a file says, and put the result in its place; in a process of the executor."""
    try:
        result = pickle.loads(file.read_bytes())()
    except SystemExit:  # the executor would go on
        os._exit(1)
    file.write_bytes(pickle.dumps(result))


def _end(children: list[multiprocessing.process.BaseProcess]) -> None:
    """End processes, which clean up: politely, then for good."""
    for child in children:
        child.terminate()
    last = time.monotonic() + _GRACE_S
    for child in children:
        child.join(max(0.0, last - time.monotonic()))
        child.kill()


def _started() -> None:
    """Prepare a process of the executor."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C comes to the parent too, which ends this process
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(1)
