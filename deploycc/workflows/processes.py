"""Several processes of this machine as an executor."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def local_processes(jobs: int) -> Iterator[Executor | None]:
    """Yield an executor of so many processes; None for one, which is this process."""
    if jobs == 1:
        yield None
        return
    fresh = multiprocessing.get_context("spawn")  # a fork would inherit the threads' locks, but not the threads
    executor = ProcessPoolExecutor(jobs, fresh)
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
