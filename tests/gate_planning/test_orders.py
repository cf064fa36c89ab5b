"""Orders of kernels: permutations that keep units together and make few pieces do."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from planned_layers import prefixes

from deploycc.gate_planning.orders import boundaries, by_firing_together, by_prefix, by_utilisation, needed_width


@given(st.integers(1, 40), st.sampled_from([1, 2, 4]), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_orders_are_permutations_that_keep_units_together(units: int, size: int, pictures: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    unit_of = tuple(random.permutation(np.repeat(np.arange(units), size)).tolist())
    firing = random.random((pictures, units)) < random.random(units)
    active = firing[:, unit_of]
    for order in (by_utilisation(active, unit_of), by_prefix(active, unit_of), by_firing_together(active, unit_of, 8)):
        assert sorted(order.tolist()) == list(range(units * size))
        runs = [unit for unit, _ in itertools.groupby(np.asarray(unit_of)[order].tolist())]
        assert len(runs) == units
    used = active.mean(0)[by_utilisation(active, unit_of)]
    assert (np.diff(used) <= 0).all()


@given(st.integers(1, 24), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_a_width_covers_what_is_on_and_no_smaller_one_does(kernels: int, pictures: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    active = random.random((pictures, kernels)) < 0.4
    order = random.permutation(kernels)
    for row, width in zip(active[:, order], needed_width(active, order), strict=True):
        assert not row[width:].any()
        assert width == 0 or row[width - 1]


def test_by_prefix_asks_for_less_than_by_utilisation_where_kernels_fire_together() -> None:
    # Kernels 1 and 3 are on in the same pictures, though 1 less often than 2, which is on in others.
    active = np.zeros((100, 4), np.bool_)
    active[:, 0] = True
    active[:10, 1] = True
    active[50:62, 2] = True
    active[:14, 3] = True
    widths = [needed_width(active, order(active, range(4))).mean() for order in (by_prefix, by_utilisation)]
    assert widths[0] < widths[1]


def test_kernels_that_fire_together_share_a_block() -> None:
    random = np.random.default_rng(0)
    scenes = random.integers(0, 3, 200)
    scene_of = random.permutation(np.repeat(np.arange(3), 16))
    active = scenes[:, None] == scene_of[None, :]
    order = by_firing_together(active, range(48), 16)
    for block in np.split(scene_of[order], 3):
        assert len(set(block.tolist())) == 1


def test_boundaries_are_blocks_or_the_ends_of_units() -> None:
    assert boundaries(np.arange(40), range(40), 16) == (16, 32, 40)
    assert boundaries(np.arange(6), (0, 0, 0, 1, 1, 2), 16) == (3, 5, 6)
    assert boundaries(np.array([5, 3, 4, 0, 1, 2]), (0, 0, 0, 1, 1, 2), 16) == (1, 3, 6)
    divided = np.array([0, 3, 1, 2, 4, 5])
    assert boundaries(divided, (0, 0, 0, 1, 1, 2), 2) == (2, 4, 6)
    assert boundaries(np.arange(4), (0,) * 4, 16) == (4,)


def test_prefixes_need_their_own_width() -> None:
    active = prefixes(50, 64, [16, 64])
    assert set(needed_width(active, by_utilisation(active, range(64))).tolist()) == {16, 64}
