"""What a device told while an engine ran: energy, heat, throttling, moved clocks; and what the verdict makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from sample_reports import latency, run, samples

from deploycc.documents.latency import Telemetry
from deploycc.report.telemetry import watched
from deploycc.report.verdict import judge

OFFSETS = tuple(0.5 * number - 1 for number in range(29))  # from a second before the first sample to after the last
STEADY = {
    "gpu_clock_mhz": [1300.5] * 29,
    "emc_clock_mhz": [1866.0] * 29,
    "power_mw:VDD_IN": [2000.0, 2000.0, *[9400.0] * 27],
    "power_mw:VDD_SYS_GPU": [4100.0] * 29,
    "temperature_c:GPU-therm": [36.0, 36.0, 40.0, *[51.5] * 26],
    "throttle_events:oc3": [4.0] * 29,
}


def telemetry(**changes: Any) -> Telemetry:
    readings = {name: tuple(values) for name, values in {**STEADY, **changes}.items()}
    return Telemetry(period_s=0.5, offsets_s=OFFSETS, readings=readings)


def judged(**changes: Any) -> Any:
    report = latency(run(samples(), telemetry=telemetry(**changes)))
    return judge(report.runs[0], report)


def test_energy_heat_and_clocks_are_those_of_the_samples() -> None:
    """Readings before the first sample and after the last one do not count."""
    measured = run(samples(), telemetry=telemetry())
    seen = watched(measured)
    assert seen is not None
    assert (seen.power_w, seen.rail) == (9.4, "VDD_IN")
    picture_s = sum(measured.samples_ms) / 1e3 / len(measured.samples_ms)
    assert seen.energy_mj == pytest.approx(9.4 * picture_s * 1e3, rel=1e-12, abs=0)
    assert seen.clocks_mhz == {"GPU": 1300.5, "memory": 1866.0}
    assert seen.heat_c == ("GPU-therm", 40.0, 51.5)
    assert (seen.moved, seen.throttled) == ((), {})
    assert str(seen).startswith("GPU clock 1300 MHz, memory clock 1866 MHz, 9.40 W (VDD_IN), 94 mJ per picture, ")
    verdict = judged()
    assert (verdict.label, verdict.warnings) == ("VALID", ())


def test_moved_clocks_are_in_the_verdict() -> None:
    verdict = judged(gpu_clock_mhz=[1300.5] * 15 + [726.75] * 14)
    assert verdict.label == "VALID, but clocks changed"
    assert "GPU 726.75 to 1300.5 MHz" in str(verdict.warnings[0])
    before_and_after = judged(gpu_clock_mhz=[114.75, 114.75, *[1300.5] * 24, 114.75, 114.75, 114.75])
    assert before_and_after.label == "VALID"


def test_throttling_is_in_the_verdict() -> None:
    verdict = judged(**{"throttle_events:oc3": [4.0] * 20 + [9.0] * 9})
    assert verdict.label == "VALID, but the device throttled"
    assert "5 of oc3" in str(verdict.warnings[0])


def test_a_reason_to_throttle_that_held_meanwhile_is_in_the_verdict() -> None:
    verdict = judged(**{"throttled:SW power cap": [1.0, 1.0, *[0.0] * 20, *[1.0] * 3, *[0.0] * 4]})
    assert verdict.label == "VALID, but the device throttled"
    assert "SW power cap in 3 of " in str(verdict.warnings[0])
    assert judged(**{"throttled:SW power cap": [1.0, 1.0, *[0.0] * 27]}).label == "VALID"


def test_a_processors_energy_counter() -> None:
    told = [5e6 + 15.5e6 * (at - OFFSETS[0]) for at in OFFSETS]
    readings: dict[str, tuple[float | None, ...]] = {
        "energy_uj:package-0": tuple(told),
        "cpu_clock_mhz:0": (3400.0,) * 29,
    }
    readings["cpu_clock_mhz:1"] = (800.0, 2000.0) * 14 + (800.0,)  # an idle one
    measured = run(samples(), telemetry=Telemetry(period_s=0.5, offsets_s=OFFSETS, readings=readings))
    seen = watched(measured)
    assert seen is not None
    assert seen.rail == "package-0"
    assert seen.power_w == pytest.approx(15.5, rel=1e-9, abs=0)
    assert (seen.clocks_mhz, seen.moved) == ({"CPU": 3400.0}, ())


def test_without_telemetry_nothing_is_derived() -> None:
    assert watched(run(samples())) is None
    silent = dict.fromkeys(STEADY, (None,) * 29)
    seen = watched(run(samples(), telemetry=Telemetry(period_s=0.5, offsets_s=OFFSETS, readings=silent)))
    assert seen is not None
    assert (str(seen), seen.energy_mj) == ("", None)
    with pytest.raises(ValidationError, match="one value per reading"):
        Telemetry(period_s=0.5, offsets_s=(0.0,), readings={"gpu_clock_mhz": ()})
