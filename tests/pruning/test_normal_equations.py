"""Fits from moments, against numpy's least squares on the samples themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from strategies import FitCase, fit_cases

from deploycc.pruning.normal_equations import Array, NormalEquations

RTOL, ATOL = 1e-6, 1e-9


def samples(seed: int, groups: int, count: int, inputs: int, outputs: int) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(groups, count, inputs)) + 0.3
    return x, random.normal(size=(groups, count, outputs))


def sums(x: Array, wanted: Array, pieces: int = 3) -> NormalEquations:
    found = NormalEquations(x.shape[0], x.shape[2], wanted.shape[2])
    for one, other in zip(np.array_split(x, pieces, axis=1), np.array_split(wanted, pieces, axis=1), strict=True):
        found.add(one, other)
    return found


@pytest.mark.parametrize("groups", [1, 3])
def test_a_small_penalty_is_ordinary_least_squares(groups: int) -> None:
    x, wanted = samples(0, groups, 50, 4, 2)
    got = sums(x, wanted).solve(1e-12)
    for group in range(groups):
        with_one = np.hstack([x[group], np.ones((50, 1))])
        expected = np.linalg.lstsq(with_one, wanted[group], rcond=None)[0]
        np.testing.assert_allclose(got[group], expected, rtol=RTOL, atol=ATOL)


def test_the_penalty_is_on_weights_and_not_on_the_shift() -> None:
    """Rows for the penalty below the samples: each weight times the root of its input's moment."""
    x, wanted = samples(1, 1, 30, 3, 2)
    ridge = 0.37
    below = np.hstack([np.diag(np.sqrt(ridge * (x[0] ** 2).sum(axis=0))), np.zeros((3, 1))])
    rows = np.vstack([np.hstack([x[0], np.ones((30, 1))]), below])
    expected = np.linalg.lstsq(rows, np.vstack([wanted[0], np.zeros((3, 2))]), rcond=None)[0]
    np.testing.assert_allclose(sums(x, wanted).solve(ridge)[0], expected, rtol=RTOL, atol=ATOL)


@given(fit_cases())
def test_no_fit_is_worse_than_no_change(case: FitCase) -> None:
    x, wanted = case.inputs, case.wanted
    found = sums(x, wanted)
    change = found.solve(case.ridge)
    rest = wanted - (x @ change[:, :-1] + change[:, None, -1])
    np.testing.assert_allclose(found.error(change), np.sum(rest**2, 1), rtol=RTOL, atol=RTOL * found.energy.sum())
    assert (found.error(change) <= found.energy * (1 + RTOL)).all()
    assert not change[:, :-1][np.all(x == 0, axis=1)].any()


def test_a_group_that_reads_nothing_keeps_its_constant() -> None:
    x, wanted = samples(3, 2, 40, 3, 2)
    x[0] = 0
    change = sums(x, wanted + 5).solve(1e-3)
    assert not change[0].any()
    assert (change[1][-1] > 1).all()


def test_scaling_an_input_changes_nothing_but_its_weights() -> None:
    x, wanted = samples(2, 1, 40, 3, 2)
    factors = np.array([1e-3, 1.0, 1e3])
    got, scaled = sums(x, wanted).solve(0.1), sums(x * factors, wanted).solve(0.1)
    np.testing.assert_allclose(scaled[0, :-1] * factors[:, None], got[0, :-1], rtol=RTOL, atol=ATOL)
    np.testing.assert_allclose(scaled[0, -1], got[0, -1], rtol=RTOL, atol=ATOL)


def test_without_samples_nothing_changes() -> None:
    found = NormalEquations(2, 3, 4)
    assert not found.solve(0.1).any()
    assert found.samples == 0
    assert not found.energy.any()
