"""How well pairs of blocks tell what one engine takes of another's time."""

import math
from typing import List

MIN_PAIRS = 8
"""Fewer never tell: the least and the greatest of n values enclose their true median with a probability of
1 - 2 / 2^n, which is 99 % from 8 on."""

_QUANTILE = 2.5758  # of the normal distribution, for 0.5 % outside each end


def ratio_spread(first: "List[float]", second: "List[float]") -> float:
    """Return half of the 99 % interval of the median ratio of two engines' blocks, relative to that median.

    The interval is the one of the sign test: its ends are the order statistics of the ratios that a binomial
    distribution of one half leaves outside, by its normal approximation (Conover, Practical Nonparametric Statistics,
    1999, section 3.2). It assumes nothing of how blocks are disturbed.

    Args:
        first: median of each block, in any unit.
        second: the other engine's, as many; each block was taken beside the one at its place.

    Returns:
        0.02 for 2 % in either direction; infinity for fewer than `MIN_PAIRS` blocks.
    """
    ratios = sorted(after / before for before, after in zip(first, second))  # noqa: B905 - strict came with Python 3.10
    count = len(ratios)
    if count < MIN_PAIRS:
        return float("inf")
    outside = max(0, int(count / 2 - _QUANTILE * math.sqrt(count) / 2 - 0.5))  # exact, or one less
    return (ratios[-1 - outside] - ratios[outside]) / (ratios[count // 2] + ratios[(count - 1) // 2])
