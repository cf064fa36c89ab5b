from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sample_reports import latency, run, runs_in_turns, samples, unmeasured

from deploycc.documents.latency import Constraints
from deploycc.report.verdict import assess, judge

QUIET = {"cpu_governor": "performance", "cpus_online": 4, "load_1min": 0.1, "cpu_clocks_mhz": "0:2000"}


def _judged(samples_ms: tuple[float, ...], environment: dict[str, Any] | None = None, **changes: Any) -> Any:
    quick = changes.pop("quick", False)
    report = latency(run(samples_ms, **changes), environment=environment or QUIET, quick=quick)
    return judge(report.runs[0], report)


def test_a_quiet_run_is_valid() -> None:
    verdict = _judged(samples())

    assert (verdict.status, verdict.failed, verdict.warnings) == ("VALID", (), ())


@pytest.mark.parametrize(
    ("samples_ms", "changes", "failed"),
    [
        (samples(900), {}, ("ran for 9.0 s, 10 s needed",)),
        (samples(99, median_ms=200), {}, ("99 samples, 100 needed",)),
        (samples(10), {}, ("ran for 0.1 s, 10 s needed", "10 samples, 100 needed")),
        (samples(), {"quick": True}, ("measured with `quick`, which is for trying out",)),
        (samples(), {"constraints": Constraints(min_duration_s=60.0)}, ("ran for 12.0 s, 60 s needed",)),
        # a file that lowers its own constraints, or claims a duration that its samples do not show
        (
            samples(900),
            {"constraints": Constraints(min_duration_s=1.0, min_samples=1)},
            ("ran for 9.0 s, 10 s needed",),
        ),
        (
            samples(99, median_ms=200),
            {"constraints": Constraints(min_duration_s=1.0, min_samples=1)},
            ("99 samples, 100 needed",),
        ),
        (samples(900), {"duration_s": 100.0}, ("ran for 9.0 s, 10 s needed",)),
    ],
)
def test_a_broken_constraint_is_named_with_both_numbers(
    samples_ms: tuple[float, ...], changes: dict[str, Any], failed: tuple[str, ...]
) -> None:
    verdict = _judged(samples_ms, **changes)

    assert verdict.status == "INVALID"
    assert verdict.failed == failed


def test_only_time_within_blocks_counts() -> None:
    """Two runs that took turns lasted as long together as each claims."""
    pair = runs_in_turns(samples(900, seed=1), samples(900, seed=2), blocks=9)
    claimed = [run.model_copy(update={"duration_s": 18.0}) for run in pair]
    for assessed in assess(latency(*claimed)):
        assert assessed.verdict.failed == ("ran for 9.0 s, 10 s needed",)
    for assessed in assess(latency(*runs_in_turns(samples(1200, seed=1), samples(1200, seed=2), blocks=12))):
        assert (assessed.verdict.status, assessed.verdict.warnings) == ("VALID", ())


def test_ten_seconds_are_ten_seconds_after_rounding() -> None:
    exact = tuple([10.0] * 999 + [9.9999])

    assert _judged(exact).status == "VALID"


@pytest.mark.parametrize(
    ("changes", "words", "label"),
    [
        (
            {"environment": {**QUIET, "cpu_governor": "schedutil"}},
            "clocks follow the load (cpu_governor schedutil)",
            "VALID",
        ),
        (
            {"environment_after": {"cpu_clocks_mhz": "0:1400"}},
            "clocks changed during the run: cpu_clocks_mhz: 0:2000",
            "VALID, but clocks changed",
        ),
        (
            {"environment": {**QUIET, "load_1min": 3.0}},
            "the load average before the run was 3.00 on 4 CPUs",
            "VALID, but the machine was loaded",
        ),
        (
            {"environment_after": {"cpus_busy_with_others": 1.5}},
            "other programs kept 1.50 of 4 CPUs busy during the run",
            "VALID, but the machine was loaded",
        ),
    ],
)
def test_conditions_warn_and_do_not_fail(changes: dict[str, Any], words: str, label: str) -> None:
    verdict = _judged(samples(), **changes)
    assert verdict.label == label
    assert verdict.tone == ("VALID" if label == "VALID" else "DISTURBED")

    assert verdict.status == "VALID"
    (advice,) = verdict.warnings
    assert words in advice.text
    assert advice.next_step


def test_samples_that_drift_vary_or_stray_warn() -> None:
    steady = np.array(samples())
    heating = tuple(steady * np.linspace(1, 1.3, steady.size))
    straying = steady.copy()
    straying[::15] *= 1.3
    varying = samples(noise=0.2)

    for found, word in ((heating, "slower than the first"), (straying, "outliers"), (varying, "varies by")):
        assert word in " ".join(map(str, _judged(tuple(map(float, found))).warnings))


def test_a_device_that_waits_between_pictures_warns() -> None:
    gaps = samples(100)
    starts = tuple(0.15 * number for number in range(100))

    (advice,) = _judged(gaps, start_offsets_s=starts, duration_s=14.86).warnings

    assert "busy for only 7%" in advice.text


def test_the_measurement_itself_does_not_load_the_machine() -> None:
    """The load average after a run holds the run's own threads; what others took is told apart by the agent."""
    verdict = _judged(samples(), environment_after={"load_1min": 4.0, "cpus_busy_with_others": 0.1})
    assert (verdict.label, verdict.tone) == ("VALID", "VALID")
    assert _judged(samples(10), environment_after={"cpus_busy_with_others": 2.0}).label == (
        "INVALID; the machine was loaded"
    )


def test_the_work_before_a_measurement_does_not_load_the_machine() -> None:
    """Pruning and scoring keep the cores busy for a minute; the load average still holds that when the run begins."""
    busy = {**QUIET, "load_1min": 3.0}
    assert _judged(samples(), environment=busy, environment_after={"cpus_busy_with_others": 0.01}).label == "VALID"


def test_what_was_not_measured_says_why() -> None:
    item = assess(latency(unmeasured()))[0]

    assert item.verdict.status == "NOT MEASURED"
    assert item.verdict.failed == ("no FP16 convolution on this CPU",)
    assert item.summary is None
    assert item.stability is None
