"""Facts of the machine that the command line runs on."""

from __future__ import annotations

import os

from deploycc.errors import InputError


def usable_cores() -> int:
    """Number of CPU cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def check_threads(threads: int) -> None:
    """Refuse more threads than cores: they would wait for one another, and a measurement would say nothing.

    Raises:
        InputError: ``too-many-threads``.
    """
    if threads > usable_cores():
        raise InputError(
            "too-many-threads", f"--threads {threads} is more than the {usable_cores()} cores that this machine has"
        )
