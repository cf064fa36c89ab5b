"""Processes that end together. With real agents: tests/agent_host/test_local.py and test_zipapp.py."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from deploycc.agent import processes

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@pytest.fixture(autouse=True)
def _same_handlers_afterwards() -> object:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("hangups_heard")
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_every_signal_interrupts_once(number: signal.Signals) -> None:
    processes.obey_signals()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    for other in SIGNALS:  # what the first one began is not cut short
        signal.raise_signal(other)


def test_a_signal_that_was_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    processes.obey_signals()
    signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_the_end_of_the_parent_is_seen_by_its_pipe() -> None:
    reader, writer = os.pipe()
    ends: list[str] = []
    os.close(writer)
    processes._watch(reader, os.getppid(), lambda: ends.append("end"))
    assert ends == ["end"]
    os.close(reader)


def test_the_end_of_the_parent_is_seen_by_its_number() -> None:
    """Where somebody else holds the other end of the pipe."""
    reader, writer = os.pipe()
    ends: list[str] = []
    processes._watch(reader, os.getppid() + 1, lambda: ends.append("end"))
    assert ends == ["end"]
    os.close(reader)
    os.close(writer)


def test_what_a_job_left_running_is_ended() -> None:
    reader, writer = os.pipe()
    script = (
        f"import os; os.fork() and os._exit(3); os.write({writer}, b'%d' % os.getpid()); import time; time.sleep(60)"
    )
    child = processes.Child([sys.executable, "-IS", "-c", script], True, pass_fds=[writer])
    os.close(writer)
    left = int(os.read(reader, 20))
    assert child.wait() == 3
    os.close(reader)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{left}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                break
        except FileNotFoundError:
            break
        time.sleep(0.01)
    else:
        pytest.fail("it still runs")
