"""The last word on a plan: whole networks timed in turns on pictures, and what does not keep its promise falls back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime as ort
from numpy.typing import NDArray

from deploycc.cpu_session import open_session
from deploycc.dynamic.costs import Array
from deploycc.dynamic.planner import Planned
from deploycc.dynamic.regions import Choice
from deploycc.gate_plan import LayerPlan
from deploycc.graph.export import to_onnx

Tensors = Sequence[NDArray[np.float32]]
Lower = Callable[[gs.Graph, Sequence[LayerPlan]], gs.Graph]

_WARMUP = 2
_MOST_ROUNDS = 25
_WORST_PICTURES = 8  # with everything on, pictures do not differ


@dataclass(frozen=True, eq=False)
class Networks:
    """The same detector three times.

    Attributes:
        masked: gates are products.
        dense: no gates.
        all_on: gates are computed, and always on.
    """

    masked: gs.Graph
    dense: gs.Graph
    all_on: gs.Graph


@dataclass(frozen=True)
class Verdict:
    """What measuring said about one region.

    Attributes:
        choice: the region as planned.
        saved_ms: mean over the pictures, against the same network with this region as products.
        kept: whether it stays lowered.
        why: where it does not.
    """

    choice: Choice
    saved_ms: float
    kept: bool
    why: str = ""


@dataclass(frozen=True, eq=False)
class Checked:
    """A plan after the check.

    Attributes:
        layers: of the plan that is left.
        verdicts: on every lowered region.
        samples_ms: ``dense``, ``masked``, ``lowered``: [rounds, pictures].
        worst_ms: ``dense``, ``lowered`` with every kernel on: [rounds, pictures].
    """

    layers: tuple[LayerPlan, ...]
    verdicts: tuple[Verdict, ...]
    samples_ms: Mapping[str, Array]
    worst_ms: Mapping[str, Array]

    @property
    def worst_case(self) -> float:
        """Time with everything on, divided by the dense network's."""
        return ratio_of(self.worst_ms)


def check_plan(
    planned: Planned,
    networks: Networks,
    lower: Lower,
    pictures: Tensors,
    *,
    threads: int,
    max_worst_case: float,
    seconds: float = 20.0,
    say: Callable[[str], None] = lambda text: None,
) -> Checked:
    """Time a plan, and put back products where it does not pay.

    Each region is judged by the whole network with and without it, picture by picture. Then the regions that cost most
    with everything on fall back, one by one, until the worst case is within its bound.

    Args:
        planned: what the planner chose.
        networks: to compare with.
        lower: carries a plan out on a graph; returns another one.
        pictures: prepared tensors.
        threads: of ONNX Runtime.
        max_worst_case: of the dense network's time.
        seconds: for each comparison, about.
        say: progress.

    Returns:
        What is left of the plan. Its worst case may still miss the bound: the caller looks at it.

    Raises:
        MeasureError: ``onnxruntime-refuses``.
    """
    verdicts = {each.layers: Verdict(each, 0.0, True) for each in planned.chosen if each.lowering != "multiply"}

    def layers_of(kept: Sequence[tuple[str, ...]]) -> tuple[LayerPlan, ...]:
        return with_products(planned, kept)

    def session(graph: gs.Graph, kept: Sequence[tuple[str, ...]]) -> ort.InferenceSession:
        return graph_session(lower(graph, layers_of(kept)) if kept else graph, threads)

    for name in list(verdicts):
        say(f"timing {name[0]}")
        kept = _kept(verdicts)
        without = [each for each in kept if each != name]
        pair = {"with": session(networks.masked, kept), "without": session(networks.masked, without)}
        samples = time_pictures(pair, pictures, seconds / 2)
        saved = float(np.mean(least(samples["without"]) - least(samples["with"])))
        fact = "" if saved > 0 else "the network is faster with products here"
        verdicts[name] = replace(verdicts[name], saved_ms=saved, kept=saved > 0, why=fact)
    dense = graph_session(networks.dense, threads)
    while True:
        say("timing the worst case")
        kept = _kept(verdicts)
        pair = {"dense": dense, "lowered": session(networks.all_on, kept)}
        worst = time_pictures(pair, pictures[:_WORST_PICTURES], seconds / 4)
        ratio = ratio_of(worst)
        if ratio <= max_worst_case or not kept:
            break
        costly = max(kept, key=lambda name: verdicts[name].choice.all_on_ms - _products_ms(planned, name))
        why = f"with everything on the network takes {ratio:.3f} of the dense one's time"
        verdicts[costly] = replace(verdicts[costly], kept=False, why=why)
    say("timing the network")
    masked, lowered = session(networks.masked, []), session(networks.masked, kept)
    three = {"dense": dense, "masked": masked, "lowered": lowered}
    return Checked(layers_of(kept), tuple(verdicts.values()), time_pictures(three, pictures, seconds), worst)


def least(samples_ms: Array) -> Array:
    """Least time of each picture over the rounds, [pictures]: what else the machine does only adds time."""
    result: Array = samples_ms.min(0)
    return result


def ratio_of(samples_ms: Mapping[str, Array]) -> float:
    """Mean time of ``lowered`` over the pictures, divided by that of ``dense``."""
    return float(least(samples_ms["lowered"]).mean() / least(samples_ms["dense"]).mean())


def with_products(planned: Planned, kept: Sequence[tuple[str, ...]]) -> tuple[LayerPlan, ...]:
    """The plan's layers, with products in all regions but those that are kept."""
    lowered = {name for region in kept for name in region}
    return tuple(
        plan if plan.layer in lowered else LayerPlan(layer=plan.layer, lowering="multiply", order=range_of(plan))
        for plan in planned.layers()
        if plan.layer in lowered or plan.layer not in planned.ungated
    )


def range_of(plan: LayerPlan) -> tuple[int, ...]:
    """The order that changes nothing."""
    return tuple(range(plan.kernels))


def graph_session(graph: gs.Graph, threads: int) -> ort.InferenceSession:
    """Load a graph in ONNX Runtime; raises MeasureError."""
    return open_session(to_onnx(graph), threads, {"network": graph.name or "network"})


def time_pictures(
    sessions: Mapping[str, ort.InferenceSession], pictures: Tensors, seconds: float, least_rounds: int = 1
) -> dict[str, Array]:
    """Time several networks on the same pictures, in turns and in changing order.

    Args:
        sessions: each with one input.
        pictures: what they read.
        seconds: rounds are added while they fit.
        least_rounds: however long they take.

    Returns:
        Milliseconds, [rounds, pictures], by network.
    """
    order, names = random.Random(0), list(sessions)
    inputs = {name: session.get_inputs()[0].name for name, session in sessions.items()}
    for name, session in sessions.items():
        for picture in pictures[:_WARMUP]:
            session.run(None, {inputs[name]: picture})
    rounds: list[dict[str, list[float]]] = []
    start = time.perf_counter()
    while len(rounds) < _MOST_ROUNDS:
        spent = time.perf_counter() - start
        if len(rounds) >= least_rounds and spent + spent / len(rounds) > seconds:
            break
        times: dict[str, list[float]] = {name: [] for name in names}
        for picture in pictures:
            for name in order.sample(names, len(names)):
                begin = time.perf_counter_ns()
                sessions[name].run(None, {inputs[name]: picture})
                times[name].append((time.perf_counter_ns() - begin) / 1e6)
        rounds.append(times)
    return {name: np.array([each[name] for each in rounds]) for name in names}


def _kept(verdicts: Mapping[tuple[str, ...], Verdict]) -> list[tuple[str, ...]]:
    return [name for name, verdict in verdicts.items() if verdict.kept]


def _products_ms(planned: Planned, region: tuple[str, ...]) -> float:
    """Predicted time of a region's layers as products."""
    products = {each.layers[0]: each.all_on_ms for each in planned.considered if each.lowering == "multiply"}
    return sum(products[name] for name in region)
