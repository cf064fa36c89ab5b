"""The measuring loop against a clock that the test moves."""

from __future__ import annotations

import gc

import pytest

from deploycc.agent import timing


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


def test_the_warmup_is_not_kept() -> None:
    engine = Engine(0.5, 0.5, 0.5, 0.01)
    result = timing.measure(engine.run, 1.2, 0.035, 2, engine.clock)
    assert result["warmup_samples"] == 3
    assert result["warmup_s"] == pytest.approx(1.5, rel=0, abs=1e-9)
    assert result["samples_ms"] == pytest.approx([10.0] * 4, rel=0, abs=1e-6)
    assert result["start_offsets_s"] == pytest.approx([0.0, 0.01, 0.02, 0.03], rel=0, abs=1e-9)
    assert result["duration_s"] == pytest.approx(0.04, rel=0, abs=1e-9)


def test_one_call_warms_up_even_for_zero_seconds() -> None:
    engine = Engine(5.0, 0.001)
    result = timing.measure(engine.run, 0.0, 0.001, 3, engine.clock)
    assert result["warmup_samples"] == 1
    assert len(result["samples_ms"]) == 3
    assert max(result["samples_ms"]) < 2


@pytest.mark.parametrize(
    ("duration_s", "min_s", "samples", "expected"), [(0.5, 2.0, 1, 4), (0.5, 2.0, 7, 7), (3.0, 2.0, 1, 1)]
)
def test_both_limits_are_reached(duration_s: float, min_s: float, samples: int, expected: int) -> None:
    engine = Engine(duration_s)
    result = timing.measure(engine.run, 0.0, min_s, samples, engine.clock)
    assert len(result["samples_ms"]) == len(result["start_offsets_s"]) == expected
    assert result["duration_s"] >= min_s


def test_the_collector_rests_and_comes_back() -> None:
    engine = Engine(0.01)
    timing.measure(engine.run, 0.0, 0.05, 1, engine.clock)
    assert engine.collecting == {True, False}  # warm-up, samples
    assert gc.isenabled()


def test_the_collector_comes_back_after_an_exception() -> None:
    def run() -> None:
        if not gc.isenabled():
            raise RuntimeError("while timing")

    with pytest.raises(RuntimeError, match="while timing"):
        timing.measure(run, 0.0, 1.0, 1)
    assert gc.isenabled()


def test_shares_add_up() -> None:
    layers = timing.with_shares([{"median_ms": 3.0}, {"median_ms": 1.0}])
    assert [layer["share"] for layer in layers] == [0.75, 0.25]
    assert timing.with_shares([{"median_ms": 0.0}])[0]["share"] == 0.0
