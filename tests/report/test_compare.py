from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sample_reports import latency, run, runs_in_turns, samples, unmeasured

from deploycc.documents.latency import LatencyReport, ScenarioRecord
from deploycc.errors import ArtefactError, BudgetMissed, Undecided
from deploycc.report.compare import compare_reports, describe_change, describe_row
from deploycc.report.latency_limits import check_budget, check_regression, require_valid
from deploycc.report.stats import Change

BASE = latency(run(samples(seed=1)), run(samples(seed=2, median_ms=5.0, count=2400), precision="fp16"))


def test_reports_are_matched_by_precision_whatever_their_order() -> None:
    slower = latency(
        run(samples(seed=3, median_ms=5.0, count=2400), precision="fp16"), run(samples(seed=4, median_ms=10.6))
    )
    comparison = compare_reports(BASE, slower)

    assert [row.precision for row in comparison.rows] == ["fp32", "fp16"]
    assert [row.change and row.change.direction for row in comparison.rows] == ["slower", "not significant"]
    assert comparison.differences == ()
    assert comparison.warnings == ()


def test_a_difference_in_conditions_is_said() -> None:
    other = latency(
        run(samples(seed=3), threads=4), target="x86-rtx", environment={**BASE.environment, "cpu_model": "Other CPU"}
    )
    comparison = compare_reports(BASE, other)
    said = " | ".join(comparison.warnings)

    assert {str(difference) for difference in comparison.differences} == {
        "cpu_model: Test CPU -> Other CPU",
        "fp32.threads: 2 -> 4",
    }
    assert "different targets: x86-cpu and x86-rtx" in said
    assert "cpu_model: Test CPU -> Other CPU" in said
    assert "fp16: the candidate has no run of this precision" in said


def test_weak_measurements_are_said() -> None:
    comparison = compare_reports(latency(run(samples(50))), latency(run(samples(noise=0.3)), unmeasured()))
    said = " | ".join(comparison.warnings)

    assert "fp32: the baseline is INVALID: ran for 0.5 s" in said
    assert "fp32: the candidate: latency varies by" in said
    assert "fp16: the candidate is NOT MEASURED" in said
    assert comparison.rows[1].change is None


@pytest.mark.parametrize("allowed", [0.0, 0.03])
def test_a_regression_is_refused_with_its_figures(allowed: float) -> None:
    comparison = compare_reports(latency(run(samples(seed=1))), latency(run(samples(seed=2, median_ms=10.6))))

    with pytest.raises(BudgetMissed) as missed:
        check_regression(comparison, allowed)

    assert missed.value.exit_code == 3
    assert "fp32: median" in missed.value.message
    assert "slower (" in missed.value.message
    assert f"{allowed:+.1%}" in missed.value.context["allowed"]


def test_what_is_allowed_faster_or_not_significant_passes() -> None:
    base = latency(run(samples(seed=1)))
    for median_ms, allowed in ((10.6, 0.1), (9.0, 0.0), (10.0, 0.0)):
        check_regression(compare_reports(base, latency(run(samples(seed=2, median_ms=median_ms)))), allowed)


def test_a_large_but_unproven_change_is_undecided() -> None:
    """Noise that could explain the change is no regression, however large the change looks; nor is it none."""
    first = latency(run(samples(count=12, noise=1.0, seed=1)))
    second = latency(run(samples(count=12, noise=1.0, seed=3)))
    comparison = compare_reports(first, second)
    change = comparison.rows[0].change

    assert change is not None
    assert abs(change.ratio - 1) > 0.05
    with pytest.raises(Undecided) as undecided:
        check_regression(comparison, 0.0)
    assert undecided.value.exit_code == 4
    assert "slower at 99% confidence" in str(undecided.value.note)


LOADED = {**BASE.environment, "load_1min": 7.0}


def test_a_loaded_machine_proves_no_regression() -> None:
    """Equal engines, one of them measured beside other programs: 60 % slower in every sample."""
    quiet, busy = run(samples(seed=1)), run(samples(seed=2, median_ms=16.0))
    for environment, after in ((LOADED, {}), (BASE.environment, {"cpus_busy_with_others": 2.0})):
        disturbed = latency(busy.model_copy(update={"environment_after": after}), environment=environment)
        comparison = compare_reports(latency(quiet), disturbed)
        (row,) = comparison.rows
        assert describe_row(row) == "not significant: the candidate: the machine was loaded (+59.9% measured)"
        with pytest.raises(Undecided, match="cannot tell"):
            check_regression(comparison, 0.05)


def test_a_candidate_that_is_fast_enough_beside_other_programs_passes() -> None:
    fast = latency(run(samples(seed=2, median_ms=10.1)), environment=LOADED)
    check_regression(compare_reports(latency(run(samples(seed=1))), fast), 0.05)
    with pytest.raises(Undecided):  # but a baseline that was slowed proves nothing
        check_regression(compare_reports(fast, latency(run(samples(seed=1)))), 0.05)


def test_a_measurement_is_not_slower_than_itself_however_poor_it_is() -> None:
    poor = latency(run(samples(count=12, noise=1.0)), environment=LOADED)
    comparison = compare_reports(poor, poor)
    check_regression(comparison, 0.0)
    assert describe_row(comparison.rows[0]) == "not significant: both sides are the same measurement"


def test_a_difference_that_a_process_may_make_is_not_significant() -> None:
    base = latency(run(samples(seed=1)))
    for median_ms, direction in ((10.3, "not significant"), (10.8, "slower"), (9.2, "faster")):
        (row,) = compare_reports(base, latency(run(samples(seed=2, median_ms=median_ms)))).rows
        assert row.change is not None
        assert (row.basis, row.change.direction) == ("one process", direction)


def test_pairs_with_the_same_original_network_tell_what_load_hides() -> None:
    """The candidate's machine was three times slower for both networks; its quotient is 8 % larger."""

    def turns(factor: float, compiled_ms: float, seed: int) -> LatencyReport:
        pair = runs_in_turns(
            samples(1200, median_ms=factor * compiled_ms, seed=seed),
            samples(1200, median_ms=factor * 10, seed=seed + 1),
            12,
        )
        return latency(*pair, environment=LOADED)

    base = turns(1.0, 5.0, 1)
    (same,), (slower,) = (compare_reports(base, turns(3.0, ms, 5)).rows for ms in (5.0, 5.4))
    assert same.change is not None
    assert slower.change is not None
    assert (same.basis, same.change.direction, slower.change.direction) == ("pairs", "not significant", "slower")
    assert slower.change.ratio == pytest.approx(1.08, rel=0.01, abs=0)
    assert describe_row(slower).endswith("from pairs with the original network")
    check_regression(compare_reports(base, turns(3.0, 5.0, 5)), 0.05)
    with pytest.raises(BudgetMissed):
        check_regression(compare_reports(base, turns(3.0, 5.4, 5)), 0.05)


def test_several_runs_count_by_their_spread() -> None:
    def runs(*medians_ms: float) -> list[LatencyReport]:
        return [latency(run(samples(seed=n, median_ms=ms))) for n, ms in enumerate(medians_ms)]

    steady, wild = runs(10.0, 10.05, 9.95), runs(10.0, 13.0, 8.5)
    for base, more, direction in (
        (steady, runs(10.8, 10.9, 10.7), "slower"),
        (wild, runs(10.8, 14.0, 9.0), "not significant"),
    ):
        (row,) = compare_reports(base[0], more[0], more_baselines=base[1:], more_candidates=more[1:]).rows
        assert row.change is not None
        assert (row.basis, row.change.direction) == ("runs", direction)
        assert describe_row(row).endswith("from the spread of several runs")
    other = [latency(report.runs[0].model_copy(update={"threads": 9})) for report in steady]
    (row,) = compare_reports(steady[0], steady[0], more_candidates=other).rows
    assert row.basis == "one process"  # runs of something else are left out


def test_a_run_that_was_carried_over_counts_once() -> None:
    first, second = (latency(run(samples(seed=n))) for n in (1, 2))
    (row,) = compare_reports(first, second, more_baselines=[first, first], more_candidates=[second]).rows
    assert row.basis == "one process"


def test_a_gate_needs_something_to_judge() -> None:
    base = latency(run(samples(seed=1)))
    with pytest.raises(ArtefactError, match="two reports for one target"):
        check_regression(compare_reports(base, latency(run(samples()), target="other")), 0.05)
    with pytest.raises(ArtefactError, match="fp16: measured in the baseline only"):
        check_regression(compare_reports(BASE, latency(run(samples()), unmeasured())), 0.05)
    with pytest.raises(ArtefactError, match="no precision was measured in both"):
        check_regression(compare_reports(latency(unmeasured()), latency(unmeasured())), 0.05)


def test_a_budget_is_for_the_99th_percentile() -> None:
    check_budget(BASE, 11.0)
    with pytest.raises(BudgetMissed, match=r"fp32: p99 10\.\d+ ms, .* over the budget"):
        check_budget(BASE, 10.2)  # above the median, below the p99
    with pytest.raises(ArtefactError, match="no FP16 convolution"):
        check_budget(latency(unmeasured()), 10.0)


def test_a_gate_refuses_what_is_not_valid() -> None:
    require_valid([BASE, latency(unmeasured())])
    with pytest.raises(ArtefactError, match="measured with `quick`"):
        require_valid([BASE, latency(quick=True)])


def test_changes_read_as_sentences() -> None:
    change = Change(10.0, 10.6, 1.06, 1.051, 1.069, "slower")

    assert describe_change(change) == "6.0% slower (+5.1% to +6.9% at 99% confidence)"
    assert describe_change(replace(change, direction="not significant")).startswith("not significant (")


def test_the_compiled_networks_are_compared_and_gated() -> None:
    """The original network beside them may be slow, invalid or not there."""
    compiled, original = runs_in_turns(samples(1200, median_ms=5.0, seed=1), samples(600, seed=2), blocks=12)
    both, alone = latency(original, compiled), latency(run(samples(2400, median_ms=5.0, seed=3)))

    for first, second in ((both, alone), (alone, both)):
        (row,) = compare_reports(first, second).rows
        assert row.change is not None
        assert row.change.direction == "not significant"
        assert row.change.baseline_ms == pytest.approx(5.0, rel=0.01, abs=0)
    check_budget(both, 6.0)
    invalid = latency(run(samples()), original.model_copy(update={"duration_s": 1.0}))
    require_valid([invalid])
    with pytest.raises(ArtefactError, match="no measured run"):
        check_budget(latency(original), 6.0)


def in_turns(first: LatencyReport, second: LatencyReport, turns: tuple[str, str]) -> tuple[LatencyReport, ...]:
    """Two reports of one measurement, as far as they say the same of it."""
    return tuple(
        report.model_copy(update={"runs": tuple(run.model_copy(update={"turns": of}) for run in report.runs)})
        for report, of in zip((first, second), turns, strict=True)
    )


@pytest.mark.parametrize(("turns", "basis"), [(("a" * 16, "a" * 16), "turns"), (("a" * 16, "b" * 16), "one process")])
def test_engines_measured_in_turns_are_compared_by_pairs(turns: tuple[str, str], basis: str) -> None:
    """A machine that became three times slower on the way slowed both: 8 % are still seen."""
    slowing = np.repeat(np.linspace(1.0, 3.0, 12), 100)
    first, second = (
        tuple(float(value) for value in slowing * np.array(samples(1200, median_ms=ms, seed=seed)))
        for ms, seed in ((10.0, 1), (10.8, 2))
    )
    one, other = runs_in_turns(first, second, 12)
    reports = in_turns(latency(one), latency(other.model_copy(update={"variant": "compiled"})), turns)
    [row] = compare_reports(*reports).rows
    assert row.change is not None
    assert row.basis == basis
    assert row.change.direction == ("slower" if basis == "turns" else "not significant")
    if basis == "turns":
        assert 1.07 < row.change.low < 1.08 < row.change.high < 1.09
        assert describe_row(row).endswith(", from blocks measured in turns")
        with pytest.raises(BudgetMissed):
            check_regression(compare_reports(*reports), 0.05)
        check_regression(compare_reports(*reports), 0.10)


def test_a_stream_is_not_compared_with_one_picture_after_the_other() -> None:
    stream = ScenarioRecord(name="constant-stream", period_ms=20.0)
    reports = latency(run(samples())), latency(run(samples(median_ms=30.0), scenario=stream))
    [row] = compare_reports(*reports).rows
    assert row.change is None
    assert describe_row(row) == (
        "nothing to compare: one picture after the other in the baseline, one picture per 20.00 ms in the candidate"
    )
    with pytest.raises(ArtefactError, match="in the same way"):
        check_regression(compare_reports(*reports), 0.05)
    same = latency(run(samples(seed=2, median_ms=30.0), scenario=stream))
    assert compare_reports(reports[1], same).rows[0].change is not None
