"""Meet a goal for the latency of a whole network, whose time is not the sum of its parts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from deploycc.pruning.goal_search import GoalSearch


def meet_goal(
    search: GoalSearch,
    goal: float,
    whole_ms: Callable[[frozenset[int]], float],
    *,
    tolerance: float,
    most: int,
    price: float = 0.0,
) -> frozenset[int]:
    """Choose for a latency of the whole network, whose time is not the sum of its parts.

    The parts get a goal of their own, which is corrected until the whole network meets its goal closely.

    Args:
        search: over the parts.
        goal: for the whole network.
        whole_ms: time of the whole network without these groups.
        tolerance: how far below the goal the time may be, as a share of the goal, for the search to end.
        most: corrections.
        price: of work, beside the loss.

    Returns:
        The groups to remove; all that may go where the goal cannot be met.
    """
    nothing, everything = frozenset[int](), search.all_that_may_go()
    took = {nothing: whole_ms(nothing), everything: whole_ms(everything)}
    best, high, low = everything, search.full_cost, search.least_cost
    slow, fast = took[nothing], took[everything]
    if slow <= goal:
        return nothing
    for number in range(most if fast < goal * (1 - tolerance) else 0):
        share = (goal - fast) / max(slow - fast, 1e-12) if number % 3 < 2 else 0.5
        parts_cost = low + (high - low) * float(np.clip(share, 0.02, 0.98))
        going = search.least_loss(parts_cost, price)
        if going not in took:
            took[going] = whole_ms(going)
        if took[going] > goal:
            high, slow = parts_cost, took[going]
            continue
        low, fast = parts_cost, took[going]
        if search.loss_of(going, price) <= search.loss_of(best, price):
            best = going
        if took[going] >= goal * (1 - tolerance):
            break
    return best
