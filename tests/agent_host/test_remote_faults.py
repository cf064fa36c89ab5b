"""What goes wrong between here and a board: each time the right result later, or a failure that says what happened.

The job waits for the board's lock, which the test holds, so that everything happens at a known moment.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_trtexec
import pytest
import ssh_server
from small_networks import conv_model, plan_folder

from deploycc import target
from deploycc.agent import device_lock
from deploycc.agent_host import local, remote
from deploycc.agent_host.board import Board, StoredFile
from deploycc.agent_host.devices import Device
from deploycc.agent_host.remote import Step, on_device
from deploycc.agent_host.ssh import LinkLost
from deploycc.documents.build import BuildResult
from deploycc.errors import Detached, DeviceError
from deploycc.files import sha256_of
from deploycc.workflows.devices import choose_device

BUILD = (Step("build"),)


class Lock:
    """The board's lock, held by somebody else."""

    def __init__(self, device: Device) -> None:
        assert device.lock is not None
        self._handle = device_lock.take(device.lock, {"owner": "somebody@elsewhere"}, lambda holder: None)

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
        self._handle = None


@pytest.fixture
def lock(device: Device) -> Iterator[Lock]:
    held = Lock(device)
    yield held
    held.release()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan for another architecture: the agent answers at once that this machine cannot build it."""
    monkeypatch.setattr(remote, "_PAUSES_S", (0.0, 0.1, 0.1))
    (tmp_path / "out").mkdir()
    elsewhere = target.load("x86-cpu").model_copy(update={"architecture": "another"})
    plan_folder(tmp_path / "out", elsewhere, {"fp32": conv_model()})
    return tmp_path / "out"


def job_of(device: Device) -> Path:
    [job] = Path(device.store, "jobs").iterdir()
    return job


def pid_of(job: Path) -> int:
    return int(json.loads((job / "state.json").read_text())["pid"])


def build(device: Device, folder: Path, when_waiting: Callable[[], None], job: str | None = None) -> BuildResult:
    """Build on a device; when the job waits for the lock, something happens once."""
    happened: list[str] = []

    def on_progress(line: str) -> None:
        if line.startswith("waiting") and not happened:
            happened.append(line)
            when_waiting()

    with on_device(device, folder, BUILD, job=job) as session:
        result = local.build(folder, on_progress, session)
    assert "somebody@elsewhere" in happened[0]
    return result


def check_right(result: BuildResult, device: Device, folder: Path) -> None:
    assert [engine.status for engine in result.engines] == ["not-possible"]
    assert result.plan_sha256 == sha256_of(folder / "plan.json")
    assert list(Path(device.store, "jobs").iterdir()) == []


def test_a_cut_link_and_a_hangup_lose_nothing(
    device: Device, server: ssh_server.Server, folder: Path, lock: Lock
) -> None:
    def cut() -> None:
        os.kill(pid_of(job_of(device)), signal.SIGHUP)
        assert server.cut() == 1
        lock.release()

    check_right(build(device, folder, cut), device, folder)


def test_a_link_that_stays_away_is_said_and_the_job_goes_on(
    device: Device, server: ssh_server.Server, folder: Path, lock: Lock
) -> None:
    keys = server.folder / "authorized_keys"

    def cut() -> None:
        server.cut()
        keys.rename(keys.with_suffix(".away"))

    try:
        with pytest.raises(DeviceError) as caught:
            build(device, folder, cut)
    finally:
        keys.with_suffix(".away").rename(keys)
    assert caught.value.code == "device-link-lost"
    assert "device attach bench 1" in str(caught.value.hint)
    assert pid_of(job_of(device))
    check_right(build(device, folder, lock.release, job_of(device).name), device, folder)


def test_an_interrupt_detaches_and_the_result_comes_later(device: Device, folder: Path, lock: Lock) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(Detached, match="device attach bench 1") as caught:
        build(device, folder, interrupt)
    assert caught.value.exit_code == 130
    assert not (folder / "build.json").exists()
    check_right(build(device, folder, lock.release, job_of(device).name), device, folder)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_job_that_ends_early_is_said_and_forgotten(
    device: Device, folder: Path, lock: Lock, number: signal.Signals
) -> None:
    with pytest.raises(DeviceError) as caught:
        build(device, folder, lambda: os.kill(pid_of(job_of(device)), number))
    assert caught.value.code == {9: "device-job-lost", 15: "device-cancelled"}[number]
    assert list(Path(device.store, "jobs").iterdir()) == []
    assert not (folder / "build.json").exists()


def test_a_pool_gives_a_device_that_nobody_works_on(
    tmp_path: Path, device: Device, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tables = []
    for name, change in {
        "away": {"url": "ssh://127.0.0.1:1"}, "busy": {}, "free": {"lock": str(tmp_path / "other")},
    }.items():  # fmt: skip
        fields = device.model_copy(update={"target": "x86-cpu", **change}).model_dump(exclude={"name", "trtexec"})
        tables += [f"[{name}]", *(f"{key} = {json.dumps(text)}" for key, text in fields.items())]
    Path("devices.toml").write_text("\n".join(tables))
    chosen = choose_device("x86-cpu", "x86-cpu")
    assert chosen is not None
    assert chosen.name == "free"
    with pytest.raises(DeviceError) as caught:
        choose_device("x86-cpu", "x86-rtx")
    assert caught.value.code == "device-other-target"


def test_a_cancelled_job_ends_its_program(tmp_path: Path, device: Device) -> None:
    """A program hangs in the build; it is where devices.toml says, and another command cancels the job."""
    (tmp_path / "bin").mkdir()
    fake_trtexec.write(tmp_path / "bin" / "trtexec", "hang", " [TensorRT v8201]")
    (tmp_path / "out").mkdir()
    tx2 = target.load("jetson-tx2-jp461").model_copy(update={"architecture": platform.machine()})
    plan_folder(tmp_path / "out", tx2, {"fp32": conv_model()})
    board = device.model_copy(update={"trtexec": str(tmp_path / "bin" / "trtexec")})
    said: list[str] = []

    def cancel(line: str) -> None:
        said.append(line)
        if line == "building":
            with Board(device) as other:
                [job] = other.jobs()
                assert job["state"] == "running"
                assert other.holder is not None
                assert other.ask({"ask": "cancel", "job": job["id"]})["job"]["reason"] == "cancelled"

    with pytest.raises(DeviceError) as caught, on_device(board, tmp_path / "out", BUILD) as session:
        local.build(tmp_path / "out", cancel, session)
    assert caught.value.code == "device-cancelled", said
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "bin" / "pid").read_text()), 0)
    assert list(Path(device.store, "jobs").iterdir()) == []
    with Board(device) as after:
        assert after.holder is None


def test_a_cut_transfer_goes_on_where_it_was(tmp_path: Path, device: Device, server: ssh_server.Server) -> None:
    file = tmp_path / "large"
    file.write_bytes(os.urandom(5 << 19))
    stored = StoredFile.of(file)

    def cut(what: str, done: int = 0, total: int = 0) -> None:
        if done >= 1:
            server.cut()
            time.sleep(0.05)

    with Board(device) as board, pytest.raises(LinkLost):
        board.push([stored], say=cut)
    with Board(device) as board:
        assert 0 < board.push([stored]) <= stored.size - (1 << 20)
        assert board.push([stored]) == 0
        board.fetch(stored.sha256, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == file.read_bytes()
        gone = board.ask({"ask": "clean", "all": False})["gone"]
    assert gone == {"files": 1, "bytes": stored.size}


def test_a_damaged_transfer_is_dropped_and_a_full_disk_keeps_what_arrived(tmp_path: Path, device: Device) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    wrong = StoredFile(file, "0" * 64, 3)
    with Board(device) as board:
        with pytest.raises(DeviceError, match="arrived damaged"):
            board.push([wrong])
        assert board.ask({"ask": "missing", "files": [{"sha256": "0" * 64, "size": 3}], "more": 0})["files"] == [
            {"sha256": "0" * 64, "size": 3, "arrived": 0}
        ]
        with pytest.raises(DeviceError, match="not a digest"):
            board.ask({"ask": "get", "sha256": "../../etc/passwd", "offset": 0})
        with pytest.raises(DeviceError, match="not a job"):
            board.ask({"ask": "start", "job": {"id": "../../x"}})
