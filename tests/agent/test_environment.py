"""What the agent says of a machine: what is there, None otherwise."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import onnxruntime
import pytest

from deploycc.agent import environment, system
from deploycc.agent.environment import module_version


def test_probing_this_machine() -> None:
    facts = environment.probe()
    assert facts["architecture"] == platform.machine()
    assert facts["python"] == platform.python_version()
    assert facts["version_onnxruntime"] == onnxruntime.__version__
    assert facts["cpus_online"] == os.cpu_count()
    assert facts["memory_total_mib"] > facts["memory_available_mib"] > 0
    assert facts["load_1min"] >= 0
    assert all(value is None or isinstance(value, str | int | float) for value in facts.values())


GPU = "/sys/class/devfreq/12340000.gp10b"
FILES = {  # of a board that is made up: the names are the kernel's, the values nobody's
    "/sys/devices/system/cpu/online": "0,3-5",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil",
    "/sys/devices/system/cpu/cpu3/cpufreq/scaling_governor": "performance",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "345600",
    "/sys/devices/system/cpu/cpu3/cpufreq/scaling_cur_freq": "1890200",
    "/sys/kernel/nvpmodel_emc_cap/emc_iso_cap": "1500000000",
    "/proc/loadavg": "0.25 0.50 0.75 1/100 4242",
    "/proc/meminfo": "MemTotal:        6291456 kB\nMemAvailable:    1048576 kB",
    f"{GPU}/cur_freq": "912500000",
    f"{GPU}/min_freq": "100250000",
    f"{GPU}/max_freq": "1200750000",
    f"{GPU}/governor": "a_governor",
}


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a board that has no files yet, and no programs."""
    monkeypatch.setattr(system, "ROOT", str(tmp_path))
    monkeypatch.setattr(system.shutil, "which", lambda name: None)
    return tmp_path


def write_files(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def test_a_board(board: Path) -> None:
    write_files(board, FILES)
    state = environment.state()
    assert state["cpus_online"] == 4
    assert state["cpu_governor"] == "performance, schedutil"
    assert state["cpu_clocks_mhz"] == "0:346 3:1890"
    assert state["emc_cap_hz"] == 1_500_000_000
    assert (state["load_1min"], state["load_5min"]) == (0.25, 0.5)
    assert state["memory_available_mib"] == 1024
    assert state["gpu_governor"] == "a_governor"
    assert [state[f"gpu_clock_{name}_mhz"] for name in ("cur", "min", "max")] == [912.5, 100.25, 1200.75]


def test_what_other_programs_take_is_told_from_what_the_measurement_takes(
    board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    write_files(board, {"/proc/stat": "cpu  100 0 0 900 0 0 0 0 0 0\ncpu0 1"})
    monkeypatch.setattr(os, "times", lambda: os.times_result((1.0, 0.0, 0.0, 0.0, 50.0)))
    before = environment.cpu_times()
    assert before == {"clock": 50.0, "busy": 100 / ticks, "own": 1.0}
    busy = 100 + 30 * ticks  # 30 s of CPU time in 10 s, 18 of them for the measurement and the programs that it ran
    write_files(board, {"/proc/stat": f"cpu  {busy} 0 0 900 0 0 0 0 0 0"})
    monkeypatch.setattr(os, "times", lambda: os.times_result((9.0, 1.0, 8.0, 1.0, 60.0)))
    assert environment.cpus_busy_with_others(before) == 1.2
    (board / "proc/stat").unlink()
    assert environment.cpus_busy_with_others(before) is None


def test_a_machine_that_tells_nothing(board: Path) -> None:
    state = environment.state()
    assert state.pop("cpus_online") == os.cpu_count()  # from the operating system
    assert set(state.values()) == {None}
    software = environment.software()
    assert software["l4t_release"] is software["nvpmodel"] is software["tensorrt_library"] is software["os"] is None


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("numpy-1.13.3.egg-info", "1.13.3"),
        ("numpy-1.19.5.dist-info", "1.19.5"),
        ("numpy-1.13.3-py3.6.egg-info", "1.13.3"),
        ("numpydoc-1.0.dist-info", None),
    ],
)
def test_library_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, expected: str | None) -> None:
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    (tmp_path / folder).mkdir()
    monkeypatch.delitem(sys.modules, "numpy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert module_version("numpy") == expected


@pytest.mark.parametrize(
    ("listed", "version"),
    [
        ("un ; ii  1.2.3-4+cuda5.6", "1.2.3-4+cuda5.6"),
        ("ii  8.2.1-1+cuda10.2", "8.2.1-1+cuda10.2"),
        ("hi  10.3.0.30-1+cuda12.5", "10.3.0.30-1+cuda12.5"),  # held at its version
        ("ii  4.1.2-1+cuda9.0", "4.0.1"),  # libnvinfer4 counts on its own
        ("rc  8.2.1-1", None),
        (None, None),
    ],
)
def test_tensorrt_package(monkeypatch: pytest.MonkeyPatch, listed: str | None, version: str | None) -> None:
    monkeypatch.setattr(environment, "command_output", lambda arguments: listed)
    assert environment.tensorrt_library() == version


def test_a_command_that_fails_says_nothing() -> None:
    assert system.command_output(["false"]) is None
    assert system.command_output(["no-such-program"]) is None
    assert system.command_output(["printf", "a\\n\\n b\\n"]) == "a; b"
