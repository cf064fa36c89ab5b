"""Networks in a row on the board: which one follows, and how often each is timed."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest

from deploycc.agent import row
from deploycc.agent.outcome import Failed

NETWORK = {
    "input": {"name": "x", "shape": [1]},
    "row": {"decision": "which", "second": [{"reads": ["a"]}, {"reads": ["a", "x"]}]},
}


def test_the_decided_network_gets_what_it_reads() -> None:
    seen: list[Any] = []

    def first(given: dict[str, Any]) -> dict[str, Any]:
        return {"which": np.array([int(given["x"] > 0)], np.int32), "a": 2 * given["x"]}

    def second(number: int) -> Any:
        return lambda given: seen.append((number, given)) or {"y": number}

    run = row.chain(NETWORK, [first, second(0), second(1)])
    assert run(-1.0) == (0, {"y": 0})
    assert run(3.0) == (1, {"y": 1})
    assert seen == [(0, {"a": -2.0}), (1, {"a": 6.0, "x": 3.0})]


def test_a_first_network_without_an_output_of_the_plan_is_refused() -> None:
    for made, missing in (({"a": 1}, "which"), ({"which": np.array([0])}, "a")):
        run = row.chain(NETWORK, [lambda given, made=made: made, dict, dict])  # type: ignore[misc]
        with pytest.raises(Failed, match="the first network has no output " + missing):
            run(1.0)


@pytest.mark.parametrize("value", [-1, 2, [0, 1], np.nan, np.inf, 0.5])
def test_a_decision_for_no_network_is_refused(value: Any) -> None:
    with pytest.raises(Failed, match="decides on second network"):
        row.decided(np.array(value), 2)


def test_a_decision_may_come_as_a_float() -> None:
    assert row.decided(np.array([1.0], np.float32), 2) == 1


def test_each_network_comes_as_often_as_pictures_need_it() -> None:
    numbers, shares = [0, 1, 0, 2], [0.6, 0.3, 0.1]
    taken = list(itertools.islice(row.schedule(numbers, shares), 100))
    assert Counter(numbers[place] for place in taken) == {0: 60, 1: 30, 2: 10}
    assert Counter(numbers[place] for place in taken[:10]) == {0: 6, 1: 3, 2: 1}  # also of a short block
    assert Counter(taken)[0] == Counter(taken)[2] == 30  # its pictures in turn


@pytest.mark.parametrize(("numbers", "shares"), [([0, 0, 1], []), ([0, 0, 1], [0.5, 0.3, 0.2])])
def test_without_shares_or_a_picture_for_each_all_come_in_turn(numbers: list[int], shares: list[float]) -> None:
    assert list(itertools.islice(row.schedule(numbers, shares), 6)) == [0, 1, 2, 0, 1, 2]


def test_a_network_that_hardly_any_picture_needs_may_be_missing() -> None:
    taken = list(itertools.islice(row.schedule([0, 1], [0.8, 0.19, 0.01]), 99))
    assert Counter(taken) == {0: 80, 1: 19}


def test_the_stream_says_which_network_ran() -> None:
    run = row.stream(lambda tensor: int(tensor), [0, 1], [0.5, 0.5])
    assert Counter(run() for _ in range(10)) == {0: 5, 1: 5}
