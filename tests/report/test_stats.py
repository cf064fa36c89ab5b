from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from mutation import mutant
from numpy.typing import NDArray
from strategies import latency_samples

from deploycc.report import stats
from deploycc.report.stats import (
    MIN_EFFECT,
    block_length,
    compare_medians,
    compare_pairs,
    compare_runs,
    stability,
    summarise,
)

SCALED = ("p50_ms", "p90_ms", "p99_ms", "min_ms", "max_ms", "mean_ms", "std_ms", "mad_ms", "p50_low_ms", "p50_high_ms")


@settings(max_examples=examples(40), deadline=None)
@given(latency_samples())
def test_figures_are_ordered(samples: NDArray[np.float64]) -> None:
    s = summarise(samples)
    tiny = 1e-12 * s.max_ms  # interpolation rounds

    assert s.min_ms <= s.p50_ms + tiny <= s.p90_ms + 2 * tiny <= s.p99_ms + 3 * tiny <= s.max_ms + 4 * tiny
    assert s.min_ms - tiny <= s.p50_low_ms <= s.p50_high_ms <= s.max_ms + tiny
    assert s.min_ms - tiny <= s.mean_ms <= s.max_ms + tiny
    assert 0 <= s.mad_ms <= s.max_ms - s.min_ms + tiny
    assert s.throughput_fps * s.mean_ms == pytest.approx(1000, rel=1e-9, abs=0)


@settings(max_examples=examples(30), deadline=None)
@given(latency_samples(), st.sampled_from([0.25, 2.0, 1024.0]))
def test_units_do_not_matter(samples: NDArray[np.float64], factor: float) -> None:
    plain, scaled = summarise(samples), summarise(samples * factor)

    for name in SCALED:
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name) * factor, rel=1e-9, abs=1e-12)
    assert stability(samples * factor).outliers == stability(samples).outliers
    assert stability(samples * factor).drift == pytest.approx(stability(samples).drift, rel=1e-9, abs=1e-12)


@settings(max_examples=examples(30), deadline=None)
@given(latency_samples(), latency_samples())
def test_swapping_the_sides_turns_the_answer_round(a: NDArray[np.float64], b: NDArray[np.float64]) -> None:
    forth, back = compare_medians(a, b), compare_medians(b, a)

    assert forth.ratio * back.ratio == pytest.approx(1, rel=1e-9, abs=0)
    assert forth.low <= forth.high
    if forth.direction != "not significant":
        assert back.direction != forth.direction


@settings(max_examples=examples(20), deadline=None)
@given(latency_samples())
def test_a_run_is_not_different_from_itself(samples: NDArray[np.float64]) -> None:
    change = compare_medians(samples, samples)

    assert change.ratio == 1
    assert change.direction == "not significant"


def _distance(module: ModuleType, count: int) -> float:
    """Kolmogorov-Smirnov distance of medians drawn directly to those of resamples."""
    samples = np.random.default_rng(count).gamma(4, size=count)
    direct = module._medians_of_single_samples(samples, np.random.default_rng(1))
    resampled = np.median(samples[np.random.default_rng(2).integers(0, count, (len(direct), count))], axis=1)
    values = np.concatenate([direct, resampled]) + 1e-12
    shares = [np.searchsorted(np.sort(medians), values, "right") / len(medians) for medians in (direct, resampled)]
    return float(np.max(np.abs(shares[0] - shares[1])))


@pytest.mark.parametrize("count", [1, 2, 5, 6, 50, 51])
def test_medians_of_resamples_are_drawn_directly(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 20_000)
    assert _distance(stats, count) < 0.0163  # 1 % of equal distributions differ by more


@pytest.mark.parametrize(
    ("old", "new", "count"),
    [
        ("middle = (n + 1) // 2", "middle = n // 2 + 1", 6),
        ("1 / (n - middle)", "1 / n", 6),
        ("(n * np.stack", "((n - 1) * np.stack", 5),
    ],
)
def test_planted_bugs_in_drawing_medians_show(old: str, new: str, count: int) -> None:
    wrong = mutant(stats, old, new)
    wrong.__dict__["RESAMPLES"] = 20_000
    assert _distance(wrong, count) > 0.0163


def test_the_interval_of_several_runs_is_students() -> None:
    change = compare_runs([1.0, np.e], [1.0, np.e])
    half = 9.925 * 0.5**0.5 * (1 / 2 + 1 / 2) ** 0.5  # two degrees of freedom; each side's squares add up to 0.5
    assert (change.low, change.high) == (pytest.approx(np.exp(-half), rel=1e-9), pytest.approx(np.exp(half), rel=1e-9))
    with pytest.raises(ValueError, match="three"):
        compare_runs([1.0], [2.0])


def test_known_values() -> None:
    s = summarise(np.arange(1, 102, dtype=float))  # 1..101: percentile p is 1 + p

    assert (s.samples, s.p50_ms, s.p90_ms, s.p99_ms, s.min_ms, s.max_ms) == (101, 51, 91, 100, 1, 101)
    assert s.mean_ms == 51
    assert s.mad_ms == 25
    assert s.std_ms == pytest.approx(np.sqrt(101 * 102 / 12), rel=1e-12, abs=0)  # of n consecutive integers, n - 1
    assert s.throughput_fps == pytest.approx(1000 / 51, rel=1e-12, abs=0)


def test_one_sample_is_enough_for_a_summary() -> None:
    s = summarise([3.0])

    assert (s.p50_ms, s.p99_ms, s.std_ms, s.mad_ms, s.p50_low_ms, s.p50_high_ms) == (3, 3, 0, 0, 3, 3)
    assert stability([3.0]) == stability([3.0, 3.0])


@pytest.mark.parametrize("samples", [[], [0.0], [-1.0], [float("nan")], [float("inf")], [[1.0]]])
def test_what_is_no_latency_is_refused(samples: list[float]) -> None:
    with pytest.raises(ValueError, match="samples must be"):
        summarise(samples)


def test_the_same_distribution_is_rarely_called_different() -> None:
    """The effect-size threshold is out of play here: the noise is far above it, so this tests the interval."""
    different = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        a, b = (10 * np.exp(0.3 * random.standard_normal(150)) for _ in range(2))
        different += compare_medians(a, b, seed=seed).direction != "not significant"

    assert different <= 5


@pytest.mark.parametrize("memory", [0.6, 0.9])
def test_correlated_noise_is_rarely_called_different(memory: float) -> None:
    """Latency drifts in a real run; treating samples as independent calls a fifth of such pairs different."""
    different = 0
    for seed in range(30):
        random = np.random.default_rng(seed)
        a, b = (10 * np.exp(_autoregressive(random, 1000, memory, 0.1)) for _ in range(2))
        different += compare_medians(a, b, seed=seed).direction != "not significant"

    assert different <= 1


def test_blocks_are_as_long_as_the_correlation() -> None:
    random = np.random.default_rng(0)
    independent = 10 + random.random(1000)
    correlated = 10 * np.exp(_autoregressive(random, 1000, 0.9, 0.1))
    stepping = 10 + random.random(1000) + 2 * (np.arange(1000) // 250 % 2)

    assert block_length(independent) <= 3
    assert 8 <= block_length(correlated) <= 80
    assert block_length(stepping) >= 50  # the cube root of n is 10
    assert block_length(np.full(1000, 10.0)) == 1
    assert block_length([1.0, 2.0]) == 1


def test_steps_that_a_run_happened_to_hit_are_no_difference() -> None:
    """Another program slows both runs for seconds, at other times: neither engine is faster."""
    random = np.random.default_rng(0)
    a, b = 10 + random.random((2, 1000))
    a[300:700] += 4
    b[100:300] += 4
    b[600:950] += 4

    assert compare_medians(a, b).direction == "not significant"


@pytest.mark.parametrize(("shift", "expected"), [(1.05, "slower"), (1 / 1.05, "faster")])
def test_a_planted_shift_is_found(shift: float, expected: str) -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        a, b = (10 * (1 + 0.03 * random.standard_normal(500)) for _ in range(2))
        change = compare_medians(a, b * shift)

        assert change.direction == expected
        assert change.low <= shift <= change.high or abs(change.ratio / shift - 1) < 0.01


def test_a_proven_but_tiny_shift_is_not_called_one() -> None:
    random = np.random.default_rng(0)
    a = 10 * (1 + 0.001 * random.standard_normal(5000))
    change = compare_medians(a, a * (1 + MIN_EFFECT / 2))

    assert change.low > 1
    assert change.direction == "not significant"


def test_the_interval_of_the_median_covers_it() -> None:
    covered = 0
    for seed in range(100):
        samples = np.random.default_rng(seed).exponential(10.0, 200) + 1
        s = summarise(samples)
        covered += s.p50_low_ms <= 1 + 10 * np.log(2) <= s.p50_high_ms

    assert covered >= 95  # 99 % nominally


def test_drift_and_outliers_are_seen() -> None:
    random = np.random.default_rng(0)
    steady = 10 * (1 + 0.01 * random.standard_normal(400))
    heating = steady * np.linspace(1.0, 1.4, 400)
    disturbed = steady.copy()
    disturbed[::40] *= 3

    assert abs(stability(steady).drift) < 0.01
    assert stability(heating).drift == pytest.approx(1.3 / 1.1 - 1, rel=0.05, abs=0)
    assert stability(steady).outliers <= 2
    assert 10 <= stability(disturbed).outliers <= 12


def test_many_samples_stay_cheap() -> None:
    samples = np.random.default_rng(0).exponential(1.0, 50_000) + 1

    assert summarise(samples).samples == 50_000  # the bootstrap works in portions: 400 MB at once otherwise


def _autoregressive(random: np.random.Generator, count: int, memory: float, sigma: float) -> NDArray[np.float64]:
    noise = random.standard_normal(count) * sigma * np.sqrt(1 - memory**2)
    values = np.empty(count)
    values[0] = random.standard_normal() * sigma
    for i in range(1, count):
        values[i] = memory * values[i - 1] + noise[i]
    return values


@settings(max_examples=examples(20), deadline=None)
@given(st.lists(latency_samples(max_size=20), min_size=1, max_size=12))
def test_pairs_of_the_same_blocks_are_not_different(blocks: list[NDArray[np.float64]]) -> None:
    change = compare_pairs(blocks, blocks)

    assert (change.ratio, change.low, change.high, change.direction) == (1, 1, 1, "not significant")


@settings(max_examples=examples(20), deadline=None)
@given(st.lists(latency_samples(max_size=20), min_size=8, max_size=12), st.sampled_from([0.5, 2.0]))
def test_a_factor_is_found_whatever_the_blocks_have_in_common(blocks: list[NDArray[np.float64]], factor: float) -> None:
    change = compare_pairs(blocks, [block * factor for block in blocks])

    assert (change.ratio, change.low, change.high) == (factor, factor, factor)
    assert change.direction == ("faster" if factor < 1 else "slower")
    assert compare_pairs(blocks[:7], [block * factor for block in blocks[:7]]).direction == "not significant"


def test_pairs_of_equal_engines_are_rarely_called_different() -> None:
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(60):
        clock = 1 + 0.3 * random.random((20, 1))  # the machine changes from pair to pair
        first, second = (10 * clock * np.exp(0.02 * random.standard_normal((20, 30))) for _ in range(2))
        wrong += compare_pairs(list(first), list(second)).direction != "not significant"
    assert wrong == 0


def test_pairs_belong_together() -> None:
    with pytest.raises(ValueError, match="shorter"):
        compare_pairs([[1.0], [1.0]], [[1.0]])
    with pytest.raises(ValueError, match="no blocks"):
        compare_pairs([], [])
