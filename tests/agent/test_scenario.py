"""How pictures come to an engine: what the agent asks of a measurement."""

from __future__ import annotations

from typing import Any

import pytest

from deploycc.agent.__main__ import _parser
from deploycc.agent.outcome import Failed
from deploycc.agent.scenario import Scenario

PLAN = {"warmup_s": 1.0, "min_duration_s": 0.5, "min_samples": 10, "quick": True, "threads": 2, "seed": 3}


def limits(scenario: Scenario, *others: dict[str, Any]) -> dict[str, Any]:
    plan, *_ = scenario.applied([{"measurement": PLAN | more} for more in ({}, *others)])
    return {name: plan["measurement"][name] for name in ("min_duration_s", "min_samples", "quick", "seed")}


@pytest.mark.parametrize(
    ("given", "duration_s", "count", "quick"),
    [
        ((None, None, None), 0.5, 10, True),
        (("single-stream", None, None), 600.0, 6636, False),
        (("constant-stream", 66.7, None), 6670.0, 100000, False),
        (("single-stream", None, 20.0), 20.0, 1, False),
        (("constant-stream", 66.7, 20.0), 20.0, 1, False),
    ],
)
def test_a_scenario_says_how_long(given: Any, duration_s: float, count: int, quick: bool) -> None:
    scenario = Scenario(*given)
    found = limits(scenario)
    assert found.pop("min_duration_s") == pytest.approx(duration_s, rel=1e-12, abs=0)
    assert found == {"min_samples": count, "quick": quick, "seed": 3}
    again = _parser().parse_args(["bench", "plan.json", *scenario.arguments()])
    assert (again.scenario, again.period_ms, again.seconds) == given


def test_plans_that_are_measured_together_get_the_most_that_one_of_them_asks_for() -> None:
    other = {"min_duration_s": 10.0, "min_samples": 5, "quick": False, "threads": 1, "seed": 4}
    assert limits(Scenario(), other) == {"min_duration_s": 10.0, "min_samples": 10, "quick": True, "seed": 3}
    both = Scenario().applied([{"measurement": PLAN}, {"measurement": PLAN | other}])
    assert both[0] == both[1]  # one runtime runs both, with the threads and the input of the first


def test_ending_early_does_not_lower_what_is_needed() -> None:
    assert Scenario("single-stream", None, 1.0).constraints() == {"min_duration_s": 600.0, "min_samples": 6636}
    assert Scenario().constraints() == {"min_duration_s": 10.0, "min_samples": 100}


@pytest.mark.parametrize(
    "given", [("offline", None, None), ("constant-stream", None, None), (None, 5.0, None), (None, None, 5.0)]
)
def test_what_does_not_fit_together_is_refused(given: Any) -> None:
    with pytest.raises(Failed):
        Scenario(*given)
