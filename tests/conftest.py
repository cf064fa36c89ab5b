"""Fixtures every test may use."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from examples import CAMPAIGN
from hypothesis import settings
from real_models import ASSETS, missing

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of PyTorch: there is a test process on every core already

# How long one example takes on a shared machine says nothing. The ordinary tests try the same examples every time, so
# that a change is judged by what it changed; HYPOTHESIS_PROFILE=campaign looks for new ones.
settings.register_profile("ordinary", deadline=None, print_blob=True, derandomize=True)
settings.register_profile("campaign", deadline=None, print_blob=True, max_examples=CAMPAIGN)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ordinary"))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while the tests are imported, nor later among what they imported: nearly all of it stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


class FromTheEnd(pytest.Dir):
    """A folder whose tests are imported in reverse order."""

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Return what is in the folder, the last first."""
        return reversed(list(super().collect()))


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Dir | None:
    """Let every second worker begin at the end: in a fresh checkout, each then rewrites and compiles half of the files."""
    number = worker_number(parent.config)
    return FromTheEnd.from_parent(parent, path=path) if number is not None and number % 2 else None


def worker_number(config: pytest.Config) -> int | None:
    """Return which worker of pytest-xdist this is; None without workers."""
    given = getattr(config, "workerinput", None)
    return None if given is None else int(given["workerid"].removeprefix("gw"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the longest tests first: at the end, one of them would keep one core busy while the others wait."""
    if worker_number(config) is not None:
        items.sort(key=lambda item: item.path)  # the same order in all of them
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True, scope="session")
def no_waiting_for_the_disk() -> None:
    """No power cut is survived here, and each wait for the disk takes up to 20 ms."""
    os.fsync = lambda handle: None  # type: ignore[assignment]


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> None:
    """A shell that starts the tests in the background has interrupts ignored, and programs inherit that."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture
def hangups_heard() -> Iterator[None]:
    """Under nohup hangups are ignored, also by the programs that a test starts."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """An agent that runs inside a test takes over the signals of the process, as a program does."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real models and pictures; tests that need it are skipped without it."""
    if reason := missing(ASSETS):
        pytest.skip(reason)
    return ASSETS
