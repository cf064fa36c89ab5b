"""What a device's sensors told while an engine ran: energy per picture, heat, throttling, clocks that moved."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from deploycc.documents.latency import Run, Telemetry
from deploycc.report.environment import CLOCK_TOLERANCE

WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "VIN")
"""Rails that everything hangs on: TX2, NX and Orin NX; Nano; Thor."""

_CLOCKS = {"gpu_clock_mhz": "GPU", "emc_clock_mhz": "memory", "memory_clock_mhz": "memory"}
_JOULE_PER_UJ = 1e-6


@dataclass(frozen=True)
class Moved:
    """A clock that did not stay where it was: MHz, lowest and highest."""

    unit: str
    lowest_mhz: float
    highest_mhz: float

    def __str__(self) -> str:
        return f"{self.unit} {self.lowest_mhz:g} to {self.highest_mhz:g} MHz"


@dataclass(frozen=True)
class Watched:
    """Derived from the readings that were taken while samples were.

    Attributes:
        readings: how many.
        clocks_mhz: mean of each clock, by unit.
        moved: clocks that differed by more than `CLOCK_TOLERANCE`.
        throttled: events counted, by kind.
        held_back: number of readings in which the device said that it throttles, by reason.
        power_w: mean power of `rail`; None where none is measured.
        rail: the whole board's rail, else all rails together, or the processor's package.
        energy_mj: per picture, while samples were taken: mean power times the time of the samples, over their number.
        heat_c: the hottest sensor's name, its first and its highest temperature.
    """

    readings: int
    clocks_mhz: dict[str, float]
    moved: tuple[Moved, ...]
    throttled: dict[str, int]
    held_back: dict[str, int]
    power_w: float | None
    rail: str | None
    energy_mj: float | None
    heat_c: tuple[str, float, float] | None

    def __str__(self) -> str:
        parts = [f"{unit} clock {mhz:.0f} MHz" for unit, mhz in self.clocks_mhz.items()]
        if self.power_w is not None and self.energy_mj is not None:
            parts.append(f"{self.power_w:.2f} W ({self.rail}), {self.energy_mj:.3g} mJ per picture")
        if self.heat_c is not None:
            name, first, highest = self.heat_c
            parts.append(f"{name} {first:.1f} to {highest:.1f} °C")
        return ", ".join(parts)


def watched(run: Run) -> Watched | None:
    """Derive what a run's telemetry says; None where it has none, or no reading while samples were taken."""
    if run.telemetry is None or not run.samples_ms:
        return None
    inside = [index for index, at in enumerate(run.telemetry.offsets_s) if _is_inside(run, at)]
    if not inside:
        return None
    values = {name: _values(run.telemetry, name, inside) for name in run.telemetry.readings}
    clocks = {unit: series for name, unit in _CLOCKS.items() if (series := values.get(name))}
    if "GPU" not in clocks and (busiest := list(_busiest_cpu(values))):
        clocks["CPU"] = busiest
    rail, power_w = _power(run.telemetry, values)
    seconds = sum(run.samples_ms) / 1e3
    return Watched(
        len(inside),
        {unit: statistics.fmean(series) for unit, series in clocks.items()},
        tuple(
            Moved(unit, min(series), max(series))
            for unit, series in clocks.items()
            if max(series) - min(series) > CLOCK_TOLERANCE * max(series)
        ),
        dict(_throttled(run.telemetry)),
        {reason: count for reason, series in _of_kind(values, "throttled") if (count := round(sum(series)))},
        power_w,
        rail,
        None if power_w is None else power_w * seconds / len(run.samples_ms) * 1e3,
        _heat(values),
    )


def _is_inside(run: Run, at: float) -> bool:
    """Whether samples were being taken."""
    return any(
        run.start_offsets_s[block.start]
        <= at
        <= run.start_offsets_s[block.stop - 1] + run.samples_ms[block.stop - 1] / 1e3
        for block in run.block_slices()
    )


def _values(telemetry: Telemetry, name: str, indices: list[int]) -> list[float]:
    column = telemetry.readings[name]
    return [value for index in indices if (value := column[index]) is not None]


def _busiest_cpu(values: dict[str, list[float]]) -> Iterator[float]:
    """The highest clock of each reading: that of the CPU which works."""
    columns = [series for name, series in values.items() if name.startswith("cpu_clock_mhz:")]
    for clocks in zip(*columns, strict=False):
        yield max(clocks)


def _power(telemetry: Telemetry, values: dict[str, list[float]]) -> tuple[str | None, float | None]:
    """Return the rail and its mean power in watts."""
    rails = {
        name.partition(":")[2]: series for name, series in values.items() if name.startswith("power_mw:") and series
    }
    for rail in WHOLE_BOARD:
        if rail in rails:
            return rail, statistics.fmean(rails[rail]) / 1e3
    if rails:
        return " + ".join(sorted(rails)), sum(statistics.fmean(series) for series in rails.values()) / 1e3
    for name, column in telemetry.readings.items():
        if name.startswith("energy_uj:"):
            told = [(at, uj) for at, uj in zip(telemetry.offsets_s, column, strict=True) if uj is not None]
            seconds, joules = told[-1][0] - told[0][0], (told[-1][1] - told[0][1]) * _JOULE_PER_UJ
            if seconds > 0 and joules > 0:  # the counter begins anew now and then
                return name.partition(":")[2], joules / seconds
    return None, None


def _throttled(telemetry: Telemetry) -> Iterator[tuple[str, int]]:
    for name, column in telemetry.readings.items():
        if name.startswith("throttle_events:"):
            counts = [count for count in column if count is not None]
            if counts and counts[-1] > counts[0]:
                yield name.partition(":")[2], int(counts[-1] - counts[0])


def _heat(values: dict[str, list[float]]) -> tuple[str, float, float] | None:
    hottest = max(((max(series), name, series[0]) for name, series in _of_kind(values, "temperature_c")), default=None)
    return None if hottest is None else (hottest[1], hottest[2], hottest[0])


def _of_kind(values: dict[str, list[float]], kind: str) -> Iterator[tuple[str, list[float]]]:
    """The sensors of a kind that told something, by what they measure."""
    for name, series in values.items():
        before, _, of = name.partition(":")
        if before == kind and series:
            yield of, series
