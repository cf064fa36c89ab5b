"""Staircases fitted to few times, some of which are wrong."""

from __future__ import annotations

import numpy as np
import pytest

from deploycc.timing.staircase import NetworkTimes, Staircases

LAYERS = 4


def planted(channels: np.ndarray, width: int, step: int) -> np.ndarray:
    """0.05 ms for a launch, 1 ms per 16,384 products of whole tiles."""
    inputs, kernels = -(-channels[:, 0] // step) * step, -(-channels[:, 1] // width) * width
    return 0.05 + inputs * kernels / 16384


def networks(width: int, step: int, count: int, disturbed: float, noise: float = 0.02) -> list[NetworkTimes]:
    generator, made = np.random.default_rng(width), []
    for _ in range(count):
        channels = 8 * generator.integers(4, 33, (LAYERS, 2))
        hit = generator.random((1, LAYERS)) < disturbed  # whatever is wrong is so in each profile of an engine
        wrong = np.where(hit, generator.uniform(1.5, 3.0, hit.shape), 1.0)
        times_ms = planted(channels, width, step) * (1 + noise * generator.standard_normal((3, LAYERS))) * wrong
        made.append(NetworkTimes(channels, times_ms))
    return made


@pytest.mark.parametrize("width", [32, 48, 64])
def test_the_tile_is_found_although_a_fifth_of_the_times_is_wrong(width: int) -> None:
    stairs = Staircases(networks(width, 8, 14, 0.2))
    assert [stairs.width(layer) for layer in range(LAYERS)] == [width] * LAYERS
    unseen = np.array([[64, kernels] for kernels in range(32, 257, 8)])
    for layer in range(LAYERS):
        found, _ = stairs.times_ms(layer, unseen)
        np.testing.assert_allclose(found, planted(unseen, width, 8) * 0.983, rtol=0.12, atol=0)  # least of three


def test_hypotheses_disagree_where_nothing_was_timed_yet() -> None:
    few, many = (Staircases(networks(64, 8, count, 0.0)) for count in (2, 10))
    between = np.array([[128, 136], [128, 192]])
    apart = [float(stairs.times_ms(0, between)[1].max()) for stairs in (few, many)]
    assert apart[1] < 0.3 * apart[0]


def test_a_layer_that_a_profile_does_not_name_costs_nothing_and_stops_nothing() -> None:
    made = networks(32, 8, 6, 0.0)
    for network in made:
        network.times_ms[:, 0] = np.nan
    made[0].times_ms[0, 1] = np.nan
    stairs = Staircases(made)
    assert stairs.times_ms(0, np.array([[64, 64]]))[0][0] == 0
    assert stairs.width(1) == 32


def test_neither_a_launch_nor_a_channel_takes_less_than_no_time() -> None:
    channels = np.array([[[64, 32]], [[64, 256]]])
    for times in ([1.0, 0.5], [0.1, 1.9]):  # faster with more kernels; slower than proportional
        stairs = Staircases([NetworkTimes(at, np.array([[ms]])) for at, ms in zip(channels, times, strict=True)])
        made = stairs.times_ms(0, np.array([[64, 8], [64, 32], [64, 512]]))[0]
        assert made[0] > 0
        assert (np.diff(made) >= 0).all()
