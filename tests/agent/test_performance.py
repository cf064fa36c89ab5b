"""The fastest power mode, and what was before it afterwards: however the agent ends, on a simulated Jetson."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from simulated_board import board as simulated
from simulated_board.board import Board
from small_networks import conv_model, plan_folder

from deploycc import target
from deploycc.agent_host.zipapp import write_agent

GPU = "sys/class/devfreq/17000000.gpu"


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """An Orin NX in its mode of 25 W, with a built engine."""
    made = simulated.make(tmp_path / "board", "jetson-orin-jp62", times=9.0)
    write_agent(tmp_path / "agent.pyz")
    (tmp_path / "out").mkdir()
    plan_folder(tmp_path / "out", target.load("jetson-orin-jp62"), {"fp32": conv_model()})
    assert agent(made, "build").wait() == 0
    return made


def agent(board: Board, command: str, *options: str) -> subprocess.Popen[bytes]:
    folder = board.folder.parent
    arguments = [board.python, str(folder / "agent.pyz"), command, str(folder / "out" / "plan.json"), *options]
    with (folder / "said").open("wb") as said:
        return subprocess.Popen(arguments, stderr=said)


def state(board: Board) -> list[str]:
    """Power mode and clocks."""
    files = ["var/lib/nvpmodel/status", f"{GPU}/min_freq", f"{GPU}/max_freq"]
    files += [f"sys/devices/system/cpu/cpufreq/policy0/scaling_{limit}_freq" for limit in ("min", "max")]
    return [(board.root / file).read_text().strip() for file in files]


def kept(board: Board) -> list[Path]:
    return list((board.root / "home/nvidia/.cache/deploycc").glob("performance-*"))


def wait_until_nothing_is_kept(board: Board) -> None:
    deadline = time.monotonic() + 20
    while kept(board) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert kept(board) == []


def test_it_is_fast_while_it_measures_and_as_before_afterwards(tmp_path: Path, board: Board) -> None:
    before = state(board)
    for number, (kind, name, soft) in enumerate([("wlan", "phy0", "0"), ("bluetooth", "hci0", "1")]):
        radio = board.root / f"sys/class/rfkill/rfkill{number}"
        radio.mkdir(parents=True)
        for file, content in (("type", kind), ("name", name), ("soft", soft), ("hard", "0")):
            (radio / file).write_text(f"{content}\n")
    assert agent(board, "bench", "--max-performance").wait() == 0, (tmp_path / "said").read_text()
    assert "radios that take power meanwhile: wlan phy0;" in (tmp_path / "said").read_text()
    assert state(board) == before
    assert kept(board) == []
    report = json.loads((tmp_path / "out" / "latency.json").read_text())
    environment = report["environment"]
    assert environment["nvpmodel_before"] == environment["nvpmodel_restored"] == "25W (3)"
    assert (environment["nvpmodel"], environment["jetson_clocks"]) == ("MAXN (0)", True)
    assert environment["radios_on"] == "wlan phy0"
    assert report["runs"][0]["status"] == "measured"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_an_agent_that_is_killed_leaves_things_as_before(board: Board, number: signal.Signals) -> None:
    before = state(board)
    board.change(behaviour="hang_measuring")
    running = agent(board, "bench", "--max-performance")
    deadline = time.monotonic() + 20
    while not (board.bin / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert state(board)[0].startswith("pmode:0000")
    running.send_signal(number)
    running.wait()
    wait_until_nothing_is_kept(board)
    assert state(board) == before


def test_after_a_power_cut_the_next_measurement_brings_it_back(tmp_path: Path, board: Board) -> None:
    """Agent and keeper are gone at once; what was before is still in the user's cache."""
    before = state(board)
    folder = board.root / "home/nvidia/.cache/deploycc" / "performance-cut"
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    (folder / "mode.json").write_text('{"mode": 3}')
    subprocess.run([str(board.bin / "jetson_clocks"), "--store", str(folder / "clocks")], check=True)
    for arguments in (["nvpmodel", "-m", "0"], ["jetson_clocks"]):
        subprocess.run([str(board.bin / arguments[0]), *arguments[1:]], check=True)
    assert state(board) != before
    assert agent(board, "bench").wait() == 0
    assert state(board) == before
    assert kept(board) == []


def test_a_machine_that_is_no_jetson_says_so(tmp_path: Path, board: Board) -> None:
    (board.bin / "nvpmodel").unlink()
    assert agent(board, "bench", "--max-performance").wait() == 1
    assert "nvpmodel" in (tmp_path / "said").read_text()
    assert not (tmp_path / "out" / "latency.json").exists()
