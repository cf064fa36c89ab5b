"""The check of a plan by whole networks, with a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from gated_networks import Spelling, gated
from numpy.typing import NDArray
from planned_layers import layer, model, prefixes

from deploycc.documents.gate_plan import LayerPlan
from deploycc.gate_planning import check
from deploycc.gate_planning.check import Checked, Networks, check_plan, graph_session, least, time_pictures
from deploycc.gate_planning.planner import plan_lowerings
from deploycc.timing.machine import this_machine
from deploycc.timing.timer import LocalTimer

UNIT_OF = tuple(k // 32 for k in range(64))
TIMER = LocalTimer(this_machine(1))


def checked(
    monkeypatch: pytest.MonkeyPatch,
    cost: Mapping[str, float],
    all_on: Mapping[str, float],
    unlucky: int = 0,
    go_on: Callable[[int], bool] = lambda ways: True,
) -> Checked:
    """Two regions, ``one`` and ``two``; a network takes 10 ms and what its lowered regions cost, in either state.

    The first ``unlucky`` timings of the worst case take 1 ms more.
    """
    extra = [1.0] * unlucky
    layers = [layer(name, prefixes(40, 64, [32, 64]), unit_of=UNIT_OF, nested=True) for name in ("one", "two")]
    planned = plan_lowerings(layers, model(layers, 1e-7), max_worst_case=2.0)
    assert [plan.lowering for plan in planned.layers()] == ["widths", "widths"]
    graph = gated(Spelling()).graph

    def lower(source: gs.Graph, plans: Sequence[LayerPlan]) -> Any:
        return source.name, frozenset(plan.layer for plan in plans if plan.lowering != "multiply")

    def timed(
        sessions: Mapping[str, Any], pictures: Sequence[Any], *_: Any, **__: Any
    ) -> dict[str, NDArray[np.float64]]:
        found = {}
        for key, session in sessions.items():
            name, lowered = session if isinstance(session, tuple) else (session.name, frozenset())
            costs = all_on if name == "all_on" else cost
            more = extra.pop() if name == "all_on" and extra else 0.0
            found[key] = np.full((2, len(pictures)), 10 + sum(costs[each] for each in lowered) + more)
        return found

    monkeypatch.setattr(check, "graph_session", lambda graph, timer: graph)
    monkeypatch.setattr(check, "time_pictures", timed)
    multiply, dense, on = graph.copy(), graph.copy(), graph.copy()
    multiply.name, dense.name, on.name = "multiply", "dense", "all_on"
    pictures = [np.zeros((1, 3, 6, 6), np.float32)] * 3
    return check_plan(
        planned, Networks(multiply, dense, on), lower, pictures, timer=TIMER, max_worst_case=1.05, go_on=go_on
    )


def lowered(result: Checked) -> list[str]:
    return [plan.layer for plan in result.layers if plan.lowering != "multiply"]


def test_what_pays_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    result = checked(monkeypatch, {"one": -2.0, "two": -1.0}, {"one": 0.1, "two": 0.1})
    assert lowered(result) == ["one", "two"]
    assert [verdict.saved_ms for verdict in result.verdicts] == [2.0, 1.0]
    assert result.worst_case == pytest.approx(1.02, rel=1e-9, abs=0)
    assert least(result.samples_ms["lowered"]).tolist() == [7.0] * 3


@pytest.mark.parametrize(("unlucky", "kept"), [(1, ["one", "two"]), (2, ["one", "two"]), (3, ["two"])])
def test_a_worst_case_that_is_missed_is_timed_again(
    monkeypatch: pytest.MonkeyPatch, unlucky: int, kept: list[str]
) -> None:
    result = checked(monkeypatch, {"one": -2.0, "two": -1.0}, {"one": 0.1, "two": 0.1}, unlucky)
    assert lowered(result) == kept
    assert len(result.worst_ms["dense"]) == len(result.worst_ms["lowered"]) == {1: 4, 2: 6, 3: 2}[unlucky]
    assert result.worst_case <= 1.05


def test_a_region_that_does_not_pay_falls_back_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    result = checked(monkeypatch, {"one": 0.5, "two": -1.0}, {"one": 0.0, "two": 0.0})
    assert lowered(result) == ["two"]
    assert [(verdict.kept, verdict.saved_ms) for verdict in result.verdicts] == [(False, -0.5), (True, 1.0)]
    assert "multiplying" in result.verdicts[0].why


def joined(
    monkeypatch: pytest.MonkeyPatch,
    cost: Mapping[tuple[str, ...], float],
    worst: Mapping[tuple[str, ...], float] | None = None,
) -> Checked:
    """One region of two layers; what is added to 10 ms is stated by the pieces of its layers.

    ``worst``: the same with everything on, else nothing is added there.
    """
    unit_of = tuple(k // 16 for k in range(64))
    widths = [16, 32, 48, 64]
    layers = [
        layer("one", prefixes(90, 64, widths), unit_of=unit_of, nested=True),
        layer("two", prefixes(90, 64, widths, seed=1), unit_of=unit_of, nested=True, joins=True),
    ]
    planned = plan_lowerings(layers, model(layers, 1e-6), max_worst_case=2.0)
    (region,) = planned.chosen
    assert [len(each) for each in region.sizes] == [4, 4]
    graph = gated(Spelling()).graph
    on = graph.copy()

    def lower(source: gs.Graph, plans: Sequence[LayerPlan]) -> Any:
        state = ("all on",) if source is on else ()
        return state + tuple(f"{len(plan.sizes)}{'+' if plan.joined else ''}" for plan in plans)

    def timed(
        sessions: Mapping[str, Any], pictures: Sequence[Any], *_: Any, **__: Any
    ) -> dict[str, NDArray[np.float64]]:
        found = {}
        for key, each in sessions.items():
            known = (worst or {}, each[1:]) if isinstance(each, tuple) and each[0] == "all on" else (cost, each)
            added = known[0].get(known[1], 0.0) if isinstance(each, tuple) else 0.0
            found[key] = np.full((2, len(pictures)), 10 + added)
        return found

    monkeypatch.setattr(check, "graph_session", lambda graph, timer: graph)
    monkeypatch.setattr(check, "time_pictures", timed)
    pictures = [np.zeros((1, 3, 6, 6), np.float32)] * 3
    return check_plan(planned, Networks(graph, graph, on), lower, pictures, timer=TIMER, max_worst_case=1.05)


def test_a_region_falls_back_layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    result = joined(monkeypatch, {("4", "4+"): -1.0, ("4", "4"): -2.0})
    assert [(plan.lowering, plan.joined) for plan in result.layers] == [("widths", False)] * 2
    (verdict,) = result.verdicts
    assert verdict.kept
    assert verdict.saved_ms == pytest.approx(2.0, rel=1e-9, abs=0)
    assert verdict.why == "shorter rows instead: 1.000 ms faster"


def test_fewer_branches_are_taken_where_they_are_nearly_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    every = {(str(one), f"{two}+"): -2.0 for one in range(1, 5) for two in range(1, 5)}
    result = joined(monkeypatch, {**every, ("4", "4+"): -2.03})
    assert all(plan.lowering == "widths" for plan in result.layers)
    (verdict,) = result.verdicts
    assert verdict.why == "fewer branches instead: 0.030 ms slower, nearly the same"
    assert (sum(part.branches for part in verdict.parts) + 1) * 2 <= 16
    assert sum(part.added_bytes for part in verdict.parts) < verdict.choice.added_bytes


def test_the_worst_case_decides_too(monkeypatch: pytest.MonkeyPatch) -> None:
    result = checked(monkeypatch, {"one": -2.0, "two": -1.0}, {"one": 0.4, "two": 0.4})
    assert len(lowered(result)) == 1
    assert result.worst_case == pytest.approx(1.04, rel=1e-9, abs=0)
    fallen = next(verdict for verdict in result.verdicts if not verdict.kept)
    assert "1.080" in fallen.why


def test_what_there_is_no_time_to_judge_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def once(ways: int) -> bool:
        asked.append(ways)
        return len(asked) == 1

    result = checked(monkeypatch, {"one": -2.0, "two": -1.0}, {"one": 0.1, "two": 0.1}, go_on=once)
    assert len(asked) == 2
    assert len(lowered(result)) == 1
    [left_out] = [verdict for verdict in result.verdicts if not verdict.kept]
    assert left_out.why == "the budget was over before it was timed"


def test_fewer_branches_are_tried_before_multiplying_where_the_worst_case_is_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = {(str(one), f"{two}+"): -1.0 for one in range(1, 5) for two in range(1, 5)}
    ways = joined(monkeypatch, {**every, ("4", "4+"): -2.0})
    assert ways.verdicts[0].why == ""
    result = joined(monkeypatch, {**every, ("4", "4+"): -2.0}, worst={("4", "4+"): 0.7})
    (verdict,) = result.verdicts
    assert verdict.kept
    assert verdict.parts != (verdict.choice,)
    assert verdict.saved_ms == pytest.approx(1.0, rel=1e-9, abs=0)
    assert (
        verdict.why
        == "fewer branches instead: with every kernel on, the network takes 1.070 times as long as the dense one"
    )
    assert result.worst_case == 1.0


def test_a_bound_that_multiplying_misses_too_is_left_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    result = checked(monkeypatch, {"one": -2.0, "two": -1.0}, {"one": 9.0, "two": 9.0})
    assert lowered(result) == []
    assert result.worst_case == 1.0


def test_networks_are_really_timed() -> None:
    graph = gated(Spelling()).graph
    sessions = {name: graph_session(graph, TIMER) for name in ("a", "b")}
    pictures = [np.zeros((1, 3, 6, 6), np.float32)] * 4
    samples = time_pictures(sessions, pictures, 0.2, least_rounds=2, timer=TIMER)
    assert set(samples) == {"a", "b"}
    assert samples["a"].shape == samples["b"].shape
    assert samples["a"].shape[0] >= 2
    assert samples["a"].shape[1] == 4
    assert (samples["a"] > 0).all()
