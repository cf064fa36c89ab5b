"""Predicted times of regions against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planned_layers import convolution, layer, model, prefixes

from deploycc.gate_planning.regions import LayerTimes, added_bytes, best_order, blocks, choose_widths, multiply, widths


@given(st.integers(1, 7), st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_chosen_widths_are_the_best_of_all(candidates: int, pictures: int, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    need = random.integers(0, candidates, pictures)
    cost = random.random((pictures, candidates))

    def total(chosen: tuple[int, ...]) -> float:
        return sum(float(cost[row, min(each for each in chosen if each >= own)]) for row, own in enumerate(need))

    last = candidates - 1
    sets = [
        (*some, last) for size in range(min(count, candidates)) for some in itertools.combinations(range(last), size)
    ]
    found = choose_widths(need, cost, count)
    assert list(found) == sorted(set(found.tolist()))
    assert found[-1] == last
    assert len(found) <= count
    assert total(tuple(found.tolist())) == pytest.approx(min(map(total, sets)), rel=1e-9, abs=1e-12)


def test_a_region_takes_the_sum_of_its_parts() -> None:
    one = layer("one", prefixes(200, 64, [16, 48]), nested=False, start_elements=1000)
    two = layer("two", prefixes(200, 96, [32, 96], seed=1), joins=True)
    costs = model([one, two])
    times = [LayerTimes(each, costs, np.arange(each.kernels)) for each in (one, two)]
    found = widths(times, (2, 2))
    assert found.sizes == ((16, 64), (32, 96)) or found.sizes[0] == (48, 64)
    mask, pad, branch = costs.lines["multiply"], costs.lines["pad"], costs.lines["branch"]
    expected = 0.0
    for first, second in zip(one.active.sum(1), two.active.sum(1), strict=True):
        w = next(size for size in found.sizes[0] if size >= first)
        v = next(size for size in found.sizes[1] if size >= second)
        expected += float(costs.grids[one.convolution](64, w)) + mask(w * 400)
        expected += float(costs.grids[two.convolution](w, v)) + mask(v * 400)
        expected += (pad(96 * 400) if v < 96 else 0) + branch.element_ms * 96 * 400
    expected = expected / 200 + 2 * branch.fixed_ms + branch.element_ms * 1000
    assert found.expected_ms == pytest.approx(expected, rel=1e-9, abs=1e-9)
    everything = float(costs.grids[one.convolution](64, 64)) + mask(64 * 400)
    everything += float(costs.grids[two.convolution](64, 96)) + mask(96 * 400) + branch.element_ms * 96 * 400
    fixed = 2 * branch.fixed_ms + branch.element_ms * 1000
    assert found.all_on_ms == pytest.approx(everything + fixed, rel=1e-9, abs=1e-9)


def test_nested_units_need_no_mask() -> None:
    active = prefixes(50, 64, [32, 64])
    unit_of = tuple([0] * 32 + [1] * 32)
    free = layer("a", active, unit_of=unit_of, nested=True)
    multiplying = layer("a", active, unit_of=unit_of)
    costs = model([free])
    saved = (
        widths([best_order(multiplying, costs)], (2,)).expected_ms - widths([best_order(free, costs)], (2,)).expected_ms
    )
    sizes = active.sum(1)
    assert saved == pytest.approx(np.mean([costs.lines["multiply"](400 * int(w)) for w in sizes]), rel=1e-9, abs=1e-12)


def test_blocks_of_kernels_that_fire_together() -> None:
    random = np.random.default_rng(0)
    scene = random.integers(0, 3, 300)
    scene_of = random.permutation(np.repeat(np.arange(4), 16))
    active = (scene[:, None] == scene_of[None, :]) | (scene_of[None, :] == 3)
    one = layer("one", active)
    found = blocks(one, model([one]), 4)
    assert found is not None
    assert found.always == 16
    assert found.sizes == ((16, 16, 16),)
    assert {scene_of[kernel] for kernel in found.orders[0][:16]} == {3}
    assert found.expected_ms < multiply(one, model([one])).expected_ms < found.all_on_ms


def test_more_blocks_are_not_taken_where_branches_are_dear() -> None:
    random = np.random.default_rng(0)
    active = random.random((300, 64)) < np.repeat([0.9, 0.1], 32)
    one = layer("one", active)
    few = blocks(one, model([one], branch=10.0), 4)
    assert few is not None
    assert len(few.sizes[0]) == 1


def test_copies_of_joined_layers_multiply() -> None:
    three = [convolution(8, 16), convolution(16, 32), convolution(32, 4)]
    alone = added_bytes(three[:1], [(8, 16)])
    assert alone == 4 * 9 * 8 * 8
    second = 9 * ((8 + 16) * (16 + 32) - 16 * 32)
    assert added_bytes(three[:2], [(8, 16), (16, 32)]) == alone + 4 * second
    third = 9 * (2 * (16 + 32) * 4 - 32 * 4)
    assert added_bytes(three, [(8, 16), (16, 32), (4,)]) == alone + 4 * (second + third)
    assert added_bytes(three[:2], [(0, 16), (32,)]) == 0
