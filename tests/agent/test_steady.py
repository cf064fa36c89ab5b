"""Limits and waits on a board whose clock goes backwards."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from deploycc.agent import processes, steady


def test_a_clock_that_goes_backwards_stays_where_it_is() -> None:
    readings = iter([100.0, 101.0, 50.0, 52.0, -1e6, -1e6 + 0.5])
    clock = steady.SteadyClock(lambda: next(readings))
    assert [clock() for _ in range(5)] == [101.0, 101.0, 103.0, 103.0, 103.5]


def test_rounding_makes_no_time_negative() -> None:
    """A build that the clock went back in took no time, and not -3e-11 seconds."""
    random = np.random.default_rng(0)
    readings = random.uniform(1e3, 1e6, 1000).tolist()
    clock = steady.SteadyClock(iter([readings[0], *(r - 259200 * (n % 2) for n, r in enumerate(readings))]).__next__)
    told = [clock() for _ in readings]
    assert told == sorted(told)


def test_a_thread_that_is_held_up_does_not_seem_to_read_an_earlier_time() -> None:
    readings, held = iter([0.0, 1.0, 2.0, 3.0]), threading.Event()

    def source() -> float:
        now = next(readings)
        if now == 1.0:
            held.set()
            time.sleep(0.1)
        return now

    clock = steady.SteadyClock(source)
    late = threading.Thread(target=clock)
    late.start()
    held.wait()
    clock()
    late.join()
    assert clock() == 3.0


def test_a_limit_ends_although_the_clock_goes_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds were asked for; without the steady clock it would wait until three days have come again."""
    now = [0.0]

    def source() -> float:
        now[0] += 1.0 if now[0] != 1.0 else -3 * 86400.0
        return now[0]

    monkeypatch.setattr(steady, "now", steady.SteadyClock(source))
    monkeypatch.setattr(processes.select, "select", lambda *_: ([], [], []))
    child = processes.Child(["sleep", "9"], True)
    read, write = os.pipe()
    try:
        assert child.read(read, 2.0) is None
    finally:
        child.end()
        os.close(read)
        os.close(write)
    assert now[0] < -2 * 86400.0


def test_a_block_of_a_program_is_not_placed_before_the_one_before_it() -> None:
    from deploycc.agent import timing
    from deploycc.agent.outcome import Failed

    readings = iter([0.0, 2.0, -7.0])
    blocks = timing.Blocks(lambda: next(readings))
    blocks.add({"duration_s": 1.0})
    with pytest.raises(Failed, match="went backwards"):
        blocks.add({"duration_s": 1.0})
