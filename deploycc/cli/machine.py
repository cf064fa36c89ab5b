"""Facts of the machine that the command line runs on."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Number of CPU cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1
