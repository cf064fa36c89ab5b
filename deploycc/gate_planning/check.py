"""The final check of a plan: whole networks are timed in turns on pictures, and what does not pay is dropped."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from deploycc.documents.gate_plan import LayerPlan
from deploycc.gate_planning.costs import Array
from deploycc.gate_planning.planner import NEAR_TIE, Planned
from deploycc.gate_planning.regions import Choice
from deploycc.graph.export import to_onnx
from deploycc.progress import Say, prefixed, quiet
from deploycc.timing.timer import Loaded, Timer

Tensors = Sequence[NDArray[np.float32]]
Names = tuple[str, ...]
Key = TypeVar("Key", bound=Hashable)
Lower = Callable[[gs.Graph, Sequence[LayerPlan]], gs.Graph]

_WARMUP = 2
_MOST_ROUNDS = 25
_WORST_PICTURES, _WORST_ROUNDS = 2, 200  # with everything on, pictures do not differ: many rounds of few pictures
_WORST_LEAST_ROUNDS = 5  # also for a slow network: the bound is a few per cent
_WORST_TRIES = 3  # a busy moment, or an unlucky place of a session in memory, must not drop a plan
PLANNED, MULTIPLY = "planned", "multiply"


@dataclass(frozen=True, eq=False)
class Networks:
    """The same network three times.

    Attributes:
        multiply: every gate multiplies.
        dense: without gates.
        all_on: gates are computed and always on.
    """

    multiply: gs.Graph
    dense: gs.Graph
    all_on: gs.Graph


@dataclass(frozen=True)
class Verdict:
    """What measuring showed about a region.

    Attributes:
        choice: the lowering that was planned.
        parts: the lowering now: as planned, simpler, or multiplying.
        saved_ms: time that it saves against multiplying in this region, mean over the pictures; if it multiplies, what
            the best other way saved.
        why: reason, where it is not as planned.
    """

    choice: Choice
    parts: tuple[Choice, ...]
    saved_ms: float = 0.0
    why: str = ""

    @property
    def kept(self) -> bool:
        """Whether any layer of the region stays lowered."""
        return any(part.lowering != "multiply" for part in self.parts)


@dataclass(frozen=True, eq=False)
class Checked:
    """A plan after the check.

    Attributes:
        layers: the plan that is left.
        verdicts: on every region that was planned to become branches.
        samples_ms: times of ``dense``, ``multiply`` and ``lowered``, [rounds, pictures].
        worst_ms: times of ``dense`` and ``lowered`` with every kernel on, [rounds, pictures].
    """

    layers: tuple[LayerPlan, ...]
    verdicts: tuple[Verdict, ...]
    samples_ms: Mapping[str, Array]
    worst_ms: Mapping[str, Array]

    @property
    def relative_time(self) -> float:
        """Time on the pictures, divided by the dense network's."""
        return ratio_of(self.samples_ms)

    @property
    def worst_case(self) -> float:
        """Time with every kernel on, divided by the dense network's."""
        return ratio_of(self.worst_ms)


def check_plan(
    planned: Planned,
    networks: Networks,
    lower: Lower,
    pictures: Tensors,
    *,
    timer: Timer,
    max_worst_case: float,
    max_time: float = 1.0,
    seconds: float = 20.0,
    say: Say = quiet,
    go_on: Callable[[int], bool] = lambda ways: True,
) -> Checked:
    """Time a plan, and lower gates in a simpler way, or multiply, where it does not pay.

    Each region is judged by the time of the whole network, picture by picture: as planned, with fewer branches, in
    shorter rows, and multiplying. Then regions become simpler, the most expensive with everything on first, until the
    worst case keeps its bound. A bound that is missed counts only after new sessions have missed it too.

    Args:
        planned: what the planner chose.
        networks: to lower and to compare with.
        lower: returns a copy of a graph with a plan carried out.
        pictures: prepared tensors.
        timer: of the machine that the plan is for.
        max_worst_case: bound of the time with every kernel on, as a multiple of the dense network's.
        max_time: bound of the time on the pictures, likewise.
        seconds: for each comparison of networks, about.
        say: progress.
        go_on: asked before each comparison whether there is time for one of so many networks. Regions that save most
            are judged first; those that there is no time for multiply.

    Returns:
        What is left of the plan. It may still miss either bound, which the caller checks.

    Raises:
        MeasureError: ``onnxruntime-refuses``.
    """
    lowered = [choice for choice in planned.chosen if choice.lowering != "multiply"]
    verdicts = {choice.layers: Verdict(choice, (choice,)) for choice in lowered}

    def layers_of(changed: Mapping[Names, tuple[Choice, ...]] = {}) -> tuple[LayerPlan, ...]:
        return planned.layers({name: verdict.parts for name, verdict in verdicts.items()} | dict(changed))

    def session(graph: gs.Graph, layers: Sequence[LayerPlan]) -> Loaded:
        if any(layer.lowering != "multiply" for layer in layers):
            graph = lower(graph, layers)
        return graph_session(graph, timer)

    measured: dict[Names, Mapping[str, float]] = {}
    for number, name in enumerate(sorted(verdicts, key=lambda name: -_expected_saving(planned, name)), start=1):
        here = prefixed(say, f"region {number} of {len(verdicts)}, {name[0]}")
        verdict = verdicts[name]
        ways = {PLANNED: (verdict.choice,), **planned.simpler[name]}
        if not go_on(len(ways)):
            verdicts[name] = Verdict(verdict.choice, ways[MULTIPLY], why="the budget was over before it was timed")
            continue
        sessions = {way: session(networks.multiply, layers_of({name: parts})) for way, parts in ways.items()}
        samples = time_pictures(sessions, pictures, seconds / 2, timer=timer, say=here)
        measured[name] = {way: float(least(times).mean()) for way, times in samples.items()}
        verdicts[name] = _judge(verdict.choice, ways, measured[name])

    def timed_worst() -> dict[str, Array]:
        pair = {"dense": session(networks.dense, ()), "lowered": session(networks.all_on, layers_of())}
        return time_pictures(
            pair,
            pictures[:_WORST_PICTURES],
            seconds / 4,
            _WORST_LEAST_ROUNDS,
            most_rounds=_WORST_ROUNDS,
            timer=timer,
            say=prefixed(say, "worst case"),
        )

    while True:
        worst = timed_worst()
        for _ in range(1, _WORST_TRIES):
            if ratio_of(worst) > max_worst_case and go_on(2):
                worst = {name: np.concatenate([worst[name], times]) for name, times in timed_worst().items()}
        ratio, kept = ratio_of(worst), [name for name, verdict in verdicts.items() if verdict.kept]
        if ratio <= max_worst_case or not kept:
            break
        costly = max(kept, key=lambda name: _all_on(verdicts[name].parts) - _all_on(planned.simpler[name][MULTIPLY]))
        reason = f"with every kernel on, the network takes {ratio:.3f} times as long as the dense one"
        verdicts[costly] = _simpler(verdicts[costly], planned.simpler[costly], measured[costly], reason)
    three = {
        "dense": session(networks.dense, ()),
        "multiply": session(networks.multiply, ()),
        "lowered": session(networks.multiply, layers_of()),
    }
    samples = time_pictures(three, pictures, seconds, timer=timer, say=prefixed(say, "whole network"))
    for _ in range(1, _WORST_TRIES):
        if ratio_of(samples) > max_time and go_on(len(three)):
            more = time_pictures(three, pictures, seconds, timer=timer, say=prefixed(say, "whole network again"))
            samples = {name: np.concatenate([samples[name], times]) for name, times in more.items()}
    return Checked(layers_of(), tuple(verdicts.values()), samples, worst)


def _expected_saving(planned: Planned, name: Names) -> float:
    """Return the predicted time that a region saves against multiplying."""
    [chosen] = [choice for choice in planned.chosen if choice.layers == name]
    return sum(part.expected_ms for part in planned.simpler[name][MULTIPLY]) - chosen.expected_ms


def _judge(choice: Choice, ways: Mapping[str, tuple[Choice, ...]], mean_ms: Mapping[str, float]) -> Verdict:
    """Choose the simplest way of those that are nearly as fast as the fastest."""
    fastest = min(mean_ms.values())
    way = next(way for way in reversed(list(ways)) if mean_ms[way] <= fastest * (1 + NEAR_TIE))
    saved = mean_ms[MULTIPLY] - mean_ms[way]
    if way == PLANNED:
        return Verdict(choice, ways[way], saved)
    if way == MULTIPLY:
        return Verdict(choice, ways[way], _best_other(mean_ms), "it does not make the network faster than multiplying")
    gain = mean_ms[PLANNED] - mean_ms[way]
    difference = f"{gain:.3f} ms faster" if gain > 0 else f"{-gain:.3f} ms slower, nearly the same"
    return Verdict(choice, ways[way], saved, f"{way} instead: {difference}")


def _simpler(
    verdict: Verdict, ways: Mapping[str, tuple[Choice, ...]], mean_ms: Mapping[str, float], reason: str
) -> Verdict:
    """Choose the next way that takes less with everything on and still beats multiplying; else multiply."""
    now, multiplying = _all_on(verdict.parts), mean_ms[MULTIPLY]
    for way, parts in ways.items():
        if way != MULTIPLY and _all_on(parts) < now and mean_ms[way] < multiplying:
            return replace(verdict, parts=parts, saved_ms=multiplying - mean_ms[way], why=f"{way} instead: {reason}")
    return replace(verdict, parts=ways[MULTIPLY], saved_ms=_best_other(mean_ms), why=reason)


def _best_other(mean_ms: Mapping[str, float]) -> float:
    """Return what the fastest way other than multiplying saves."""
    return mean_ms[MULTIPLY] - min(ms for way, ms in mean_ms.items() if way != MULTIPLY)


def least(samples_ms: Array) -> Array:
    """Return the least time of each picture, [pictures]: whatever else the machine does only adds time."""
    result: Array = samples_ms.min(0)
    return result


def ratio_of(samples_ms: Mapping[str, Array]) -> float:
    """Return the mean time of ``lowered`` over the pictures, divided by that of ``dense``."""
    return float(least(samples_ms["lowered"]).mean() / least(samples_ms["dense"]).mean())


def graph_session(graph: gs.Graph, timer: Timer) -> Loaded:
    """Load a graph; raises MeasureError."""
    return timer.load(to_onnx(graph), {"network": graph.name or "network"})


def time_pictures(
    sessions: Mapping[Key, Loaded],
    pictures: Tensors,
    seconds: float,
    least_rounds: int = 1,
    *,
    timer: Timer,
    most_rounds: int = _MOST_ROUNDS,
    say: Say = quiet,
) -> dict[Key, Array]:
    """Time several networks on the same pictures, in turns and in changing order.

    Args:
        sessions: networks with one input, as the timer loaded them.
        pictures: what they read.
        seconds: rounds are added as long as they are expected to end within this time.
        least_rounds: number of rounds that are timed however long they take.
        timer: that loaded them.
        most_rounds: number of rounds at most.
        say: told how many seconds have passed.

    Returns:
        For each network its times in milliseconds, [rounds, pictures].
    """
    return timer.time_pictures(
        sessions,
        pictures,
        seconds=seconds,
        least_rounds=least_rounds,
        most_rounds=most_rounds,
        warm_up=_WARMUP,
        say=say,
    )


def _all_on(parts: Sequence[Choice]) -> float:
    return sum(part.all_on_ms for part in parts)
