"""Sensors read while an engine runs, on the simulated boards of every stack."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from simulated_board import board as simulated
from simulated_board.stacks import STACKS

from deploycc.agent import sensors, system, telemetry
from deploycc.agent_host.zipapp import write_agent

RAILS = {
    "jetson-tx2-jp461": ("VDD_IN", 2057.0),
    "jetson-xavier-jp512": ("GPU", 610.0),
    "jetson-orin-jp62": ("VDD_IN", 4960.0),
}


@pytest.mark.parametrize("name", ["jetson-tx2-jp461", "jetson-xavier-jp512", "jetson-orin-jp62", "jetson-thor-jp70"])
def test_sensors_of_each_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    board = simulated.make(tmp_path / "board", name, times=9.0)
    monkeypatch.setattr(system, "ROOT", str(board.root))
    values = sensors.read_all(sensors.find())
    assert values["gpu_clock_mhz"] == STACKS[name].gpu_hz[0] / 1e6
    assert values["temperature_c:GPU-therm"] == 36.0
    assert values["cpu_clock_mhz:3"] == 345.6
    rail = RAILS.get(name)
    assert (rail is None) is not any(name.startswith("power_mw") for name in values)
    if rail is not None:
        assert values[f"power_mw:{rail[0]}"] == pytest.approx(rail[1], rel=1e-12, abs=0)


def test_the_energy_of_a_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = simulated.make(tmp_path / "board", "x86-dgpu-trt10")
    monkeypatch.setattr(system, "ROOT", str(board.root))
    assert sensors.read_all(sensors.find())["energy_uj:package-0"] == 5_000_000


def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, do: Any) -> dict[str, Any]:
    """Read a board's sensors every 50 ms while something is done, and for 0.15 s after it."""
    board = simulated.make(tmp_path / "board", name, times=9.0)
    write_agent(tmp_path / "agent.pyz")
    monkeypatch.setattr(telemetry, "starter", lambda: [board.python, str(tmp_path / "agent.pyz")])
    with telemetry.Recorder(expected_s=1.0, period_s=0.05) as recorder:
        begin = time.perf_counter()
        time.sleep(0.15)
        do(board)
        time.sleep(0.15)
        end = time.perf_counter()
    row = recorder.readings(begin, end - begin)
    assert row is not None
    return row


def test_readings_are_in_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[float] = []

    def throttle(board: simulated.Board) -> None:
        changed.append(time.perf_counter())
        for file, text in {"sys/class/devfreq/17000000.gpu/cur_freq": 612_000_000}.items():
            (board.root / file).write_text(f"{text}\n")
        changed.append(time.perf_counter())

    row = record(tmp_path, monkeypatch, "jetson-orin-jp62", throttle)
    clocks = row["readings"]["gpu_clock_mhz"]
    assert set(clocks) >= {306.0, 612.0}
    assert row["offsets_s"] == sorted(row["offsets_s"])
    assert row["offsets_s"][0] <= 0.05  # the first reading is there before anything is measured
    first = next(at for at, clock in zip(row["offsets_s"], clocks, strict=True) if clock == 612.0)
    last = max(at for at, clock in zip(row["offsets_s"], clocks, strict=True) if clock == 306.0)
    assert last <= changed[1] - changed[0] + 0.15 + 0.15
    assert first >= 0.1


def test_what_no_file_tells_comes_from_tegrastats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = record(tmp_path, monkeypatch, "jetson-thor-jp70", lambda board: time.sleep(0.2))
    assert [value for value in row["readings"]["power_mw:VIN"] if value is not None][-1] == 28906.0
    assert row["readings"]["gpu_clock_mhz"][0] == 306.0


def test_lines_of_nvidia_smi() -> None:
    fields = sorted(telemetry._SMI)
    assert telemetry._of_smi("6000, 1410, 61.25, 54", fields) == {
        "memory_clock_mhz": 6000.0, "gpu_clock_mhz": 1410.0, "power_mw:GPU": 61250.0, "temperature_c:GPU": 54.0,
    }  # fmt: skip
    found = telemetry._of_smi("[N/A], 1410, [N/A], 54", fields)
    assert found == {"gpu_clock_mhz": 1410.0, "temperature_c:GPU": 54.0}
    assert telemetry._of_smi("", fields) == {}


def test_reasons_to_throttle_that_nvidia_smi_tells() -> None:
    """Idle, chosen clocks and synchronous boost are none; a word for it is as good as no answer."""
    fields = ["clocks.sm", "clocks_throttle_reasons.active"]
    found = telemetry._of_smi("1410, 0x0000000000000024", fields)
    assert {name for name, on in found.items() if on == 1.0} == {
        "throttled:SW power cap", "throttled:SW thermal slowdown",
    }  # fmt: skip
    assert [on for name, on in telemetry._of_smi("1410, 0x0000000000000113", fields).items() if ":" in name] == [
        0.0
    ] * 5
    assert telemetry._of_smi("1410, [Not Supported]", fields) == {"gpu_clock_mhz": 1410.0}


@pytest.mark.parametrize(
    ("known", "asked"),
    [
        ("clocks_event_reasons.active", "clocks_event_reasons.active"),
        ("clocks_throttle_reasons.active", "clocks_throttle_reasons.active"),
        ("neither", "temperature.gpu"),
    ],
)
def test_a_driver_is_only_asked_what_it_knows(known: str, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(command: list[str]) -> str | None:
        return "0x0000000000000001" if known in command[1] else None

    monkeypatch.setattr(telemetry, "command_output", said)
    assert telemetry._smi_fields()[-1] == asked


def test_what_is_too_short_to_be_valid_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "starter", lambda: ["/no/such/program"])
    with telemetry.Recorder(0.5) as recorder:
        assert recorder.readings(0.0, 1.0) is None
    with telemetry.Recorder(10.0) as recorder:  # a process that does not start is no failure
        pass
    assert recorder.readings(0.0, 1.0) is None
