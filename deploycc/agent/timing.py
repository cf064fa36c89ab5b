"""The measuring loops.

Single stream: the next picture as soon as the last one is done. Constant stream: a picture per period.

Engines that are to be compared are timed in turns: a block of pictures of one, then a block of the other, the order
reversed from round to round (A B, B A, ...). Whatever else the machine does, and however its clocks move, meets both.
Where pairs of blocks differ so much that they do not tell the ratio, more of them are taken. Only how far they differ
decides that, never what they say: stopping as soon as a difference shows would find differences that are not there.
"""

import gc
import itertools
import statistics
import time
from typing import Any, Callable, Dict, List, Optional

from . import pairs
from .outcome import Failed

_BLOCK_S = 0.3  # of a block, where that is enough pictures: a steady state, and short beside what changes on a machine
_BLOCK_SAMPLES = 10  # of a block: the picture that is dropped before it stays a small part
ROUNDS = 8  # at least: of fewer pairs of blocks not even the extremes are a 99 % interval of their median
KNOWN = 0.02  # spread of a ratio that is known: well inside a limit of 5 % on regressions
MOST_TIMES = 4  # as long are engines timed whose ratio is asked for
_SPIN_S = 0.002  # before a picture is due: a sleep may last that much longer than it should
_DROPPED_S = 0.02  # before each block, and one picture at least: the caches still hold the other engine's data


def _check_forward(*times: float) -> None:
    """Refuse a clock that went backwards: a loop that waits for its end would wait for as long again."""
    if list(times) != sorted(times):
        raise Failed("the board's monotonic clock went backwards while it measured")


class Stopwatch:
    """Times one engine in blocks of pictures."""

    def __init__(
        self,
        run_once: "Callable[[], Any]",
        clock: "Callable[[], float]" = time.perf_counter,
        sleep: "Callable[[float], None]" = time.sleep,
    ) -> None:
        """Start without a sample.

        Args:
            run_once: returns when the picture is done: None, or of networks in a row which second one ran.
            clock: seconds, monotonic; the same for all that take turns.
            sleep: waits for so many seconds of that clock, or a little longer.
        """
        self._run_once = run_once
        self._clock = clock
        self._sleep = sleep
        self._starts = []  # type: List[float]
        self._ends = []  # type: List[float]
        self._second = []  # type: List[Any]
        self._blocks = []  # type: List[int]
        self._warmup_samples = 0
        self._warmup_s = 0.0
        self._duration_s = 0.0

    @property
    def first_start(self) -> float:
        """When the first sample began."""
        return self._starts[0]

    @property
    def picture_s(self) -> float:
        """Mean time of a picture of the warm-up."""
        return self._warmup_s / self._warmup_samples

    @property
    def medians(self) -> "List[float]":
        """Median of each block, in seconds."""
        ends = list(itertools.accumulate(self._blocks))
        samples = [end - start for start, end in zip(self._starts, self._ends)]  # noqa: B905 - strict came with 3.10
        return [statistics.median(samples[end - count : end]) for end, count in zip(ends, self._blocks)]  # noqa: B905

    def warm_up(self, seconds: float) -> None:
        """Run pictures that are not kept: at least one.

        Raises:
            Failed: the clock went backwards.
        """
        begin = now = self._clock()
        count = 0
        while count == 0 or now - begin < seconds:
            self._run_once()
            before, now = now, self._clock()
            _check_forward(before, now)
            count += 1
        self._warmup_samples += count
        self._warmup_s += now - begin

    def take_block(self, min_duration_s: float, min_samples: int) -> None:
        """Time pictures until both limits are reached.

        Args:
            min_duration_s: from the first sample's start to the last one's end.
            min_samples: number of samples.

        Raises:
            Failed: the clock went backwards.
        """
        run_once, clock, starts, ends = self._run_once, self._clock, self._starts, self._ends
        second = self._second
        first = len(ends)
        before = clock()
        while len(ends) - first < min_samples or ends[-1] - starts[first] < min_duration_s:
            start = clock()
            which = run_once()
            ends.append(clock())
            second.append(which)
            starts.append(start)
            _check_forward(before, start, ends[-1])
            before = ends[-1]
        self._blocks.append(len(ends) - first)
        self._duration_s += ends[-1] - starts[first]

    def take_stream(self, period_s: float, min_duration_s: float, min_samples: int) -> None:
        """Time pictures that come once per period, until both limits are reached.

        A picture that comes while the engine is busy waits. A sample begins when its picture is due, so waiting is part
        of it.

        Args:
            period_s: from one picture to the next.
            min_duration_s: until the last picture's period ends.
            min_samples: number of samples.

        Raises:
            Failed: the clock went backwards.
        """
        run_once, clock, starts, ends = self._run_once, self._clock, self._starts, self._ends
        begin = before = clock()
        count = 0
        while count < min_samples or count * period_s < min_duration_s:
            due = begin + count * period_s
            now = clock()
            _check_forward(before, now)  # else the wait for the next picture would be that much longer
            if due - now > _SPIN_S:
                self._sleep(due - now - _SPIN_S)
            now = clock()
            while now < due:
                earlier, now = now, clock()
                _check_forward(earlier, now)
            which = run_once()
            ends.append(clock())
            self._second.append(which)
            starts.append(due)
            _check_forward(now, ends[-1])
            before = ends[-1]
            count += 1
        self._blocks.append(count)
        self._duration_s += ends[-1] - begin

    def result(self, origin: float) -> "Dict[str, Any]":
        """Return the fields of a run.

        Args:
            origin: the clock's time that ``start_offsets_s`` count from.

        Returns:
            ``samples_ms``, ``start_offsets_s``, ``blocks`` (samples of each), ``duration_s`` (of the blocks),
            ``warmup_samples``, ``warmup_s``; times as the clock gave them, to the nanosecond. Of networks in a row also
            ``second``: which second one ran, one per sample.
        """
        pairs = zip(self._starts, self._ends)  # noqa: B905 - strict came with Python 3.10
        second = {} if None in self._second else {"second": list(self._second)}
        return dict(
            second,
            **{
                "samples_ms": [round((end - start) * 1e3, 6) for start, end in pairs],
                "start_offsets_s": [round(start - origin, 9) for start in self._starts],
                "blocks": list(self._blocks),
                "duration_s": self._duration_s,
                "warmup_samples": self._warmup_samples,
                "warmup_s": self._warmup_s,
            },
        )


class Blocks:
    """Blocks of one engine that a program timed, each in a process of its own."""

    def __init__(self, clock: "Callable[[], float]" = time.perf_counter) -> None:
        """Start without a block.

        Args:
            clock: seconds, monotonic; the same for all that take turns.
        """
        self._clock, self._last = clock, clock()
        self._blocks = []  # type: List[Any]

    def add(self, result: "Dict[str, Any]") -> None:
        """Add a block that has just ended.

        Args:
            result: the fields of `Stopwatch.result`, counted from the block's first sample, and others, of which the
                last block's count.

        Raises:
            Failed: the clock went backwards.
        """
        now = self._clock()
        _check_forward(self._last, now)
        self._last = now
        self._blocks.append((now - result["duration_s"], result))

    @property
    def medians(self) -> "List[float]":
        """Median of each block, in milliseconds."""
        return [statistics.median(block["samples_ms"]) for _, block in self._blocks]

    @property
    def first_start(self) -> float:
        """When the first sample began, as far as the end of its block tells."""
        return float(self._blocks[0][0])

    def result(self, origin: float) -> "Dict[str, Any]":
        """Return the fields of a run; see `Stopwatch.result`."""
        whole = dict(self._blocks[-1][1])
        whole["start_offsets_s"] = [
            (begin - origin) + offset for begin, block in self._blocks for offset in block["start_offsets_s"]
        ]
        for name in ("samples_ms", "blocks"):
            whole[name] = [value for _, block in self._blocks for value in block[name]]
        for name in ("duration_s", "warmup_samples", "warmup_s"):
            whole[name] = sum(block[name] for _, block in self._blocks)
        return whole


def take_samples(
    watches: "List[Stopwatch]",
    min_duration_s: float,
    min_samples: int,
    period_s: "Optional[float]" = None,
    most_times: int = 1,
) -> "List[Dict[str, Any]]":
    """Time engines that are warm until each has reached both limits.

    Args:
        watches: all warmed up. One is timed in a single block; several take turns, each first as often as last.
        min_duration_s: of each engine's blocks together.
        min_samples: of each engine.
        period_s: of a constant stream, which engines get one after the other; None: the next picture at once.
        most_times: how many times as long engines that take turns are timed at most, until their ratio is known
            (`ratios_known`).

    Returns:
        For each what `Stopwatch.result` says, counted from the first sample of all.
    """
    collecting = gc.isenabled()
    gc.disable()  # garbage collection is not part of the engine's latency
    try:
        if period_s is not None:
            for watch in watches:
                watch.take_stream(period_s, min_duration_s, min_samples)
        elif len(watches) == 1:
            watches[0].take_block(min_duration_s, min_samples)
        else:
            _take_turns(watches, min_duration_s, min_samples, most_times)
    finally:
        if collecting:
            gc.enable()
    origin = min(watch.first_start for watch in watches)
    return [watch.result(origin) for watch in watches]


def _take_turns(watches: "List[Stopwatch]", min_duration_s: float, min_samples: int, most_times: int) -> None:
    rounds = _rounds([watch.picture_s for watch in watches], min_duration_s, min_samples)
    order = list(watches)
    taken = 0
    while taken < rounds or (taken < most_times * rounds and not ratios_known([watch.medians for watch in watches])):
        for _ in range(2):
            for watch in order:
                watch.warm_up(_DROPPED_S)
                watch.take_block(min_duration_s / rounds, -(-min_samples // rounds))
            order.reverse()
        taken += 2


def ratios_known(medians: "List[List[float]]") -> bool:
    """Return whether pairs of blocks tell what each engine takes of the first one's time.

    Args:
        medians: for each engine that of each block, as many for all.
    """
    return all(pairs.ratio_spread(medians[0], other) <= KNOWN for other in medians[1:])


def _rounds(pictures_s: "List[float]", min_duration_s: float, min_samples: int) -> int:
    """Return an even number of rounds in which no engine's blocks are shorter than they should be."""
    most = min_duration_s / _BLOCK_S
    for picture_s in pictures_s:
        most = min(most, max(min_samples, min_duration_s / max(picture_s, 1e-9)) / _BLOCK_SAMPLES)
    return max(ROUNDS, 2 * int(most / 2))


def with_shares(layers: "List[Dict[str, Any]]") -> "List[Dict[str, Any]]":
    """Give every layer its share of the sum of medians, 0..1."""
    total = sum(layer["median_ms"] for layer in layers)
    for layer in layers:
        layer["share"] = layer["median_ms"] / total if total else 0.0
    return layers
