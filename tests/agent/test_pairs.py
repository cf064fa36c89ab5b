"""How well pairs of blocks tell a ratio."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deploycc.agent.pairs import MIN_PAIRS, ratio_spread


def outside(count: int) -> int:
    """Ranks that the exact sign test leaves outside each end of its 99 % interval."""
    tail = np.cumsum([math.comb(count, below) / 2**count for below in range(count)])
    return int((tail <= 0.005).sum()) - 1


@pytest.mark.parametrize("count", [*range(MIN_PAIRS, 60), 100, 333, 1000])
def test_the_interval_is_that_of_the_sign_test_or_one_rank_wider(count: int) -> None:
    ratios = [1.0 + rank / count for rank in range(count)]
    median = float(np.median(ratios))
    allowed = [(ratios[-1 - rank] - ratios[rank]) / 2 / median for rank in (outside(count), max(0, outside(count) - 1))]
    shuffled = np.random.default_rng(0).permutation(ratios).tolist()
    half = ratio_spread([2.0] * count, [2.0 * ratio for ratio in shuffled])
    assert min(abs(half - each) for each in allowed) < 1e-12


def test_fewer_pairs_never_tell() -> None:
    assert ratio_spread([1.0] * 7, [1.0] * 7) == math.inf
    assert ratio_spread([1.0] * 8, [1.0] * 8) == 0.0


def test_many_pairs_do_not_underflow() -> None:
    assert ratio_spread([1.0] * 100_000, [1.0, 1.5] * 50_000) == pytest.approx(0.2)


def test_the_true_ratio_is_inside_as_often_as_said() -> None:
    """Ratios have a long tail, as where other programs take the processor; the interval covers the true median."""
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        ratios = np.exp(0.1 * random.standard_t(2, 20))
        half = ratio_spread([1.0] * 20, ratios.tolist())
        ordered, middle = np.sort(ratios), float(np.median(ratios))
        assert ordered[-1 - outside(20)] - ordered[outside(20)] == pytest.approx(2 * half * middle)
        covered += bool(ordered[outside(20)] <= 1.0 <= ordered[-1 - outside(20)])
    assert covered >= 985
