"""What a scenario of MLPerf Automotive's asks for, and what a run shows of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deploycc.documents.latency import Run
from deploycc.report.format import milliseconds

MAX_MISSED = 0.001
"""Share of a constant stream's pictures that may be late: 99.9 % must be done within their period (mlperf.conf of
MLPerf Automotive's LoadGen, v0.5)."""


@dataclass(frozen=True)
class Stream:
    """A constant stream, as it was measured.

    Attributes:
        period_ms: from one picture to the next.
        pictures: their number.
        missed: those that were not done within one period from when they were due.
        p999_ms: 99.9th percentile of the time from due to done.
    """

    period_ms: float
    pictures: int
    missed: int
    p999_ms: float

    @property
    def missed_share(self) -> float:
        """Share of the pictures, 0..1."""
        return self.missed / self.pictures


def stream_of(run: Run) -> Stream | None:
    """Return what a run shows of its constant stream; None where it has none."""
    if run.period_ms is None or not run.samples_ms:
        return None
    samples_ms = np.asarray(run.samples_ms)
    missed = int(np.count_nonzero(samples_ms > run.period_ms))
    return Stream(run.period_ms, samples_ms.size, missed, float(np.percentile(samples_ms, 99.9)))


def describe_scenario(run: Run) -> str | None:
    """Say how pictures came and what came of it; None where the plan decided."""
    if run.scenario is None or not run.samples_ms:
        return None
    stream = stream_of(run)
    if stream is None:
        p999 = milliseconds(float(np.percentile(run.samples_ms, 99.9)))
        return f"single stream: p99.9 {p999} of {len(run.samples_ms)} pictures"
    return (
        f"constant stream, one picture per {milliseconds(stream.period_ms)}: {stream.missed} of {stream.pictures} "
        f"deadlines missed ({stream.missed_share:.3%}), p99.9 {milliseconds(stream.p999_ms)}"
    )


def how_pictures_came(run: Run) -> str:
    """Name the way in which two runs must agree to be compared."""
    if run.period_ms is None:
        return "one picture after the other"
    return f"one picture per {milliseconds(run.period_ms)}"
