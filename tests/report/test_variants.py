"""The compiled network against the original one."""

from __future__ import annotations

import numpy as np
import pytest
from sample_reports import latency, run, runs_in_turns, samples, unmeasured

from deploycc.report.variants import compare_variants, describe_order, variant_comparisons


def test_runs_in_turns_are_compared_by_pairs_of_blocks() -> None:
    report = latency(*runs_in_turns(samples(2400, median_ms=5.0, seed=1), samples(1200, seed=2), blocks=12))
    comparison = compare_variants(report, "fp32")

    assert comparison is not None
    assert comparison.in_turns
    assert describe_order(comparison) == "in turns, 12 pairs"
    assert comparison.change.direction == "faster"
    assert comparison.change.low < 0.5 < comparison.change.high
    assert comparison.change.ratio == pytest.approx(0.5, rel=0.01, abs=0)
    assert (comparison.original.run.variant, comparison.compiled.run.variant) == ("original", "compiled")
    assert comparison.compiled.verdict.status == "VALID"
    assert variant_comparisons(report) == (comparison,)


def test_a_machine_that_slows_down_slows_both() -> None:
    """With clocks that fall to half, no run alone says what a network takes; the pairs still do."""
    clock = np.repeat(np.linspace(1.0, 2.0, 12), 100)
    compiled = tuple(float(value) for value in clock * np.array(samples(1200, median_ms=9.0, seed=1)))
    original = tuple(float(value) for value in clock * np.array(samples(1200, seed=2)))
    in_turns = compare_variants(latency(*runs_in_turns(compiled, original, blocks=12)), "fp32")

    assert in_turns is not None
    assert in_turns.change.direction == "faster"
    assert 0.89 < in_turns.change.low < 0.9 < in_turns.change.high < 0.91
    alone = latency(run(compiled), run(original).model_copy(update={"variant": "original"}))
    one_after_the_other = compare_variants(alone, "fp32")
    assert one_after_the_other is not None
    assert not one_after_the_other.in_turns
    assert describe_order(one_after_the_other) == "one after the other"
    assert one_after_the_other.change.high - one_after_the_other.change.low > 0.1
    assert one_after_the_other.change.direction == "not significant"


def test_the_same_network_twice_is_not_different() -> None:
    report = latency(*runs_in_turns(samples(1200, seed=1), samples(1200, seed=2), blocks=12))
    comparison = compare_variants(report, "fp32")
    assert comparison is not None
    assert comparison.change.direction == "not significant"


def test_few_pairs_prove_nothing() -> None:
    report = latency(*runs_in_turns(samples(1200, median_ms=5.0), samples(1200), blocks=4))
    comparison = compare_variants(report, "fp32")
    assert comparison is not None
    assert comparison.in_turns
    assert comparison.change.direction == "not significant"


def test_nothing_is_compared_where_one_was_not_measured() -> None:
    compiled, original = runs_in_turns(samples(1200), samples(1200), blocks=12)
    refused = unmeasured("fp32").model_copy(update={"variant": "original"})

    for report in (latency(compiled), latency(original), latency(compiled, refused)):
        assert compare_variants(report, "fp32") is None
        assert variant_comparisons(report) == ()
    assert compare_variants(latency(compiled, original), "fp16") is None
