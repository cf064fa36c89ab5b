"""Timing in turns: whatever else the machine does meets everything that is compared. Raw samples are kept."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from deploycc.progress import Say, quiet

Key = TypeVar("Key", bound=Hashable)
Input = TypeVar("Input")

_SHORT_NS = 4_000_000  # a sample of a shorter run is the mean of as many calls as take this long


def time_in_turns(
    runs: Mapping[Key, Callable[[Input], object]],
    inputs: Sequence[Input],
    *,
    most_rounds: int,
    least_rounds: int = 1,
    seconds: float = math.inf,
    warm_up: int = 1,
    shuffled: bool = True,
    rest: float = 0.0,
    say: Say = quiet,
) -> dict[Key, NDArray[np.float64]]:
    """Time several runs, each once per input and round.

    Args:
        runs: what to time; each takes one input.
        inputs: what every run reads.
        most_rounds: number of rounds, unless ``seconds`` end them earlier.
        least_rounds: number of rounds that are timed however long they take.
        seconds: a round begins only if it is expected to end within this time.
        warm_up: number of inputs that each run reads once before anything is timed.
        shuffled: change the order of the runs for each input, the same way in each process. False keeps the order.
        rest: seconds of sleep after each round, per second that the round took.
        say: told before each round how many seconds have passed.

    Returns:
        For each run its times in milliseconds, [rounds, inputs].
    """
    keys, order = list(runs), random.Random(0)
    for run in runs.values():
        for value in inputs[:warm_up]:
            run(value)
    rounds: list[dict[Key, list[float]]] = []
    start = time.perf_counter()
    while len(rounds) < most_rounds:
        begin = time.perf_counter()
        spent = begin - start
        if len(rounds) >= least_rounds and spent + spent / len(rounds) > seconds:
            break
        if math.isfinite(seconds):
            say("seconds of timing", min(int(spent), int(seconds)), int(seconds))
        times_ms: dict[Key, list[float]] = {key: [] for key in keys}
        for value in inputs:
            for key in order.sample(keys, len(keys)) if shuffled else keys:
                run = runs[key]
                before = time.perf_counter_ns()
                run(value)
                times_ms[key].append((time.perf_counter_ns() - before) / 1e6)
        rounds.append(times_ms)
        if rest:
            time.sleep(rest * (time.perf_counter() - begin))
    return {key: np.array([times_ms[key] for times_ms in rounds]) for key in keys}


def time_short_runs(
    runs: Sequence[Callable[[], object]], rounds: int, *, most_calls: int = 20
) -> list[tuple[float, ...]]:
    """Time runs in turns, in the given order, where one call may be too short for the clock.

    Args:
        runs: what to time.
        rounds: number of samples of each run.
        most_calls: number of calls that a sample is the mean of, at most. From the second call on, caches hold all that
            a short run needs. With 1, each call follows one of another run, as a node of a network follows others.

    Returns:
        For each run its samples in milliseconds.
    """
    counts = [_calls_of_a_sample(run, most_calls) for run in runs]
    repeated = {number: _repeated(run, count) for number, (run, count) in enumerate(zip(runs, counts, strict=True))}
    samples_ms = time_in_turns(repeated, (None,), most_rounds=rounds, warm_up=0, shuffled=False)
    return [tuple((samples_ms[number][:, 0] / count).tolist()) for number, count in enumerate(counts)]


def spread(samples_ms: Sequence[float]) -> float:
    """Median divided by the least: near 1 on an idle machine, 2 where another process has half of the cores."""
    return statistics.median(samples_ms) / min(samples_ms)


def _calls_of_a_sample(run: Callable[[], object], most: int) -> int:
    run()
    start = time.perf_counter_ns()
    run()
    return min(most, max(1, _SHORT_NS // max(1, time.perf_counter_ns() - start)))


def _repeated(run: Callable[[], object], count: int) -> Callable[[None], None]:
    def several(_: None) -> None:
        for _number in range(count):
            run()

    return several
