"""Jobs on several boards at once: each goes to a board that nobody works on.

The work is on the boards, so threads are enough here. Which board is free is asked when a job is given out; where
another host takes the same board meanwhile, the board's own lock lets one of the jobs wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from deploycc.errors import DeployError, Detached, DeviceError
from deploycc.progress import Say, prefixed

if TYPE_CHECKING:
    from deploycc.agent_host.devices import Device
    from deploycc.agent_host.remote import RemoteSession, Step

T = TypeVar("T")


@dataclass(frozen=True)
class BoardJob(Generic[T]):
    """One job, on one board.

    Attributes:
        target: what the board must be.
        folders: output folders that its results go to.
        steps: what it does, in this order.
        work: does it.
    """

    target: str
    folders: tuple[Path, ...]
    steps: tuple[Step, ...]
    work: Callable[[RemoteSession, Say], T]


class BoardPool:
    """Boards that several threads of this process work on, one thread per board."""

    def __init__(self, devices: Sequence[Device]) -> None:
        """Start with all of them free.

        Args:
            devices: of one target or of several.
        """
        self.devices = tuple(devices)
        self._busy: set[str] = set()
        self._unreachable: dict[str, Exception] = {}
        self._changed = threading.Condition()

    @contextmanager
    def board(self, target: str) -> Iterator[Device]:
        """Yield a board that no other thread has; first of all one that no other host works on either.

        Args:
            target: what it must be.

        Raises:
            DeviceError: no board of this target can be reached; the reason is that of the first.
        """
        device = self._taken(target)
        try:
            yield device
        finally:
            self._give_back(device)

    def _taken(self, target: str) -> Device:
        from deploycc.workflows.devices import fitting

        held: list[Device] = []
        try:
            while True:
                device = self._next(target, held)
                if device is None:  # others work on all of them: the first one's lock lets this job wait
                    return held.pop(0)
                if len(fitting(self.devices, target)) == 1:  # nothing to choose
                    return device
                holder = self._holder(device)
                if holder is None:
                    return device
                if isinstance(holder, Exception):
                    self._unreachable[device.name] = holder
                    self._give_back(device)
                else:
                    held.append(device)
        finally:
            for device in held:
                self._give_back(device)

    def _next(self, target: str, held: Sequence[Device]) -> Device | None:
        """Reserve a board; None where only those are left that other hosts work on, which are held."""
        from deploycc.workflows.devices import fitting

        with self._changed:
            while True:
                known = fitting(self.devices, target)
                reachable = [device for device in known if device.name not in self._unreachable]
                if not reachable:
                    raise self._unreachable[known[0].name]
                free = [device for device in reachable if device.name not in self._busy]
                if free:
                    self._busy.add(free[0].name)
                    return free[0]
                if held:
                    return None
                self._changed.wait()

    def _give_back(self, device: Device) -> None:
        with self._changed:
            self._busy.discard(device.name)
            self._changed.notify_all()

    def _holder(self, device: Device) -> object:
        """Return who works on a board; None: nobody; an exception: it cannot be reached."""
        from deploycc.agent_host.board import Board
        from deploycc.agent_host.ssh import LinkLost

        try:
            with Board(device) as board:
                return board.holder
        except LinkLost as lost:
            return DeviceError("device-link-lost", f"the link to {device.name} is lost", note=lost.said or None)
        except DeviceError as error:
            return error


def run_on_boards(name: str, jobs: Sequence[BoardJob[T]], say: Say) -> list[T | DeployError]:
    """Run jobs on boards, as many at once as there are boards.

    Args:
        name: of the boards, as `deploycc.agent_host.devices.find` takes it; not this machine.
        jobs: each finds a board of its target among them.
        say: progress.

    Returns:
        For each job what it gives, or why it failed.

    Raises:
        DeviceError: there is no such device, or none of a job's target.
        Detached: interrupted; the jobs that were given out go on.
    """
    from deploycc.agent_host.devices import find
    from deploycc.workflows.devices import fitting

    devices = find(name)
    for job in jobs:
        fitting(devices, job.target)
    pool = BoardPool(devices)
    sessions: list[RemoteSession] = []
    interrupted = threading.Event()

    def run(job: BoardJob[T]) -> T:
        from deploycc.agent_host.remote import on_device

        with pool.board(job.target) as device:
            if interrupted.is_set():
                raise KeyboardInterrupt
            named = prefixed(say, f"{device.name}: {job.folders[0].name}")
            with on_device(device, job.folders, job.steps, named) as session:
                sessions.append(session)
                if interrupted.is_set():
                    session.interrupt()
                return job.work(session, named)

    with ThreadPoolExecutor(len(devices), "board") as executor:
        futures = [executor.submit(run, job) for job in jobs]
        try:
            outcomes: list[T | DeployError] = []
            for future in futures:
                try:
                    outcomes.append(future.result())
                except DeployError as error:
                    outcomes.append(error)
            return outcomes
        except BaseException:  # Ctrl-C, or a fault: nothing more is given out
            interrupted.set()
            for future in futures:
                future.cancel()
            for session in sessions:
                session.interrupt()
            if detached := _detached(futures):
                raise detached from None
            raise


def _detached(futures: Sequence[Future[T]]) -> Detached | None:
    """Wait until every thread has left its job; return what is to be said of those that go on."""
    going = []
    for future in futures:
        if not future.cancelled():
            with suppress(BaseException):
                future.result()
            if isinstance(error := future.exception(), Detached):
                going.append(error)
    if len(going) < 2:
        return going[0] if going else None
    return Detached(
        "device-detached",
        "; ".join(error.message for error in going),
        context={"folders": ", ".join(error.context["folder"] for error in going)},
        hint=" ".join(error.hint for error in going if error.hint is not None),
    )
