"""A clock for limits and waits that is never behind: where the system's goes backwards, this one stays where it is.

The kernel promises as much of its monotonic clock. Virtual machines, broken firmware and libraries that fake clocks do
not keep that promise, and a limit of a minute would then be one of days.
"""

import threading
import time
from typing import Callable


class SteadyClock:
    """Seconds since whenever; called like `time.monotonic`."""

    def __init__(self, source: "Callable[[], float]" = time.monotonic) -> None:
        """Take the clock of the system, or another one."""
        self._source = source
        self._lock = threading.Lock()  # without it, a thread that goes on late would seem to read an earlier time
        self._last = self._told = source()
        self._behind_s = 0.0

    def __call__(self) -> float:
        """Return seconds, at least as many as the last time."""
        with self._lock:
            now = self._source()
            self._behind_s += max(0.0, self._last - now)
            self._last = now
            self._told = max(self._told, now + self._behind_s)  # the sum is rounded, maybe down
            return self._told


now = SteadyClock()
"""The one that this process uses."""
