"""Jobs go to boards of their target that are free, and an interrupted command says what goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploycc.agent_host import devices, remote
from deploycc.agent_host.devices import Device
from deploycc.cli import main
from deploycc.errors import BuildError, DeployError, Detached, DeviceError
from deploycc.workflows import board_jobs, rebuild
from deploycc.workflows import compile as compile_workflow
from deploycc.workflows.board_pool import BoardJob, BoardPool, run_on_boards
from deploycc.workflows.compile_settings import CompileSettings
from deploycc.workflows.devices import choose_device, fitting
from deploycc.workflows.report import Report

TX2, XAVIER = "jetson-tx2-jp461", "jetson-xavier-jp512"
BOARDS = tuple(Device(name=name, url=f"ssh://{name}", target=TX2) for name in ("a", "b", "c"))


def pool(monkeypatch: pytest.MonkeyPatch, holders: dict[str, object]) -> BoardPool:
    """Boards on which somebody works, or that answer with an error."""
    monkeypatch.setattr(BoardPool, "_holder", lambda self, device: holders.get(device.name))
    return BoardPool(BOARDS)


@pytest.mark.parametrize(
    ("holders", "taken"),
    [
        ({}, ["a", "b", "c"]),
        ({"a": {"owner": "other"}}, ["b", "c", "a"]),
        ({"a": DeviceError("x", "away")}, ["b", "c"]),
        ({name: {"owner": "other"} for name in "abc"}, ["a", "b", "c"]),
    ],
    ids=["free", "another host's", "away", "all another host's"],
)
def test_the_freest_board_comes_first(
    monkeypatch: pytest.MonkeyPatch, holders: dict[str, object], taken: list[str]
) -> None:
    boards = pool(monkeypatch, holders)
    assert [boards._taken(TX2).name for _ in taken] == taken


def test_a_job_waits_for_a_board_that_this_process_works_on(monkeypatch: pytest.MonkeyPatch) -> None:
    boards = pool(monkeypatch, {"b": DeviceError("x", "away"), "c": DeviceError("x", "away")})
    with ThreadPoolExecutor(1) as executor:
        with boards.board(TX2) as device:
            waiting = executor.submit(boards._taken, TX2)
            assert not waiting.done()
        assert waiting.result(10).name == device.name == "a"


def test_boards_of_which_none_can_be_reached_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    boards = pool(monkeypatch, {name: DeviceError("x", f"{name} is away") for name in "abc"})
    with pytest.raises(DeviceError, match="a is away"), boards.board(TX2):
        pass


@pytest.fixture
def rack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boards of two targets in devices.toml, all of them free."""
    monkeypatch.chdir(tmp_path)
    rows = [f'{name} = {{ url = "ssh://{name}", target = "{TX2 if name < "x" else XAVIER}" }}' for name in "abx"]
    Path("devices.toml").write_text("\n".join(rows))
    monkeypatch.setattr(BoardPool, "_holder", lambda self, device: None)


class Session:
    """What a job sees of a board."""

    def __init__(self, device: Device, folder: Path) -> None:
        self.device, self.folder, self.left = device, folder, threading.Event()

    def interrupt(self) -> None:
        self.left.set()


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    made: list[Session] = []

    @contextmanager
    def on_device(device: Device, folders: Any, *_: Any) -> Iterator[Session]:
        made.append(Session(device, folders[0]))
        yield made[-1]

    monkeypatch.setattr(remote, "on_device", on_device)
    return made


def job(name: str, work: Any, target: str = TX2) -> BoardJob[Any]:
    return BoardJob(target, (Path(name),), (), work)


@pytest.mark.usefixtures("rack")
def test_two_boards_work_at_once_and_each_outcome_is_in_its_place(sessions: list[Session]) -> None:
    both = threading.Barrier(2, timeout=20)

    def meet(session: Any, say: Any) -> str:
        both.wait()  # nobody passes alone
        if session.folder.name == "second":
            raise BuildError("x", "refused")
        return f"{session.folder.name} on {session.device.name}"

    first, second, other = run_on_boards(
        "a,b,x", [job("first", meet), job("second", meet), job("third", lambda *_: "done", XAVIER)], print
    )
    assert (first[:9], str(second), other) == ("first on ", "error[x]: refused", "done")
    assert {session.device.name for session in sessions} == {"a", "b", "x"}


@pytest.mark.usefixtures("rack")
def test_an_interrupt_leaves_every_board_and_says_so(sessions: list[Session]) -> None:
    both = threading.Barrier(2, timeout=20)

    def wait(session: Any, say: Any) -> None:
        both.wait()
        if session.folder.name == "first":
            raise KeyboardInterrupt  # as the main thread gets it, which waits for this job
        assert session.left.wait(20)
        raise Detached("device-detached", f"the work goes on on {session.device.name}", context={"folder": "f"})

    with pytest.raises(Detached, match=r"the work goes on on [ab]"):
        run_on_boards("a,b", [job("first", wait), job("second", wait)], print)
    assert len(sessions) == 2


@pytest.mark.usefixtures("rack")
def test_names_with_commas_are_a_pool() -> None:
    assert [device.name for device in devices.find("x, a,a")] == ["x", "a"]
    assert [device.name for device in fitting(devices.find("a,b,x"), XAVIER)] == ["x"]
    assert choose_device("b,x", TX2) == devices.find("b")[0]
    for name, code in (("a,local", "device-pool-local"), ("a,y", "device-unknown")):
        with pytest.raises(DeviceError) as caught:
            devices.find(name)
        assert caught.value.code == code
    with pytest.raises(DeviceError) as caught:
        run_on_boards("a,b", [job("f", None, XAVIER)], print)
    assert caught.value.code == "device-other-target"


@pytest.mark.parametrize(("boards", "named"), [("a,b", True), ("a", False)])
@pytest.mark.usefixtures("rack", "sessions")
def test_a_pool_says_which_board_did_what(monkeypatch: pytest.MonkeyPatch, boards: str, named: bool) -> None:
    plan = SimpleNamespace(target=SimpleNamespace(name=TX2))
    monkeypatch.setattr("deploycc.documents.plan.read_plan", lambda folder: plan)
    monkeypatch.setattr(rebuild, "build_folder", lambda folder, *_: folder.name)
    notes: list[str] = []
    assert board_jobs.build_folders([Path("one")], boards, print, notes.append) == ["one"]
    assert notes == (["one: done on a"] if named else [])


@pytest.mark.parametrize(("boards", "named"), [("a,b", "a"), ("a", None)])
@pytest.mark.usefixtures("rack", "sessions")
def test_compiling_on_a_pool_says_which_board_did_what(
    monkeypatch: pytest.MonkeyPatch, boards: str, named: str | None
) -> None:
    written: Any = SimpleNamespace(target=SimpleNamespace(name=TX2))
    report = Report(Path("one"), written, None, ("kept",))
    monkeypatch.setattr("deploycc.workflows.devices.build_and_measure_there", lambda *_: None)
    monkeypatch.setattr("deploycc.workflows.report.read_report", lambda folder: replace(report, kept=()))
    settings = CompileSettings(device=boards)
    [outcome] = compile_workflow._built_on_boards([report], settings, print)
    assert isinstance(outcome, Report)
    assert (outcome.board, outcome.kept) == (named, ("kept",))


def test_folders_that_fail_are_shown_and_summed_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ends: list[object] = [BuildError("first-code", "first message", hint="help"), DeployError("second", "another")]
    monkeypatch.setattr(board_jobs, "build_folders", lambda *_: ends)
    assert main(["build", "one", "two"]) == 1
    said = capsys.readouterr().err
    assert "one failed" in said
    assert "hint: help" in said
    assert "error[folders-failed]: 2 of 2 folders failed" in said
    monkeypatch.setattr(board_jobs, "build_folders", lambda *_: ends[:1])
    assert main(["build", "one"]) == 1
    assert "error[first-code]" in capsys.readouterr().err
