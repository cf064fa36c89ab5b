"""What planning gates takes on a device that builds engines, and what a budget leaves out."""

from __future__ import annotations

from dataclasses import replace

from deploycc.timing.effort import Effort
from deploycc.workflows.gate_effort import Allowance, Outlook

TX2 = Outlook("tx2", Effort(build_s=60.0, job_s=2.0, start_s=4.0, starts=16), 20, 3, 0, 20.0)
REST_S = 3 * 66 + 5 * 16 * 4  # three whole networks, five comparisons
WAYS_S = 3 * 66 + 4 * 16 * 4


def test_what_is_to_be_done_is_said_with_its_time() -> None:
    least_s, most_s = 20 * 66 + REST_S, 20 * 66 + REST_S + 3 * WAYS_S
    assert TX2.most_engines == 32
    assert TX2.sentence(1800.0) == (
        "tx2 builds 20 engines for costs and at most 12 of the whole network: about "
        f"{least_s / 60:.0f} to {most_s / 60:.0f} minutes, as the first took 60 s to build and 4.0 s to start and time; "
        "the budget is 30 minutes"
    )
    assert "budget" not in TX2.sentence()


def test_a_step_begins_only_if_the_end_still_fits() -> None:
    now = [1000.0]
    allowance = Allowance(TX2, 1800.0, 1000.0, lambda: now[0])
    assert allowance.for_an_engine()
    assert allowance.for_ways(4)
    now[0] = 1000.0 + 1800.0 - REST_S - WAYS_S + 1
    assert allowance.for_an_engine()
    assert not allowance.for_ways(4)
    assert allowance.for_ways(3)
    now[0] = 1000.0 + 1800.0 - REST_S - 65
    assert not allowance.for_an_engine()


def test_without_a_budget_or_without_engines_there_is_always_time() -> None:
    assert Allowance(TX2, None, 0.0, lambda: 1e9).for_an_engine()
    assert Allowance(None, None, 0.0, lambda: 1e9).for_ways(4)


def test_networks_in_a_row_are_said_and_need_time_of_their_own() -> None:
    now = [0.0]
    staged = replace(TX2, stages=5)
    assert staged.most_engines == TX2.most_engines + 5
    assert staged.staging_s() == 5 * 66
    allowance = Allowance(staged, 1800.0, 0.0, lambda: now[0])
    now[0] = 1800.0 - 5 * 66
    assert allowance.for_stages()
    now[0] += 1
    assert not allowance.for_stages()
    assert Allowance(TX2, None, 0.0).for_stages()
