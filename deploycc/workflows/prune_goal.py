"""Pruning to a latency: which kernels go so that the network meets a goal on its target at the least loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from deploycc.errors import BudgetMissed, InputError

if TYPE_CHECKING:
    from deploycc.detector import Detector
    from deploycc.documents.pruning import LatencyGoalRecord
    from deploycc.graph.blocks.search import Block
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.progress import Say
    from deploycc.pruning.decide import Choice
    from deploycc.pruning.goal_search import GoalSearch, Part
    from deploycc.pruning.worth import Worth
    from deploycc.timing.convolutions import Costs
    from deploycc.workflows.goal_choice import Chosen, GoalInputs, Thinning
    from deploycc.workflows.prune_settings import PruneSettings

_TOLERANCE = {"measured": 0.03, "predicted": 0.005}  # below the goal, as a share of it
_CORRECTIONS = 6
_CORRECTIONS_IN_BUDGET = 2
_MULTIPLES = {"measured": (16, 8), "predicted": (8,)}  # of kernels: the next where the first do not come near the goal
_WHY = "worth least per millisecond that their removal saves"


def choose_for_goal(
    inputs: GoalInputs, settings: PruneSettings, costs: Costs | PredictedCosts, say: Say
) -> tuple[Chosen, LatencyGoalRecord]:
    """Choose what goes, and say how the goal is met.

    Raises:
        InputError: ``prune-option``: the goal does not fit the other settings.
        BudgetMissed: ``latency-goal``: no pruning meets the goal.
        MeasureError: ONNX Runtime refuses a network that is timed.
    """
    from deploycc.documents.pruning import LatencyGoalRecord
    from deploycc.pruning.decide import Choice
    from deploycc.pruning.latency_goal import meet_goal
    from deploycc.pruning.worth import OutputChange, ShareOfLayer
    from deploycc.workflows.block_choice import BlockSearch
    from deploycc.workflows.goal_choice import Chosen, counts_kept, thin
    from deploycc.workflows.latency_clock import latency_clock

    check_goal(settings)
    clock = latency_clock(inputs.original, costs, say)
    known: dict[frozenset[int], float] = {}

    def whole_ms(gone: frozenset[int]) -> float:
        if gone not in known:
            known[gone] = clock.network_ms(_smaller(inputs, gone))
        return known[gone]

    goal_ms = settings.latency_ms or clock.before_ms / (settings.speedup or 1.0)
    tolerance = _TOLERANCE[costs.evidence]
    corrections = _CORRECTIONS if settings.budget_s is None else _CORRECTIONS_IN_BUDGET
    multiples = list(_MULTIPLES[costs.evidence]) if settings.multiple is None else [settings.multiple]
    if settings.budget_s is not None:
        multiples = multiples[-1:]  # staircases show where a finer one does not pay

    def worth(choice: Choice) -> Worth:
        return OutputChange(choice.use, inputs.block_worth) if settings.by == "fisher" else ShareOfLayer(choice.use)

    def parts(part: GoalInputs, multiple: int = multiples[0]) -> Sequence[Part]:
        return _parts(part, multiple, settings.budget_s, costs, say)

    def parts_goal(cost: float) -> float:
        spread = cost / clock.before_ms if costs.evidence == "measured" else 1.0  # what is not timed saves too
        return cost - spread * max(0.0, clock.before_ms - goal_ms)

    blocks: tuple[Block, ...] = ()
    without_blocks = 0.0
    if settings.blocks:
        search = BlockSearch(inputs, worth, parts, multiples[0])
        found = search.choose(parts_goal(search.cost), say)
        inputs, blocks, without_blocks = found.inputs, found.blocks, found.loss
    work = inputs.work()

    def solve(search: GoalSearch) -> frozenset[int]:
        say("choosing kernels for the goal")
        price = search.price_of_work(parts_goal(search.full_cost))
        return meet_goal(search, goal_ms, whole_ms, tolerance=tolerance, most=corrections, price=price)

    ways: list[tuple[bool, float, int, Thinning]] = []
    for multiple in multiples:
        way = thin(inputs, worth(inputs.possible), parts(inputs, multiple), multiple, solve, work=work)
        after_ms = whole_ms(way.going)
        ways.append((after_ms > goal_ms, way.loss, multiple, way))
        if not way.going or goal_ms * (1 - tolerance) <= after_ms <= goal_ms:
            break
    _, _, multiple, thinning = min(ways, key=lambda way: way[:2])
    after_ms = whole_ms(thinning.going)
    if after_ms > goal_ms:
        remains = _what_is_left(_smaller(inputs, thinning.going), costs)
        raise _unreachable(settings, goal_ms, clock.before_ms, after_ms, len(thinning.going), remains, costs)
    met = LatencyGoalRecord(
        asked=_asked(settings),
        goal_ms=goal_ms,
        before_ms=clock.before_ms,
        after_ms=after_ms,
        loss=without_blocks + thinning.loss,
    )
    decided = counts_kept(inputs, thinning.going, multiple)
    return Chosen(Choice(thinning.kernels, inputs.possible.use, _WHY), inputs.carriers, decided, blocks), met


def check_goal(settings: PruneSettings) -> None:
    """Refuse a goal that cannot be meant.

    Raises:
        InputError: ``prune-option``.
    """
    if settings.latency_ms is not None and settings.speedup is not None:
        raise InputError("prune-option", "give either a latency or a speed-up as the goal, not both")
    if settings.latency_ms is not None and not 0 < settings.latency_ms < float("inf"):
        raise InputError("prune-option", f"a latency of {settings.latency_ms:g} ms is not above 0", hint="latency=25ms")
    if settings.speedup is not None and not 1 < settings.speedup < float("inf"):
        message = f"{settings.speedup:g} times as fast is not faster"
        raise InputError("prune-option", message, hint="speedup=1.3 makes the network 1.3 times as fast")
    if settings.blocks and settings.budget_s is not None:
        message = "blocks are tried in many networks, more than a budget has time to profile"
        raise InputError("prune-option", message, hint="leave out `blocks` or `budget`")
    if settings.by == "mask":
        raise InputError(
            "prune-option",
            "a mask lists the kernels that go; a goal of latency chooses them",
            hint="give the goal with `by=utilisation` or `by=l1`",
        )


def _asked(settings: PruneSettings) -> str:
    return f"{settings.latency_ms:g} ms" if settings.latency_ms else f"{settings.speedup:g} times as fast"


def _unreachable(
    settings: PruneSettings,
    goal_ms: float,
    before_ms: float,
    least_ms: float,
    gone: int,
    remains: str,
    costs: Costs | PredictedCosts,
) -> BudgetMissed:
    wider = [] if settings.scope == "both" else ["`scope=both` lets the whole network lose kernels"]
    if not settings.blocks and settings.budget_s is None:
        wider.append("`blocks` lets branches and layers go whole, with their launches")
    return BudgetMissed(
        "latency-goal",
        f"no pruning makes the network take {goal_ms:.3g} ms: the fastest that can be takes {least_ms:.3g} ms",
        context={
            "goal": _asked(settings),
            "without pruning": f"{before_ms:.3g} ms",
            costs.evidence: costs.describe(),
            "scope": settings.scope,
        },
        note=f"at {least_ms:.3g} ms every layer of the scope has lost all kernels but a few ({gone} are gone){remains}",
        hint="; ".join(wider) or None,
    )


def _what_is_left(fastest: Detector, costs: Costs | PredictedCosts) -> str:
    """Say what takes the time of the fastest network, where it is predicted: kernels do not shorten all of it."""
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.prediction.network import predict_network

    if not isinstance(costs, PredictedCosts):
        return ""
    found = predict_network(fastest.graph, costs.basis, costs.precision)
    launching_ms = sum(launch.launch_ms for launch in found.launches)
    longest = max(found.launches, key=lambda launch: launch.time.ms - launch.launch_ms)
    return (
        f"; of what is left, {launching_ms + found.network_ms:.3g} ms start {len(found.launches)} launches and the "
        f"network, and {longest.name} computes for {longest.time.ms - longest.launch_ms:.3g} ms"
    )


def _parts(
    inputs: GoalInputs, multiple: int, budget_s: float | None, costs: Costs | PredictedCosts, say: Say
) -> list[Part]:
    """What takes less time with fewer channels: launches that are predicted, or convolutions that are timed."""
    from deploycc.prediction.costs import PredictedCosts
    from deploycc.prediction.narrowing import narrowed_launches
    from deploycc.pruning.goal_search import channels_of
    from deploycc.pruning.measured_parts import measured_parts
    from deploycc.workflows.profiled_pruning import profiled_parts

    graph, groups = inputs.dense.graph, inputs.groups
    if isinstance(costs, PredictedCosts):
        return [*narrowed_launches(graph, channels_of(groups), costs.basis, costs.precision)]
    if budget_s is not None:
        possible, able = inputs.possible, inputs.removable()
        return [*profiled_parts(inputs.dense, groups, possible, able, inputs.layers, costs, budget_s, say)]
    return [*measured_parts(graph, groups, inputs.removable(), multiple, costs, say)]


def _smaller(inputs: GoalInputs, gone: frozenset[int]) -> Detector:
    """The network without these groups; what their channels hold does not matter here."""
    from deploycc.graph.channels.removal import remove_channels
    from deploycc.passes.fold_affine import fold_affine
    from deploycc.workflows.prune_settings import cpu_options

    small = replace(inputs.dense, graph=inputs.dense.graph.copy())
    remove_channels(small.graph, inputs.groups, gone)
    return fold_affine(small, cpu_options()).detector
