"""What a plan never does, whatever the gates say and the parts cost."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from planned_layers import layer, model, prefixes
from strategies import planned_rows

from deploycc.documents.gate_plan import check_layers
from deploycc.gate_planning.costs import CostModel
from deploycc.gate_planning.operations import Line
from deploycc.gate_planning.planner import MOST_PIECES, Planned, Surroundings, plan_lowerings, surroundings
from deploycc.gate_planning.regions import PlannedLayer, multiply

COSTS = st.fixed_dictionaries(
    {name: st.sampled_from([0.0, 0.005, 0.3]) for name in ("branch", "multiply", "pad", "concat")}
)
SCALES = st.sampled_from([1e-10, 1e-8, 1e-7])


def multiply_ms(layers: list[PlannedLayer], costs: object) -> float:
    return sum(multiply(each, costs).expected_ms for each in layers)  # type: ignore[arg-type]


@settings(max_examples=examples(60))
@given(planned_rows(), COSTS, SCALES, st.sampled_from([1.0, 1.05, 1.5]))
def test_a_plan_is_whole_consistent_and_never_worse_than_multiplying(
    layers: list[PlannedLayer], fixed: dict[str, float], scale: float, bound: float
) -> None:
    costs = model(layers, scale, **fixed)
    planned = plan_lowerings(layers, costs, max_worst_case=bound)
    plans = planned.layers()
    check_layers(plans)
    assert [plan.layer for plan in plans] == [each.name for each in layers]
    for plan, each in zip(plans, layers, strict=True):
        assert sorted(plan.order) == list(range(each.kernels))
        assert each.movable or plan.order == tuple(range(each.kernels))
        assert each.divisible or plan.lowering == "multiply"
        assert each.joins or not plan.joined
        assert len(plan.sizes) <= MOST_PIECES
    multiplying = multiply_ms(layers, costs)
    if planned.within:
        assert planned.all_on_ms <= planned.bound_ms * (1 + 1e-9)
        if multiplying <= planned.bound_ms:
            assert planned.expected_ms <= multiplying * (1 + 1e-9)
    else:
        assert multiplying > planned.bound_ms  # multiplying are among what can be chosen
        assert planned.all_on_ms <= multiplying * (1 + 1e-9)


def gated_pair(pictures: int = 200) -> list[PlannedLayer]:
    unit_of = tuple(k // 32 for k in range(64))
    return [
        layer("one", prefixes(pictures, 64, [32, 32, 64]), unit_of=unit_of, nested=True),
        layer("two", prefixes(pictures, 64, [32, 64], seed=1), unit_of=unit_of, nested=True, joins=True),
    ]


def lowerings(planned: Planned) -> list[str]:
    return [plan.lowering for plan in planned.layers()]


def test_a_pair_is_joined() -> None:
    layers = gated_pair()
    planned = plan_lowerings(layers, model(layers, 1e-7), max_worst_case=1.05)
    assert [(plan.lowering, plan.sizes, plan.joined) for plan in planned.layers()] == [
        ("widths", (32, 64), False),
        ("widths", (32, 64), True),
    ]
    assert planned.within


@pytest.mark.parametrize("dear", ["branch"])
def test_where_branches_are_dear_gates_multiply(dear: str) -> None:
    layers = gated_pair()
    planned = plan_lowerings(layers, model(layers, **{dear: 5.0}), max_worst_case=10.0)
    assert lowerings(planned) == ["multiply", "multiply"]


def test_the_bound_takes_the_slower_plan_with_the_better_worst_case() -> None:
    layers = gated_pair()
    costs = model(layers, 1e-7, branch=0.2)
    costs = CostModel(costs.grids, {**costs.lines, "multiply": Line(0.0, 0.0)})
    free = plan_lowerings(layers, costs, max_worst_case=9.0)
    assert free.all_on_ms > free.dense_ms * 1.01
    tight = plan_lowerings(layers, costs, max_worst_case=free.all_on_ms / free.dense_ms - 1e-6)
    assert tight.within
    assert tight.all_on_ms < free.all_on_ms
    assert tight.expected_ms >= free.expected_ms


@settings(max_examples=examples(25))
@given(planned_rows(), st.sampled_from([0, 50_000, 500_000]), st.sampled_from([1.0, 1.5]))
def test_copies_of_weights_stay_within_their_limit(layers: list[PlannedLayer], limit: int, bound: float) -> None:
    costs = model(layers, 1e-7)
    planned = plan_lowerings(layers, costs, max_worst_case=bound, max_added_bytes=limit)
    assert planned.added_bytes == sum(each.added_bytes for each in planned.chosen) <= limit
    if multiply_ms(layers, costs) <= planned.bound_ms:
        assert planned.expected_ms <= multiply_ms(layers, costs) * (1 + 1e-9)


def test_the_limit_takes_what_saves_most_for_its_bytes() -> None:
    unit_of = tuple(k // 16 for k in range(64))
    layers = [layer("one", prefixes(90, 64, [16, 32, 48, 64]), unit_of=unit_of, nested=True)]
    costs = model(layers, 1e-6, concat=50.0)  # no blocks, which need no copies
    free = plan_lowerings(layers, costs, max_worst_case=2.0)
    assert free.chosen[0].sizes == ((16, 32, 48, 64),)
    assert free.added_bytes == 4 * 9 * 64 * (16 + 32 + 48)
    tight = plan_lowerings(layers, costs, max_worst_case=2.0, max_added_bytes=free.added_bytes - 1)
    assert 0 < tight.added_bytes < free.added_bytes
    assert free.expected_ms < tight.expected_ms < multiply_ms(layers, costs)


def test_simpler_ways_are_known_for_every_lowered_region() -> None:
    planned = plan_lowerings(gated_pair(), model(gated_pair(), 1e-7), max_worst_case=1.05)
    (region,) = planned.chosen
    (ways,) = planned.simpler.values()
    assert list(ways) == ["fewer branches", "shorter rows", "multiply"]
    assert ways["fewer branches"][0].branches < region.branches
    assert [part.layers for part in ways["shorter rows"]] == [("one",), ("two",)]
    assert any(part.lowering == "widths" for part in ways["shorter rows"])
    assert all(part.lowering == "multiply" for part in ways["multiply"])
    assert sum(part.added_bytes for part in ways["shorter rows"]) <= region.added_bytes
    assert [plan.lowering for plan in planned.layers({region.layers: ways["multiply"]})] == ["multiply"] * 2


def test_gates_that_cost_more_than_the_bound_are_told() -> None:
    layers = gated_pair()
    around = Surroundings(others_ms=1.0, gates_ms=1.0)
    planned = plan_lowerings(layers, model(layers), max_worst_case=1.05, around=around)
    assert not planned.within
    assert planned.all_on_ms > planned.bound_ms


def test_gates_that_are_always_on_multiply() -> None:
    active = np.ones((50, 64), np.bool_)
    layers = [layer("one", active), layer("two", active, joins=True)]
    planned = plan_lowerings(layers, model(layers), max_worst_case=1.05)
    assert lowerings(planned) == ["multiply", "multiply"]


def test_a_convolution_without_gate_is_taken_along_or_left_out() -> None:
    first, second = gated_pair()
    tail = layer("tail", np.ones((200, 32), np.bool_), gated=False, joins=True, movable=False)
    layers = [first, second, tail]
    planned = plan_lowerings(layers, model(layers), max_worst_case=1.05)
    assert planned.layers()[-1].layer == "tail"
    assert planned.layers()[-1].sizes == (32,)
    dear = plan_lowerings(layers, model(layers, branch=5.0), max_worst_case=10.0)
    assert [plan.layer for plan in dear.layers()] == ["one", "two"]


def test_what_whole_networks_take_beside_the_convolutions() -> None:
    layers = gated_pair()
    costs = model(layers)
    convolutions = sum(float(costs.grids[each.convolution](64, 64)) for each in layers)
    masks = 2 * costs.lines["multiply"](64 * 400)
    around = surroundings(layers, costs, convolutions + 0.5, convolutions + 0.5 + masks + 0.1)
    assert around.others_ms == pytest.approx(0.5, rel=1e-9, abs=0)
    assert around.gates_ms == pytest.approx(0.1, rel=1e-9, abs=0)
    assert surroundings(layers, costs, 0.0, 0.0) == Surroundings(0.0, 0.0)


def test_thirteen_layers_and_a_thousand_vectors_take_seconds() -> None:
    random = np.random.default_rng(0)
    channels = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    layers = []
    for number, (inputs, kernels) in enumerate(itertools.pairwise(channels)):
        hidden = random.standard_normal((1000, 4))
        scores = hidden @ random.standard_normal((4, kernels)) + random.standard_normal(kernels) + 0.5
        layers.append(layer(f"conv{number}", scores > 0, inputs, joins=number > 0))
    costs = model(layers)
    start = time.process_time()
    planned = plan_lowerings(layers, costs, max_worst_case=1.05)
    assert time.process_time() - start < 20
    assert len(planned.layers()) == 13
