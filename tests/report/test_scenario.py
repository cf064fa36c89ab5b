"""Scenarios of MLPerf Automotive's: what a run shows of them, and whether it holds what they ask for."""

from __future__ import annotations

import pytest
from sample_reports import latency, run, samples

from deploycc.documents.latency import Constraints, ScenarioRecord
from deploycc.errors import ArtefactError, BudgetMissed
from deploycc.report.latency_limits import check_deadlines
from deploycc.report.scenario import describe_scenario, stream_of
from deploycc.report.terminal import latency_remarks
from deploycc.report.verdict import assess

STREAM = ScenarioRecord(name="constant-stream", period_ms=20.0)
LATE = (10.0,) * 3997 + (20.0, 20.1, 25.0)  # the third last is just in time


def test_a_stream_counts_what_was_late() -> None:
    stream = stream_of(run(LATE, scenario=STREAM))
    assert stream is not None
    assert (stream.pictures, stream.missed, stream.missed_share) == (4000, 2, 0.0005)
    assert stream.p999_ms == 10.0
    assert stream_of(run(LATE)) is None
    assert describe_scenario(run(LATE, scenario=STREAM)) == (
        "constant stream, one picture per 20.00 ms: 2 of 4000 deadlines missed (0.050%), p99.9 10.00 ms"
    )


def test_a_single_stream_shows_its_percentile() -> None:
    tail = run((10.0,) * 990 + (30.0,) * 10, scenario=ScenarioRecord(name="single-stream"))
    assert describe_scenario(tail) == "single stream: p99.9 30.00 ms of 1000 pictures"
    assert describe_scenario(run(samples())) is None


@pytest.mark.parametrize(
    ("count", "needs", "failed"),
    [
        (100, {"min_duration_s": 0.5, "min_samples": 100}, ["ran for 1.0 s, 10 s needed"]),
        (
            2000,
            {"min_duration_s": 600.0, "min_samples": 6636},
            ["ran for 20.0 s, 600 s needed", "2000 samples, 6636 needed"],
        ),
    ],
)
def test_what_a_scenario_needs_is_in_the_verdict(count: int, needs: dict[str, float], failed: list[str]) -> None:
    short = run((10.0,) * count, scenario=ScenarioRecord(name="single-stream"), constraints=Constraints(**needs))
    [item] = assess(latency(short))
    assert item.verdict.status == "INVALID"
    assert list(item.verdict.failed) == failed
    assert any("p99.9" in remark for remark in latency_remarks(latency(short)))


def test_a_stream_that_waits_is_not_advised_to_hurry() -> None:
    starts = tuple(0.02 * number for number in range(1000))
    waits = run((5.0,) * 1000, scenario=STREAM, start_offsets_s=starts, duration_s=19.985)
    [item] = assess(latency(waits))
    assert item.verdict.label == "VALID"
    assert item.verdict.warnings == ()


def test_deadlines_are_a_limit() -> None:
    report = latency(run(LATE, scenario=STREAM))
    check_deadlines(report, 0.001)
    with pytest.raises(BudgetMissed, match="2 of 4000 pictures late"):
        check_deadlines(report, 0.0001)
    with pytest.raises(ArtefactError) as caught:
        check_deadlines(latency(), 0.001)
    assert caught.value.code == "report-no-stream"


def test_a_period_belongs_to_a_stream() -> None:
    for name, period_ms in (("constant-stream", None), ("single-stream", 20.0)):
        with pytest.raises(ValueError, match="constant stream has a period"):
            ScenarioRecord(name=name, period_ms=period_ms)
