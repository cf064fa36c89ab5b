"""Faults of a device, one after the other: each is attempted, and afterwards nothing may be left on the device."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import ssh_server
from small_networks import conv_model, plan_folder

from deploycc import target
from deploycc.agent_host import local
from deploycc.agent_host.board import Board
from deploycc.agent_host.devices import Device
from deploycc.agent_host.remote import Step, on_device
from deploycc.documents.build import read_build_result
from deploycc.errors import DeployError
from deploycc.files import sha256_of

BOTH = (Step("build"), Step("bench"))


class Campaign:
    """Counts what held and what did not."""

    def __init__(self, folder: Path, server: ssh_server.Server, say: Callable[[str], None]) -> None:
        self.say = say
        self.folder, self.server, self.number, self.failures = folder, server, 0, list[str]()
        store = folder / "store"
        self.device = Device(
            name="here",
            url=server.url,
            target="x86-cpu",
            python=sys.executable,
            store=str(store),
            lock=str(folder / "lock"),
        )

    def planned(self) -> Path:
        """Return a new output folder with a plan."""
        self.number += 1
        folder = self.folder / f"out {self.number}"
        folder.mkdir()
        plan_folder(folder, target.load("x86-cpu"), {"fp32": conv_model()})
        return folder

    def work(self, folder: Path, job: str | None = None, device: Device | None = None) -> None:
        """Build and measure, and check what came of it."""
        with on_device(device or self.device, folder, BOTH, job=job) as session:
            local.build(folder, session=session)
            report = local.bench(folder, session=session)
        [engine], [run] = read_build_result(folder).engines, report.runs
        assert engine.status == "built"
        assert engine.sha256 == sha256_of(folder / engine.file)
        assert run.status == "measured"
        assert run.engine is not None
        assert run.engine.sha256 == engine.sha256

    def check_clean(self) -> None:
        """No job and no process of one is left, and nobody holds the lock."""
        with Board(self.device) as board:
            assert board.jobs() == [], board.jobs()
            assert board.holder is None
        assert not [pid for pid, words in processes() if "run-job" in words and self.device.store in " ".join(words)]

    def jobs(self) -> list[str]:
        """Numbers of the jobs on the device."""
        with Board(self.device) as board:
            return [job["id"] for job in board.jobs()]

    def attempt(self, what: str, do: Callable[[], None]) -> None:
        """Do something, and report it."""
        start = time.perf_counter()
        try:
            do()
            self.check_clean()
        except (AssertionError, DeployError, OSError) as error:
            self.failures.append(what)
            self.say(f"FAILED  {what}: {type(error).__name__}: {error}")
        else:
            self.say(f"held    {what} ({time.perf_counter() - start:.1f} s)")


def processes() -> list[tuple[int, list[str]]]:
    """Number and words of every process."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            found.append((int(path.name), (path / "cmdline").read_bytes().decode(errors="replace").split("\0")))
        except OSError:
            continue
    return found


def after(delay_s: float, do: Callable[[], object]) -> threading.Timer:
    """Do something a little later, in a thread."""
    timer = threading.Timer(delay_s, do)
    timer.start()
    return timer
