"""Statistics of latency samples: pure functions, nothing read, nothing kept.

Percentiles interpolate linearly between order statistics (type 7 of Hyndman and Fan, Sample Quantiles in Statistical
Packages, 1996; numpy's default). Successive latencies are correlated (clocks, heat, other programs), so intervals come
from the circular block bootstrap (Politis and Romano, 1992), which keeps neighbours together in blocks as long as the
samples' own correlation asks for; treating the samples as independent would make the intervals too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.99
"""Of every interval. A gate that runs on each commit may not cry wolf once in twenty."""

MIN_EFFECT = 0.02
"""Relative change of the median below which a difference is not called one, however many samples prove it. Chosen:
processes that run the same engine differ (memory layout, clocks), and no number of samples of one process shows by how
much, so a smaller change is not claimed."""

MIN_EFFECT_OF_PROCESSES = 0.05
"""The same bound where each side was measured in one process of its own. Chosen: what a process adds (its place in
memory, the state of clocks and caches when it ran) is in no interval then, and 2 % is not enough for it."""

MIN_PAIRS = 8
"""Pairs of blocks below which no difference is called one: the least and the greatest of n values enclose their true
median with a probability of 1 - 2 / 2^n, which is `CONFIDENCE` from 8 on."""

RESAMPLES = 1000

MAD_TO_SIGMA = 1.4826
"""Standard deviation over median absolute deviation of a normal distribution (1 / 0.6745)."""

OUTLIER_SCORE = 3.5
"""Modified z-score above which a sample is an outlier (Iglewicz and Hoaglin, How to Detect and Handle Outliers)."""

_CHUNK_ELEMENTS = 2_000_000

Direction = Literal["faster", "slower", "not significant"]


@dataclass(frozen=True)
class Summary:
    """What a set of samples says; times in ms.

    Attributes:
        samples: their number.
        p50_low, p50_high: bootstrap interval of the median, see `CONFIDENCE`.
        std: sample standard deviation (n - 1); 0 for one sample.
        mad: median absolute deviation from the median, unscaled.
        throughput_fps: 1000 / mean: pictures per second, one at a time.
    """

    samples: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    min_ms: float
    max_ms: float
    mean_ms: float
    std_ms: float
    mad_ms: float
    p50_low_ms: float
    p50_high_ms: float
    throughput_fps: float


@dataclass(frozen=True)
class Stability:
    """Whether the samples come from one steady state.

    Attributes:
        drift: median of the second half over that of the first, minus 1.
        outliers: samples with a modified z-score above `OUTLIER_SCORE`.
        variation: standard deviation over mean.
    """

    drift: float
    outliers: int
    variation: float


@dataclass(frozen=True)
class Change:
    """The candidate's median against the baseline's.

    Attributes:
        baseline_ms: its median.
        candidate_ms: its median.
        ratio: candidate over baseline; 1.05 is 5 % slower. In turns it is the median over pairs (`compare_pairs`).
        low, high: interval of the ratio, see `CONFIDENCE`.
        direction: ``faster`` or ``slower`` where the interval excludes 1 and the ratio differs from 1 by at least
            `MIN_EFFECT` (`MIN_EFFECT_OF_PROCESSES` for one process on each side); otherwise ``not significant``.
    """

    baseline_ms: float
    candidate_ms: float
    ratio: float
    low: float
    high: float
    direction: Direction


def summarise(samples_ms: ArrayLike) -> Summary:
    """Compute every figure of `Summary`.

    Args:
        samples_ms: [n] latencies in ms, n >= 1, in the order they were taken, warm-up excluded.

    Raises:
        ValueError: no samples, or one that is not positive and finite.
    """
    samples = _checked(samples_ms)
    p50, p90, p99, p999 = np.percentile(samples, [50, 90, 99, 99.9])
    low, high = _interval(_bootstrap_medians(samples, seed=0))
    mean = float(samples.mean())
    return Summary(
        samples=samples.size,
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        p999_ms=float(p999),
        min_ms=float(samples.min()),
        max_ms=float(samples.max()),
        mean_ms=mean,
        std_ms=float(samples.std(ddof=1)) if samples.size > 1 else 0.0,
        mad_ms=_mad(samples),
        p50_low_ms=low,
        p50_high_ms=high,
        throughput_fps=1000.0 / mean,
    )


def stability(samples_ms: ArrayLike) -> Stability:
    """Compute drift, outliers and variation.

    Args:
        samples_ms: [n] latencies in ms, n >= 1, in the order they were taken.

    Raises:
        ValueError: as in `summarise`.
    """
    samples = _checked(samples_ms)
    half = samples.size // 2
    drift = float(np.median(samples[-half:]) / np.median(samples[:half])) - 1 if half else 0.0
    spread = MAD_TO_SIGMA * _mad(samples)
    distance = np.abs(samples - np.median(samples))
    outliers = int(np.count_nonzero(distance > OUTLIER_SCORE * spread)) if spread > 0 else 0
    variation = float(samples.std(ddof=1) / samples.mean()) if samples.size > 1 else 0.0
    return Stability(drift, outliers, variation)


def compare_medians(
    baseline_ms: ArrayLike, candidate_ms: ArrayLike, *, seed: int = 0, effect: float = MIN_EFFECT
) -> Change:
    """Say whether the candidate is faster or slower than the baseline.

    Both sides are resampled independently; the interval is that of the ratio of their medians (percentile bootstrap,
    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

    Args:
        baseline_ms: [n] latencies in ms, in the order they were taken.
        candidate_ms: [m] latencies in ms, likewise.
        seed: of the bootstrap.
        effect: relative change below which no difference is claimed.

    Raises:
        ValueError: as in `summarise`.
    """
    baseline, candidate = _checked(baseline_ms), _checked(candidate_ms)
    before, after = float(np.median(baseline)), float(np.median(candidate))
    ratio = after / before
    ratios = _bootstrap_medians(candidate, seed=2 * seed + 1) / _bootstrap_medians(baseline, seed=2 * seed)
    low, high = _interval(ratios)
    return Change(before, after, ratio, low, high, _direction(ratio, low, high, effect))


def compare_pairs(baseline_ms: Sequence[ArrayLike], candidate_ms: Sequence[ArrayLike], *, seed: int = 0) -> Change:
    """Say whether the candidate is faster or slower than the baseline where both were measured in turns.

    The ratio is the median, over the pairs of blocks, of the ratio of the two blocks' medians: what slows the machine
    for longer than a pair of blocks lasts slows both, and leaves their ratio. Its interval comes from resampling pairs.

    Args:
        baseline_ms: the baseline's blocks of latencies in ms, in the order they were taken.
        candidate_ms: the candidate's, as many; each was taken directly before or after the one at its place.
        seed: of the bootstrap.

    Raises:
        ValueError: no blocks, or not as many on both sides, and as in `summarise`.
    """
    before, after = [_checked(block) for block in baseline_ms], [_checked(block) for block in candidate_ms]
    ratios = np.array([np.median(new) / np.median(old) for old, new in zip(before, after, strict=True)])
    if ratios.size == 0:
        raise ValueError("there are no blocks to compare")
    ratio = float(np.median(ratios))
    low, high = _interval(_bootstrap_medians(ratios, seed=seed))
    direction = _direction(ratio, low, high) if ratios.size >= MIN_PAIRS else "not significant"
    baseline, candidate = (float(np.median(np.concatenate(blocks))) for blocks in (before, after))
    return Change(baseline, candidate, ratio, low, high, direction)


def compare_through(
    reference_a_ms: Sequence[ArrayLike],
    baseline_ms: Sequence[ArrayLike],
    reference_b_ms: Sequence[ArrayLike],
    candidate_ms: Sequence[ArrayLike],
    *,
    seed: int = 0,
) -> Change:
    """Compare two engines that were each measured in turns with the same reference, maybe on different days.

    Each is divided by the reference, pair of blocks by pair; what slowed the machine slowed the reference too. The
    ratio is that of the two medians of these quotients, with its interval from resampling both sides' pairs.

    Args:
        reference_a_ms: blocks of the reference beside the baseline.
        baseline_ms: the baseline's blocks, as many, block i beside block i.
        reference_b_ms: blocks of the reference beside the candidate.
        candidate_ms: the candidate's blocks, as many.
        seed: of the bootstrap.

    Raises:
        ValueError: as `compare_pairs`.
    """
    sides = []
    for references, blocks in ((reference_a_ms, baseline_ms), (reference_b_ms, candidate_ms)):
        pairs = zip(map(_checked, references), map(_checked, blocks), strict=True)
        sides.append(np.array([np.median(block) / np.median(reference) for reference, block in pairs]))
        if sides[-1].size == 0:
            raise ValueError("there are no blocks to compare")
    before, after = sides
    ratio = float(np.median(after) / np.median(before))
    low, high = _interval(_bootstrap_medians(after, seed=2 * seed + 1) / _bootstrap_medians(before, seed=2 * seed))
    direction = _direction(ratio, low, high) if min(before.size, after.size) >= MIN_PAIRS else "not significant"
    baseline, candidate = (
        float(np.median(np.concatenate(list(map(_checked, blocks))))) for blocks in (baseline_ms, candidate_ms)
    )
    return Change(baseline, candidate, ratio, low, high, direction)


def compare_runs(baseline_medians_ms: ArrayLike, candidate_medians_ms: ArrayLike) -> Change:
    """Compare two engines that were each measured several times, by the spread of their runs.

    The interval is Student's for the difference of the mean logarithms, with a pooled variance: what differs from
    process to process is in it.

    Args:
        baseline_medians_ms: [n] median of each run in ms, n >= 1.
        candidate_medians_ms: [m] likewise; n + m >= 3.

    Raises:
        ValueError: as in `summarise`, or fewer than three runs.
    """
    before, after = np.log(_checked(baseline_medians_ms)), np.log(_checked(candidate_medians_ms))
    freedom = before.size + after.size - 2
    if freedom < 1:
        raise ValueError("the spread of runs needs three of them")
    squares = float(((before - before.mean()) ** 2).sum() + ((after - after.mean()) ** 2).sum())
    half = _student(freedom) * np.sqrt(squares / freedom * (1 / before.size + 1 / after.size))
    middle = float(after.mean() - before.mean())
    ratio, low, high = (float(np.exp(value)) for value in (middle, middle - half, middle + half))
    baseline, candidate = (float(np.median(np.exp(values))) for values in (before, after))
    return Change(baseline, candidate, ratio, low, high, _direction(ratio, low, high))


# Two-sided 99 % quantiles of Student's distribution for 1, 2, ... degrees of freedom; the last one also above.
_STUDENT_99 = (
    *(63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169),
    *(3.106, 3.055, 3.012, 2.977, 2.947, 2.921, 2.898, 2.878, 2.861, 2.845),
)


def _student(freedom: int) -> float:
    return _STUDENT_99[min(freedom, len(_STUDENT_99)) - 1]


def _direction(ratio: float, low: float, high: float, effect: float = MIN_EFFECT) -> Direction:
    if low > 1 and ratio >= 1 + effect:
        return "slower"
    if high < 1 and ratio <= 1 - effect:
        return "faster"
    return "not significant"


def block_length(samples_ms: ArrayLike) -> int:
    """Return how many successive samples a bootstrap block must keep together, 1 to n / 4.

    The automatic choice of Politis and White (Automatic Block-Length Selection for the Dependent Bootstrap, 2004,
    section 3.2, for the circular bootstrap), applied to "slower than the median", because the median is what is
    resampled and single outliers must not decide.

    Args:
        samples_ms: [n] latencies in ms, in the order they were taken.
    """
    samples = np.asarray(samples_ms, dtype=np.float64)
    n = samples.size
    above = (samples > np.median(samples)).astype(np.float64)
    above -= above.mean()
    longest = n // 4
    if longest < 2 or not above.any():
        return 1
    spectrum = np.abs(np.fft.rfft(above, 2 * n)) ** 2  # zero-padded: correlation without wrapping round
    covariance = np.fft.irfft(spectrum)[: longest + 1] / n
    noise = 2 * np.sqrt(np.log10(n) / n)
    quiet_lags = max(5, round(np.sqrt(np.log10(n))))
    loud = np.abs(covariance[1:] / covariance[0]) >= noise
    last = next((lag for lag in range(longest) if not loud[lag : lag + quiet_lags].any()), longest)
    lags = np.arange(1, min(2 * last, longest) + 1)
    if lags.size == 0:
        return 1
    window = np.clip(2 * (1 - lags / (2 * last)), 0, 1)  # flat, then falling to 0: their trapezoid
    slope = 2 * float(np.sum(window * lags * covariance[lags]))
    power = float(covariance[0] + 2 * np.sum(window * covariance[lags]))
    if power <= 0:
        return 1
    length = (1.5 * (slope / power) ** 2 * n) ** (1 / 3)  # (2 G^2 / D)^(1/3) n^(1/3) with D = 4/3 g(0)^2
    return int(np.clip(round(length), 1, longest))


def _checked(samples_ms: ArrayLike) -> NDArray[np.float64]:
    samples = np.asarray(samples_ms, dtype=np.float64)
    if samples.ndim != 1 or samples.size == 0:
        raise ValueError("samples must be a non-empty list of numbers")
    if not (np.isfinite(samples).all() and (samples > 0).all()):
        raise ValueError("samples must be positive and finite")
    return samples


def _mad(samples: NDArray[np.float64]) -> float:
    return float(np.median(np.abs(samples - np.median(samples))))


def _bootstrap_medians(samples: NDArray[np.float64], *, seed: int) -> NDArray[np.float64]:
    """Medians of `RESAMPLES` circular block resamples."""
    random = np.random.default_rng(seed)
    n = samples.size
    block = block_length(samples)
    if block == 1:
        return _medians_of_single_samples(samples, random)
    blocks = -(-n // block)
    wrapped = np.concatenate([samples, samples[: block - 1]])
    rows = np.lib.stride_tricks.sliding_window_view(wrapped, block)  # rows[s] is the block that starts at s
    medians = [
        np.median(rows[random.integers(0, n, (count, blocks))].reshape(count, -1)[:, :n], axis=1)
        for count in _chunks(RESAMPLES, max(1, _CHUNK_ELEMENTS // n))
    ]
    return np.concatenate(medians)


def _medians_of_single_samples(samples: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Draw medians of `RESAMPLES` resamples without drawing the resamples.

    A resample takes the sorted samples at places floor(n U), U uniform, so its median lies where the middle one of n
    uniform variables does: the k-th smallest is Beta(k, n - k + 1), and the next one is the least of n - k that are
    uniform above it (David and Nagaraja, Order Statistics, 2003, chapter 2).
    """
    n = samples.size
    middle = (n + 1) // 2
    lower = random.beta(middle, n - middle + 1, RESAMPLES)
    above = 0.0 if n % 2 else 1 - random.random(RESAMPLES) ** (1 / (n - middle))
    places = np.minimum((n * np.stack([lower, lower + (1 - lower) * above])).astype(np.intp), n - 1)
    medians: NDArray[np.float64] = np.sort(samples)[places].mean(axis=0)
    return medians


def _chunks(total: int, largest: int) -> Iterator[int]:
    for start in range(0, total, largest):
        yield min(largest, total - start)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
