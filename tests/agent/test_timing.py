"""The measuring loop against a clock that the test moves."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from deploycc.agent import timing
from deploycc.agent.outcome import Failed


class Engine:
    """Each run takes the next of the given durations, in seconds, on its own clock."""

    def __init__(self, *durations: float) -> None:
        self.durations = durations
        self.now = 100.0
        self.runs = 0
        self.collecting: set[bool] = set()

    def run(self) -> None:
        self.now += self.durations[min(self.runs, len(self.durations) - 1)]
        self.runs += 1
        self.collecting.add(gc.isenabled())

    def clock(self) -> float:
        return self.now


def measure(
    run: Callable[[], None], warmup_s: float, min_s: float, samples: int, clock: Callable[[], float]
) -> dict[str, Any]:
    """One engine alone."""
    watch = timing.Stopwatch(run, clock)
    watch.warm_up(warmup_s)
    (result,) = timing.take_samples([watch], min_s, samples)
    return result


def test_the_warmup_is_not_kept() -> None:
    engine = Engine(0.5, 0.5, 0.5, 0.01)
    result = measure(engine.run, 1.2, 0.035, 2, engine.clock)
    assert result["warmup_samples"] == 3
    assert result["warmup_s"] == pytest.approx(1.5, rel=0, abs=1e-9)
    assert result["samples_ms"] == pytest.approx([10.0] * 4, rel=0, abs=1e-6)
    assert result["start_offsets_s"] == pytest.approx([0.0, 0.01, 0.02, 0.03], rel=0, abs=1e-9)
    assert result["duration_s"] == pytest.approx(0.04, rel=0, abs=1e-9)


def test_one_call_warms_up_even_for_zero_seconds() -> None:
    engine = Engine(5.0, 0.001)
    result = measure(engine.run, 0.0, 0.001, 3, engine.clock)
    assert result["warmup_samples"] == 1
    assert len(result["samples_ms"]) == 3
    assert max(result["samples_ms"]) < 2


@pytest.mark.parametrize(
    ("duration_s", "min_s", "samples", "expected"), [(0.5, 2.0, 1, 4), (0.5, 2.0, 7, 7), (3.0, 2.0, 1, 1)]
)
def test_both_limits_are_reached(duration_s: float, min_s: float, samples: int, expected: int) -> None:
    engine = Engine(duration_s)
    result = measure(engine.run, 0.0, min_s, samples, engine.clock)
    assert len(result["samples_ms"]) == len(result["start_offsets_s"]) == expected
    assert result["duration_s"] >= min_s
    assert result["blocks"] == [expected]


def test_the_collector_rests_and_comes_back() -> None:
    engine = Engine(0.01)
    measure(engine.run, 0.0, 0.05, 1, engine.clock)
    assert engine.collecting == {True, False}  # warm-up, samples
    assert gc.isenabled()


def test_the_collector_comes_back_after_an_exception() -> None:
    def run() -> None:
        if not gc.isenabled():
            raise RuntimeError("while timing")

    with pytest.raises(RuntimeError, match="while timing"):
        measure(run, 0.0, 1.0, 1, time.perf_counter)
    assert gc.isenabled()


class Bench:
    """Engines on one clock; writes down which one ran each picture. Durations are sums of powers of two: exact."""

    def __init__(self) -> None:
        self.now = 128.0
        self.log = ""

    def warm_engine(self, name: str, duration_s: float) -> timing.Stopwatch:
        def run() -> None:
            self.now += duration_s
            self.log += name

        watch = timing.Stopwatch(run, lambda: self.now)
        watch.warm_up(0.0)
        return watch


FAST_S, SLOW_S = 1 / 128, 1 / 64


def test_engines_take_turns_in_changing_order() -> None:
    bench = Bench()
    watches = [bench.warm_engine("A", FAST_S), bench.warm_engine("B", SLOW_S)]
    bench.log = ""
    first, second = timing.take_samples(watches, 3.0, 100)
    assert first["blocks"] == [39] * 10  # 0.3 s and more
    assert second["blocks"] == [20] * 10
    a, b = "A" * 3 + "A" * 39, "B" * 2 + "B" * 20  # before each block 0.02 s are dropped
    assert bench.log == (a + b + b + a) * 5
    assert first["warmup_samples"] == 1 + 3 * 10
    assert second["warmup_s"] == SLOW_S * (1 + 2 * 10)


def test_every_block_lies_beside_its_partner() -> None:
    bench = Bench()
    results = timing.take_samples([bench.warm_engine("A", FAST_S), bench.warm_engine("B", SLOW_S)], 3.0, 100)
    begins, ends = [], []
    for result, duration_s in zip(results, (FAST_S, SLOW_S), strict=True):
        last = [at - 1 for at in itertools.accumulate(result["blocks"])]
        begins.append([result["start_offsets_s"][at] for at in (0, *(at + 1 for at in last[:-1]))])
        ends.append([result["start_offsets_s"][at] + duration_s for at in last])
    for number in range(10):
        earlier, later = (1, 0) if number % 2 else (0, 1)
        dropped_s = 3 * FAST_S if later == 0 else 2 * SLOW_S
        assert begins[later][number] - ends[earlier][number] == pytest.approx(dropped_s, rel=0, abs=1e-9)
    assert begins[0][0] == 0.0


@pytest.mark.parametrize("durations", [(2**-10, 2**-10), (0.25, 0.75), (2**-11, 2.0), (2**-5, 0.25)])
@pytest.mark.parametrize(("min_s", "samples"), [(10.0, 100), (0.5, 10), (0.0625, 1)])
def test_each_reaches_both_limits(durations: tuple[float, float], min_s: float, samples: int) -> None:
    bench = Bench()
    begin = bench.now
    watches = [bench.warm_engine(name, duration_s) for name, duration_s in zip("AB", durations, strict=True)]
    results = timing.take_samples(watches, min_s, samples)
    for result, duration_s in zip(results, durations, strict=True):
        assert sum(result["blocks"]) == len(result["samples_ms"]) >= samples
        assert result["duration_s"] == duration_s * len(result["samples_ms"]) >= min_s
    assert len(results[0]["blocks"]) == len(results[1]["blocks"]) >= 8
    assert len(results[0]["blocks"]) % 2 == 0
    if samples == 100:  # a valid measurement costs little more in turns than one after the other
        alone_s = sum(max(min_s, samples * duration_s) for duration_s in durations)
        assert bench.now - begin < 1.2 * alone_s


class Restless(Bench):
    """Every third picture of an engine takes longer, but for those after a time when the machine is quiet."""

    def __init__(self, quiet_after_s: float) -> None:
        super().__init__()
        self.quiet = self.now + quiet_after_s

    def warm_engine(self, name: str, duration_s: float) -> timing.Stopwatch:
        random = np.random.default_rng(ord(name))

        def run() -> None:
            disturbed = self.now < self.quiet and len(self.log) % 64 < 32
            self.now += duration_s * (1 + disturbed * random.random())
            self.log += name

        watch = timing.Stopwatch(run, lambda: self.now)
        watch.warm_up(0.0)
        return watch


@pytest.mark.parametrize(
    ("quiet_after_s", "most_times", "rounds"),
    [(0.0, 4, 10), (1e9, 1, 10), (1e9, 4, 40), (8.0, 4, None)],
)
def test_more_pairs_are_taken_until_they_tell(quiet_after_s: float, most_times: int, rounds: int | None) -> None:
    bench = Restless(quiet_after_s)
    watches = [bench.warm_engine("A", FAST_S), bench.warm_engine("B", SLOW_S)]
    first, second = timing.take_samples(watches, 3.0, 100, most_times=most_times)
    assert len(first["blocks"]) == len(second["blocks"])
    known = timing.ratios_known([watch.medians for watch in watches])
    if rounds is None:
        assert 10 < len(first["blocks"]) < 40
        assert known
    else:
        assert len(first["blocks"]) == rounds
        assert known == (quiet_after_s == 0)


def test_what_pairs_say_does_not_end_a_measurement() -> None:
    """An engine that is clearly slower is measured as long as an equal one whose pairs differ as much."""
    rounds = []
    for slower in (1.0, 8.0):
        bench = Restless(1e9)
        watches = [bench.warm_engine("A", FAST_S), bench.warm_engine("B", slower * FAST_S)]
        rounds.append(len(timing.take_samples(watches, 3.0, 100, most_times=3)[0]["blocks"]))
    assert rounds == [30, 30]


def test_medians_are_those_of_the_blocks() -> None:
    engine = Engine(1.0, 2.0, 4.0, 3.0, 8.0, 16.0)
    watch = timing.Stopwatch(engine.run, engine.clock)
    watch.take_block(0.0, 3)
    watch.take_block(0.0, 2)
    assert watch.medians == [2.0, 5.5]


def test_the_collector_rests_while_engines_take_turns() -> None:
    seen = set()
    watches = [timing.Stopwatch(lambda: seen.add(gc.isenabled())) for _ in range(2)]
    for watch in watches:
        watch.warm_up(0.0)
    timing.take_samples(watches, 0.001, 1)
    assert seen == {True, False}  # warm-up, samples
    assert gc.isenabled()


class Stream:
    """An engine in a constant stream, on a clock that moves while it sleeps, runs, or is looked at."""

    def __init__(self, *durations_s: float) -> None:
        self.durations_s = list(durations_s)
        self.now = 64.0

    def run(self) -> None:
        self.now += self.durations_s.pop(0)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def clock(self) -> float:
        self.now += 1e-6  # which ends the wait for a picture that is due
        return self.now


def test_pictures_of_a_stream_come_once_per_period() -> None:
    """The second picture takes two and a half periods; the two after it wait, and are late for that."""
    stream = Stream(0.25, 0.5, 2.5, 0.25, 0.25, 0.25)
    watch = timing.Stopwatch(stream.run, stream.clock, stream.sleep)
    watch.warm_up(0.0)
    (result,) = timing.take_samples([watch], 4.5, 3, 1.0)
    assert result["samples_ms"] == pytest.approx([500.0, 2500.0, 1750.0, 1000.0, 250.0], rel=0, abs=0.1)
    assert result["start_offsets_s"] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert result["blocks"] == [5]
    assert result["duration_s"] == pytest.approx(4.25, rel=0, abs=1e-4)


def test_blocks_of_a_program_become_one_run() -> None:
    now = [100.0]
    blocks = timing.Blocks(lambda: now[0])
    for number in range(2):
        now[0] = 110.0 + 20.0 * number
        blocks.add(
            {
                "samples_ms": [1.0, 2.0],
                "start_offsets_s": [0.0, 0.5],
                "blocks": [2],
                "duration_s": 4.0,
                "warmup_samples": 1,
                "warmup_s": 0.25,
                "reason": str(number),
            }
        )
    assert blocks.first_start == 106.0
    assert blocks.result(100.0) == {
        "samples_ms": [1.0, 2.0, 1.0, 2.0],
        "start_offsets_s": [6.0, 6.5, 26.0, 26.5],
        "blocks": [2, 2],
        "duration_s": 8.0,
        "warmup_samples": 2,
        "warmup_s": 0.5,
        "reason": "1",
    }


def test_shares_add_up() -> None:
    layers = timing.with_shares([{"median_ms": 3.0}, {"median_ms": 1.0}])
    assert [layer["share"] for layer in layers] == [0.75, 0.25]
    assert timing.with_shares([{"median_ms": 0.0}])[0]["share"] == 0.0


@pytest.mark.parametrize("back_at", [1, 5, 12])
@pytest.mark.parametrize("period_s", [None, 0.5])
def test_a_clock_that_goes_backwards_is_said(back_at: int, period_s: float | None) -> None:
    """In the warm-up, or while samples are taken: nothing waits for three days to come again."""
    engine = Engine(*[0.125] * back_at, -3 * 86400.0, 0.125)

    def sleep(seconds: float) -> None:
        assert seconds < 1
        engine.now += seconds + 0.002

    watch = timing.Stopwatch(engine.run, engine.clock, sleep)

    def whole() -> None:
        watch.warm_up(0.5)
        timing.take_samples([watch], 20.0, 40, period_s)

    with pytest.raises(Failed, match="went backwards"):
        whole()
    assert engine.runs <= back_at + 1
