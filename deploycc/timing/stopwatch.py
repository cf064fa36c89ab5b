"""Timing networks in ONNX Runtime on this machine, in turns, so that what else the machine does meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from deploycc.documents.costs import Machine
from deploycc.errors import ArtefactError

_ROUND_NS = 4_000_000  # short runs are repeated until a round takes this long, at most _REPEATS times
_REPEATS = 20


def this_machine(threads: int) -> Machine:
    """The processor's name and ONNX Runtime's version."""
    return Machine(processor=_processor(), onnxruntime=ort.__version__, threads=threads)


def check_machine(table: Machine, here: Machine) -> None:
    """Refuse times of another machine.

    Raises:
        ArtefactError: ``costs-other-machine``.
    """
    if table != here:
        raise ArtefactError(
            "costs-other-machine",
            "the cost table was measured on another machine",
            context={"table": table.describe(), "here": here.describe()},
            hint="give another file with --costs; it is measured anew",
        )


class Stopwatch:
    """One network and its input, timed again and again."""

    def __init__(
        self, session: ort.InferenceSession, feed: Mapping[str, NDArray[Any]], most_repeats: int = _REPEATS
    ) -> None:
        """Warm up, and find how many runs make a round.

        Args:
            session: of the network.
            feed: what it reads.
            most_repeats: of one round. From the second run on, caches hold all that a short run needs; with 1, each
                run follows one of another network, as a node inside a network follows others.
        """
        self._session, self._feed = session, dict(feed)
        self.samples_ms: list[float] = []
        session.run(None, self._feed)
        start = time.perf_counter_ns()
        session.run(None, self._feed)
        self._repeats = min(most_repeats, max(1, _ROUND_NS // max(1, time.perf_counter_ns() - start)))

    def sample(self) -> None:
        """Add one round: the mean time of its runs, ms."""
        start = time.perf_counter_ns()
        for _ in range(self._repeats):
            self._session.run(None, self._feed)
        self.samples_ms.append((time.perf_counter_ns() - start) / self._repeats / 1e6)


def spread(samples_ms: Sequence[float]) -> float:
    """Median divided by the least: near 1 on an idle machine, 2 where another process has half of the cores."""
    return statistics.median(samples_ms) / min(samples_ms)


def time_in_turns(makers: Sequence[Callable[[], Stopwatch]], rounds: int) -> list[tuple[float, ...]]:
    """Load all networks, then sample them in turns.

    Args:
        makers: each loads one network.
        rounds: samples of each.

    Returns:
        For each network its samples, ms.
    """
    watches = [make() for make in makers]
    for _ in range(rounds):
        for watch in watches:
            watch.sample()
    return [tuple(watch.samples_ms) for watch in watches]


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - no path of the user's
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:  # not on Linux
        names = []
    if names:
        return names[0]
    import platform

    return platform.processor() or platform.machine()
