"""Reads a machine's sensors while engines run, in a process of its own: the one that measures is not held up.

Both processes take their times from the same clock (CLOCK_MONOTONIC), so readings are in step with samples.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Dict, List, Optional

from . import processes, sensors, steady, tegrastats
from .system import command_output, find_program

PERIOD_S = 0.5
_MOST_READINGS = 2000  # of a long run: the period grows
_SHORTEST_PERIODS = 4
_FIRST_WAIT_S = 3.0  # for a process to start, on a slow board
_SMI = {
    "clocks.sm": "gpu_clock_mhz",
    "clocks.mem": "memory_clock_mhz",
    "temperature.gpu": "temperature_c:GPU",
    "power.draw": "power_mw:GPU",
}
_SMI_REASONS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")  # the newer driver's name first
_REASONS = {
    0x04: "SW power cap",
    0x08: "HW slowdown",
    0x20: "SW thermal slowdown",
    0x40: "HW thermal slowdown",
    0x80: "HW power brake",
}
"""Bits of NVML's ``nvmlClocksEventReasons`` that slow a busy GPU down (``nvml.h``); others are idle or chosen."""


class Recorder:
    """Reads from when it is entered until it is left; what is too short to be a valid measurement is not watched."""

    def __init__(self, expected_s: float, period_s: float = PERIOD_S) -> None:
        """Take about how long it will be, and how often to read."""
        self.period_s = max(period_s, expected_s / _MOST_READINGS)
        self._is_wanted = expected_s >= _SHORTEST_PERIODS * self.period_s
        self._file = None  # type: Any
        self._child = None  # type: Any
        self._pipe = -1
        self._rows = []  # type: List[Any]

    def __enter__(self) -> "Recorder":
        """Start the process, and wait for its first reading; a machine where it cannot start is measured without."""
        if not self._is_wanted:
            return self
        self._file = tempfile.TemporaryFile()
        watched, self._pipe = os.pipe()
        command = [*starter(), "telemetry", repr(self.period_s), "--parent-fd", str(watched)]
        try:
            self._child = processes.Child(command, True, pass_fds=[watched], stdout=self._file)
        except OSError:
            return self
        finally:
            os.close(watched)
        deadline = steady.now() + _FIRST_WAIT_S
        while os.fstat(self._file.fileno()).st_size == 0 and steady.now() < deadline:
            time.sleep(0.01)
        return self

    def __exit__(self, *error: "Any") -> None:
        """End the process."""
        if self._child is not None:
            self._child.end()
        if self._file is not None:
            os.close(self._pipe)
            self._file.seek(0)
            self._rows = [json.loads(line.decode("ascii")) for line in self._file if line.endswith(b"\n")]
            self._file.close()

    def readings(self, origin: float, end_s: float) -> "Optional[Dict[str, Any]]":
        """Return what a run's row says of its telemetry; None where this machine tells nothing.

        Args:
            origin: the clock's time that offsets count from.
            end_s: offset of the last sample's end; readings up to one period later belong to it.
        """
        rows = [(at - origin, values) for at, values in self._rows if values and at - origin <= end_s + self.period_s]
        names = sorted({name for _, values in rows for name in values})
        if not names:
            return None
        return {
            "period_s": self.period_s,
            "offsets_s": [round(at, 6) for at, _ in rows],
            "readings": {name: [values.get(name) for _, values in rows] for name in names},
        }


def watch(period_s: float) -> int:
    """Write a line of JSON per period, time and values, until this process is ended.

    Returns:
        the exit code, when nobody reads any more.
    """
    found = sensors.find()
    others = _others(found, period_s)
    due = steady.now()
    while True:
        at = time.perf_counter()
        values = sensors.read_all(found)
        for other in others:
            values.update(other.values())
        try:
            os.write(1, json.dumps([at, values]).encode("ascii") + b"\n")
        except OSError:
            return 1
        due += period_s
        if due < steady.now():
            due = steady.now() + period_s
        time.sleep(max(0.0, due - steady.now()))


class _Program:
    """A program that goes on telling; its last line counts."""

    def __init__(self, command: "List[str]", parse: "Any") -> None:
        self._parse = parse
        self._last = ""
        self._child = processes.Child(command, False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        reader = threading.Thread(target=self._read)
        reader.daemon = True
        reader.start()

    def _read(self) -> None:
        for line in iter(lambda: self._child.stdout.readline(1 << 16), b""):
            self._last = line.decode("utf-8", "replace")

    def values(self) -> "Dict[str, float]":
        """What it said last."""
        return self._parse(self._last)  # type: ignore[no-any-return]


def _others(found: "Dict[str, Any]", period_s: float) -> "List[_Program]":
    """Start programs for what no file tells: tegrastats on a Jetson, nvidia-smi beside a discrete GPU."""
    has_rails = any(name.startswith(("power_mw", "energy_uj")) for name in found)
    commands = []
    if find_program("tegrastats") and not ("gpu_clock_mhz" in found and has_rails):
        commands.append((["tegrastats", "--interval", str(int(period_s * 1e3))], _of_tegrastats))
    elif find_program("nvidia-smi") and "gpu_clock_mhz" not in found:
        fields = _smi_fields()
        asked = "--query-gpu=" + ",".join(fields)
        repeated = ["nvidia-smi", asked, "--format=csv,noheader,nounits", "-lms", str(int(period_s * 1e3))]
        commands.append((repeated, lambda line: _of_smi(line, fields)))
    programs = []
    for command, parse in commands:
        try:
            programs.append(_Program(command, parse))
        except OSError:
            pass
    return programs


def _of_tegrastats(line: str) -> "Dict[str, float]":
    said = tegrastats.parse(line)
    values = {name: said[name] for name in ("gpu_clock_mhz", "emc_clock_mhz") if said[name] is not None}
    values.update({"power_mw:" + name: value for name, value in said["rails_mw"].items()})
    values.update({"temperature_c:" + name: value for name, value in said["temperatures_c"].items()})
    return values


def _smi_fields() -> "List[str]":
    """Return the fields to ask for; nvidia-smi answers nothing at all where it does not know one of them."""
    for name in _SMI_REASONS:
        if "0x" in (command_output(["nvidia-smi", "--query-gpu=" + name, "--format=csv,noheader"]) or ""):
            return [*sorted(_SMI), name]
    return sorted(_SMI)


def _of_smi(line: str, fields: "List[str]") -> "Dict[str, float]":
    """Read a line of nvidia-smi; what it does not know is ``[N/A]``."""
    values = {}
    for field, text in zip(fields, line.split(",")):  # noqa: B905 - strict came with Python 3.10
        try:
            if field in _SMI_REASONS:
                active = int(text.strip(), 16)
                values.update({"throttled:" + name: float(bool(active & bit)) for bit, name in _REASONS.items()})
            else:
                values[_SMI[field]] = float(text) * (1e3 if field == "power.draw" else 1.0)
        except ValueError:
            pass
    return values


def starter() -> "List[str]":
    """How to start this program again: the zipapp or the folder that it is in, or the installed package."""
    import zipfile

    if os.path.isdir(sys.argv[0]) or zipfile.is_zipfile(sys.argv[0]):
        return [sys.executable, os.path.abspath(sys.argv[0])]
    return [sys.executable, "-m", str(__package__)]
