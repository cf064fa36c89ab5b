"""Runs that take turns, on a clock that only they move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from deploycc.timing import turns
from deploycc.timing.turns import time_in_turns, time_short_runs


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.slept_s = 0.0

    def perf_counter(self) -> float:
        return self.now_ms / 1e3

    def perf_counter_ns(self) -> int:
        return round(self.now_ms * 1e6)

    def sleep(self, seconds: float) -> None:
        self.slept_s += seconds

    def run(self, name: str, milliseconds: float, calls: list[tuple[str, object]]) -> Callable[[object], None]:
        """A run that takes this long, and notes its calls."""

        def called(value: object = None) -> None:
            calls.append((name, value))
            self.now_ms += milliseconds

        return called


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(turns, "time", made)
    return made


def test_each_run_reads_each_input_once_per_round(clock: Clock) -> None:
    calls: list[tuple[str, object]] = []
    runs = {"a": clock.run("a", 2.0, calls), "b": clock.run("b", 3.0, calls)}
    samples_ms = time_in_turns(runs, [10, 20, 30], most_rounds=4, warm_up=2)
    assert calls[:4] == [("a", 10), ("a", 20), ("b", 10), ("b", 20)]  # to warm up
    timed = calls[4:]
    assert Counter(timed) == {(name, value): 4 for name in "ab" for value in (10, 20, 30)}
    assert [value for _, value in timed[::2]] == [10, 20, 30] * 4
    np.testing.assert_array_equal(samples_ms["a"], np.full((4, 3), 2.0))
    np.testing.assert_array_equal(samples_ms["b"], np.full((4, 3), 3.0))


def test_the_order_changes_but_not_from_process_to_process(clock: Clock) -> None:
    calls: list[tuple[str, object]] = []
    runs = {name: clock.run(name, 1.0, calls) for name in "abc"}
    time_in_turns(runs, [None], most_rounds=20)
    orders = ["".join(name for name, _ in calls[start : start + 3]) for start in range(3, len(calls), 3)]
    assert len(set(orders)) == 6
    first, calls[:] = list(calls), []
    time_in_turns(runs, [None], most_rounds=20)
    assert calls == first
    calls.clear()
    time_in_turns(runs, [None], most_rounds=20, shuffled=False)
    assert {"".join(name for name, _ in calls[start : start + 3]) for start in range(3, len(calls), 3)} == {"abc"}


@pytest.mark.parametrize(
    ("seconds", "least", "most", "rounds"),
    [(1.0, 1, 25, 10), (1.05, 1, 25, 10), (0.01, 1, 25, 1), (0.01, 6, 25, 6), (100.0, 1, 25, 25), (1.0, 1, 3, 3)],
)
def test_rounds_are_added_while_they_fit(clock: Clock, seconds: float, least: int, most: int, rounds: int) -> None:
    runs = {"a": clock.run("a", 60.0, []), "b": clock.run("b", 40.0, [])}
    samples_ms = time_in_turns(runs, [None], seconds=seconds, least_rounds=least, most_rounds=most)
    assert samples_ms["a"].shape == samples_ms["b"].shape == (rounds, 1)


def test_a_rest_follows_each_round(clock: Clock) -> None:
    time_in_turns({"a": clock.run("a", 500.0, [])}, [None], most_rounds=4, rest=0.1)
    assert clock.slept_s == pytest.approx(0.2, rel=1e-9, abs=0)


def test_a_sample_of_a_short_run_is_the_mean_of_several_calls(clock: Clock) -> None:
    calls: list[tuple[str, object]] = []
    runs = [clock.run("tiny", 0.01, calls), clock.run("short", 1.0, calls), clock.run("long", 9.0, calls)]
    samples_ms = time_short_runs(runs, 3)
    assert [len(samples) for samples in samples_ms] == [3, 3, 3]
    np.testing.assert_allclose([np.mean(samples) for samples in samples_ms], [0.01, 1.0, 9.0], rtol=1e-6, atol=0)
    assert Counter(name for name, _ in calls) == {"tiny": 2 + 3 * 20, "short": 2 + 3 * 4, "long": 2 + 3}
    one_by_one = [name for name, _ in calls[6:]]
    assert one_by_one[:25] == ["tiny"] * 20 + ["short"] * 4 + ["long"]


def test_with_one_call_per_sample_nothing_follows_itself(clock: Clock) -> None:
    calls: list[tuple[str, object]] = []
    time_short_runs([clock.run(name, 0.01, calls) for name in "ab"], 5, most_calls=1)
    assert [name for name, _ in calls[4:]] == ["a", "b"] * 5
