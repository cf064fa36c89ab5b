from __future__ import annotations

from dataclasses import replace

import pytest
from sample_reports import latency, run, runs_in_turns, samples, unmeasured

from deploycc.errors import ArtefactError, BudgetMissed
from deploycc.report.compare import check_budget, check_regression, compare_reports, describe_change, require_valid
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


def test_a_large_but_unproven_change_passes() -> None:
    """Noise that could explain the change is no regression, however large the change looks."""
    first = latency(run(samples(count=12, noise=1.0, seed=1)))
    second = latency(run(samples(count=12, noise=1.0, seed=3)))
    comparison = compare_reports(first, second)
    change = comparison.rows[0].change

    assert change is not None
    assert abs(change.ratio - 1) > 0.05
    check_regression(comparison, 0.0)


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
