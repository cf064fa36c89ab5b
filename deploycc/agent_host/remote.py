"""A board as a place to build and measure: what is needed goes there, a job works on it, and its results come back.

The job outlives the connection. Where that breaks, it is made again and the job is followed from where it was; where
this process is interrupted, `deploycc device attach` does the same later.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from deploycc.agent_host.board import Board, StoredFile
from deploycc.agent_host.devices import Device
from deploycc.agent_host.session import MAX_PERFORMANCE, AgentStopped, Progress, Scenario
from deploycc.agent_host.ssh import LinkLost, Unreachable
from deploycc.agent_host.temporary import temporary_folder
from deploycc.documents.build import BuildResult
from deploycc.documents.contract import files_for_agent
from deploycc.documents.document import read_document
from deploycc.documents.plan import BuildPlan, read_plan
from deploycc.errors import ArtefactError, BuildError, Detached, DeviceError, InputError, MeasureError
from deploycc.files import replacing
from deploycc.progress import Say, quiet

T = TypeVar("T")

_KEPT_LINES = 12
_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0)  # between attempts to connect again: about a reboot's length


@dataclass(frozen=True)
class Step:
    """An agent command (``build``, ``bench``, ``detect``): of one precision, with a user's file, in a scenario.

    Attributes:
        max_performance: measure in the fastest power mode; what was before it is back afterwards.
        rounds: how often a program is started for each engine, which is then timed only; None: as `bench` does.
        engines: bring the engines back, also those of several plans.
    """

    command: str
    only: str | None = None
    input_file: Path | None = None
    scenario: Scenario | None = None
    max_performance: bool = False
    rounds: int | None = None
    engines: bool = False

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Step:
        """Read the arguments of `deploycc.agent_host.session.Session.run_agent`."""
        command, *options = (argument for argument in arguments if argument != MAX_PERFORMANCE)
        given = dict(zip(options[::2], options[1::2], strict=True))
        file, name = given.get("--input"), given.get("--scenario")
        period_ms, seconds = (
            None if text is None else float(text) for text in (given.get("--period-ms"), given.get("--seconds"))
        )
        scenario = None if name is None else Scenario(name, period_ms, seconds)
        return cls(
            command, given.get("--only"), None if file is None else Path(file), scenario, MAX_PERFORMANCE in arguments
        )


@dataclass(eq=False)
class RemoteSession:
    """Runs the agent on a device. Use `on_device` or `attached`.

    Attributes:
        device: where.
        folders: the output folders that results go to, for whoever attaches later.
        steps: what is to be done in one job, as far as it is known beforehand.
        say: progress of transfers.
    """

    device: Device
    folders: tuple[Path, ...]
    steps: tuple[Step, ...]
    say: Say = quiet
    _board: Board | None = None
    _job: str | None = None
    _offset: int = 0
    _fetched: int = 0
    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES))
    _interrupted: threading.Event = field(default_factory=threading.Event)

    @property
    def folder(self) -> Path:
        """The first of the output folders."""
        return self.folders[0]

    def run_agent(self, plans: Sequence[Path], arguments: list[str], on_progress: Progress) -> bytes:
        """See `deploycc.agent_host.session.Session.run_agent`; engines come back beside the plan.

        Raises:
            DeviceError: the device cannot be used, or the job did not come to an end.
            Detached: interrupted while the job goes on.
        """
        if self._job is None:
            self.start(plans, Step.of(arguments))
        try:
            facts = self._again(lambda board: self._follow(board, on_progress))
            if len(facts["results"]) <= self._fetched:
                raise self._without_result(facts)
            result = facts["results"][self._fetched]
            if result["sha256"] is None:
                self._fetched += 1
                raise AgentStopped(result["code"], tuple(self._lines))
            written = self._again(lambda board: self._fetch(board, plans, result))
        except KeyboardInterrupt:
            raise Detached(
                "device-detached",
                f"the work goes on on {self.device.name}",
                context={"folder": self.folder},
                hint=f"`deploycc device attach {self.device.name}` follows it and brings its results back; "
                f"`deploycc device cancel {self.device.name}` ends it",
            ) from None
        self._fetched += 1
        return written

    def start(self, plans: Sequence[Path], step: Step) -> None:
        """Send what is needed and start the job; see `run_agent`."""
        if step not in self.steps:
            self.steps = (step,)
        self.say(f"connecting to {self.device.name}")
        commands = {each.command for each in self.steps}
        files = {
            f"{number}/{name}" if len(plans) > 1 else name: file
            for number, plan in enumerate(plans)
            for name, file in _needed(plan, commands).items()
        }
        inputs = {each.input_file: _input(each.input_file) for each in self.steps if each.input_file is not None}
        sizes = sum(file.size for file in files.values())
        more = sizes if any(each.command == "build" for each in self.steps) else 0  # an engine is about as large
        job = {
            "id": secrets.token_hex(8),
            "owner": _me()[0],
            "host": _me()[1],
            "folders": [str(folder.resolve()) for folder in self.folders],
            "steps": [
                {
                    "command": each.command,
                    "only": each.only,
                    "input": inputs[each.input_file].sha256 if each.input_file is not None else None,
                    "scenario": None if each.scenario is None else asdict(each.scenario),
                    "max_performance": each.max_performance,
                    "rounds": each.rounds,
                    "engines": each.engines,
                }
                for each in self.steps
            ],
            "files": [{"name": name, "sha256": file.sha256} for name, file in files.items()],
            "program": self.device.trtexec,
            "lock": self.device.lock,
        }
        self._again(lambda board: board.push([*files.values(), *inputs.values()], more, self.say))
        self._again(lambda board: board.ask({"ask": "start", "job": job}))
        self._job = str(job["id"])

    def finish(self) -> None:
        """Forget the job on the device: its results are in the folder."""
        if self._job is not None:
            try:
                self._again(lambda board: board.ask({"ask": "forget", "job": self._job}))
            except DeviceError as error:
                self.say(f"job {self._job} stays on the device, `deploycc device clean` removes it: {error}")
            self._job = None

    def abandon(self) -> None:
        """End the job, if it still works, and forget it: nobody wants what is left of it."""
        if self._job is not None:
            with contextlib.suppress(DeviceError):
                self._again(lambda board: board.ask({"ask": "cancel", "job": self._job}))
            self.finish()
        self.close()

    def interrupt(self) -> None:
        """Let the thread that works with this session leave it, as Ctrl-C does in the main thread; the job goes on."""
        self._interrupted.set()
        board = self._board
        if board is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(board.ssh_pid, signal.SIGTERM)  # whoever waits for an answer is told that the link is lost

    def close(self) -> None:
        """End the connection; a job goes on."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def _again(self, what: Callable[[Board], T]) -> T:
        """Do something with the board; where the link is lost, connect and do it again."""
        attempts = iter(_PAUSES_S if self._job is not None or self._board is not None else _PAUSES_S[:2])
        while True:
            if self._interrupted.is_set():
                raise KeyboardInterrupt
            try:
                if self._board is None:
                    self._board = Board(self.device)
                return what(self._board)
            except (LinkLost, Unreachable) as error:
                reached = isinstance(error, LinkLost) or self._job is not None
                self.close()
                pause = next(attempts, None) if reached else None
                if pause is None:
                    raise self._given_up(error) from error
                self.say(f"the link to {self.device.name} is lost; connecting again")
                self._interrupted.wait(pause)
            except DeviceError as error:
                if self._board is None and self._job is not None:  # it could be reached before
                    raise self._given_up(error) from error
                raise

    def _given_up(self, error: Exception) -> DeviceError:
        if isinstance(error, DeviceError) and self._job is None:
            return error
        goes_on = self._job is not None
        return DeviceError(
            "device-link-lost",
            f"the link to {self.device.name} is lost" + ("; the work goes on there" if goes_on else ""),
            context={"folder": self.folder},
            note=(error.note if isinstance(error, DeviceError) else str(error)) or None,
            hint=f"`deploycc device attach {self.device.name}` brings the results back later" if goes_on else None,
        )

    def _follow(self, board: Board, on_progress: Progress) -> dict[str, Any]:
        question = {"ask": "follow", "job": self._job, "offset": self._offset, "results": self._fetched + 1}
        answer = board.ask(question)
        while "lines" in answer:
            self._offset = answer["offset"]
            for line in answer["lines"]:
                self._lines.append(line)
                on_progress(line)
            answer = board.answer()
        job: dict[str, Any] = answer["job"]
        return job

    def _without_result(self, facts: dict[str, Any]) -> Exception:
        said = " | ".join(self._lines) or None
        where = {"device": self.device.name, "folder": self.folder}
        reason = facts["reason"]
        self.finish()
        if reason == "cancelled":
            return DeviceError("device-cancelled", "the work on the device was cancelled", context=where)
        if reason == "lost":
            return DeviceError(
                "device-job-lost",
                "the work on the device ended without a word",
                context=where,
                note=said,
                hint="the board was started anew, or the process was killed: run the command again",
            )
        return DeviceError(
            "device-job-failed", "the work on the device did not come to an end", context=where, note=said
        )

    def _fetch(self, board: Board, plans: Sequence[Path], result: dict[str, Any]) -> bytes:
        places = {
            f"{number}/{name}" if len(plans) > 1 else name: plan.parent / name
            for number, plan in enumerate(plans if result["engines"] else ())
            for engine in read_plan(plan).engines
            for name in engine.files
        }
        with temporary_folder() as folder:
            written = folder / "result.json"
            board.fetch(result["sha256"], written)
            for number, engine in enumerate(result["engines"]):
                arriving = folder / f"engine-{number}"  # what is there already counts as its beginning
                board.fetch(engine["sha256"], arriving, self.say)
                if engine["name"] not in places:
                    raise DeviceError(
                        "device-job-failed",
                        "the work on the device did not come to an end",
                        context={"device": self.device.name, "file": engine["name"]},
                        note="the device brings an engine that no plan names",
                    )
                with replacing(places[engine["name"]]) as partial:
                    partial.write_bytes(arriving.read_bytes())
            return written.read_bytes()


@contextmanager
def on_device(
    device: Device,
    folder: Path | Sequence[Path],
    steps: Sequence[Step],
    say: Say = quiet,
    job: str | None = None,
) -> Iterator[RemoteSession]:
    """Yield a session on a device; its job is forgotten there where the block ends well.

    Args:
        device: where.
        folder: the output folder; several where engines are measured in turns.
        steps: what the block does, in this order.
        say: progress.
        job: one that is on the device already, which does these steps; None: start one.
    """
    folders = (folder,) if isinstance(folder, Path) else tuple(folder)
    session = RemoteSession(device, folders, tuple(steps), say, _job=job)
    try:
        try:
            yield session
        except (BuildError, MeasureError):  # which are in the folder too
            session.finish()
            raise
        session.finish()
    finally:
        session.close()


def is_mine(job: Mapping[str, Any]) -> bool:
    """Return whether a job on a board is of this user on this machine."""
    return (job["owner"], job["host"]) == _me()


def _me() -> tuple[str, str]:
    return getpass.getuser(), socket.gethostname()


def _input(path: Path) -> StoredFile:
    if not path.is_file():
        raise InputError("input-missing", "there is no such picture tensor", context={"file": path})
    return StoredFile.of(path)


def _needed(plan: Path, commands: set[str]) -> dict[str, StoredFile]:
    """Return the files beside a plan that the agent reads, by name."""
    folder = plan.parent
    planned = read_plan(plan)
    names = [BuildPlan.FILE_NAME]
    if "build" in commands:
        names += [name for each in planned.networks for name in each.files]
    elif (folder / BuildResult.FILE_NAME).exists():
        names += [BuildResult.FILE_NAME]
        engines = read_document(folder, BuildResult).engines
        names += [name for each in engines if each.status == "built" for name in each.files]
    if commands & {"build", "detect"} or planned.has_row:
        names += files_for_agent(folder)
    files = {}
    for name in dict.fromkeys(names):
        path = folder / name
        if not path.is_file():
            if name in {file for each in planned.engines for file in each.files}:
                continue  # the agent says which engine is missing
            raise ArtefactError(
                "plan-file-missing",
                f"the plan names {name}, which is not there",
                context={"folder": folder},
                hint="compile again",
            )
        files[name] = StoredFile.of(path)
    return files
