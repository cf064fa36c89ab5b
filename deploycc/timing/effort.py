"""How long comparing networks takes on a machine that builds an engine of each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """What a first network showed.

    Attributes:
        build_s: seconds to build its engine.
        job_s: seconds that a job takes besides, the way there and back included.
        start_s: seconds to start it and time it once.
        starts: how often a program is started to time an engine on all pictures; None: engines stay loaded.
    """

    build_s: float
    job_s: float
    start_s: float
    starts: int | None

    def seconds(self, engines: int, compared: int, seconds: float) -> float:
        """Return about how long a machine takes, where all engines are as large as the first.

        Args:
            engines: that it builds and starts once.
            compared: engines that are timed on pictures, counted once for each comparison.
            seconds: that each comparison of engines which stay loaded may take, per engine.
        """
        on_pictures_s = seconds if self.starts is None else self.starts * self.start_s
        return engines * (self.build_s + self.job_s + self.start_s) + compared * on_pictures_s
