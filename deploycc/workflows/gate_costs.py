"""What `gates` measures before it plans, and the plan: costs of convolutions and branches, times of whole networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs
    from numpy.typing import NDArray

    from deploycc.errors import Note
    from deploycc.gate_planning.check import Networks, Tensors
    from deploycc.gate_planning.costs import CostModel
    from deploycc.gate_planning.planner import Planned
    from deploycc.gate_planning.regions import PlannedLayer
    from deploycc.gate_planning.shared_decisions import TimedDecision
    from deploycc.graph.branches.gated_network import GatedNetwork
    from deploycc.progress import Say

_SECONDS_PER_NETWORK = 2.0  # for each network, to learn what it takes


@dataclass(frozen=True)
class Settings:
    """How to plan; see the options of `deploycc gates`."""

    profile: Path
    target: str
    max_worst_case: float
    costs: Path | None
    images: Path | None
    data: str | None
    seconds: float
    threads: int
    max_growth: float = 1.0


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures to run, with what the gates say to each.

    Attributes:
        names: one a picture.
        tensors: prepared.
        active: by gated layer, [pictures, kernels] bool.
    """

    names: tuple[str, ...]
    tensors: Tensors
    active: dict[str, NDArray[Any]]


def measured_costs(layers: Sequence[PlannedLayer], settings: Settings) -> tuple[CostModel, tuple[Note, ...]]:
    """Measure what the planner needs, or read it from ``settings.costs``; notes where the machine was busy."""
    from deploycc.documents.costs import GateCostTable
    from deploycc.documents.document import read_document
    from deploycc.gate_planning.costs import GateCosts
    from deploycc.timing.machine import this_machine

    table = None
    if settings.costs is not None and settings.costs.exists():
        table = read_document(settings.costs, GateCostTable)
    costs = GateCosts(this_machine(settings.threads), table)
    model = costs.model((layer.convolution, layer.joins) for layer in layers)
    if settings.costs is not None:
        costs.table().write(settings.costs)
    return model, costs.notes()


def plan_layers(
    network: GatedNetwork,
    layers: Sequence[PlannedLayer],
    model: CostModel,
    networks: Networks,
    pictures: Pictures | None,
    settings: Settings,
    say: Say,
) -> tuple[Planned, tuple[Note, ...]]:
    """The plan; made again while kernels of some layers cannot take the places that it gives them."""
    from deploycc.gate_planning.layers import added_bytes_allowed, fix_unmovable
    from deploycc.gate_planning.planner import plan_gates, surroundings
    from deploycc.progress import prefixed

    dense_ms, multiply_ms, shared, notes = _whole_networks(
        network, layers, networks, pictures, settings, prefixed(say, "network as it is")
    )
    around = surroundings(layers, model, dense_ms, multiply_ms)
    say("planning")
    while True:
        planned = plan_gates(
            layers,
            model,
            max_worst_case=settings.max_worst_case,
            around=around,
            max_added_bytes=added_bytes_allowed(network.graph, settings.max_growth),
            shared=shared,
        )
        layers, said = fix_unmovable(network, layers, planned.layers())
        if not said:
            return planned, notes
        notes += said


def _whole_networks(
    network: GatedNetwork,
    layers: Sequence[PlannedLayer],
    networks: Networks,
    pictures: Pictures | None,
    settings: Settings,
    say: Say,
) -> tuple[float, float, tuple[TimedDecision, ...], tuple[Note, ...]]:
    """Time the network without gates and as it is, ms, and the variants that shared decisions leave of it."""
    import numpy as np

    from deploycc.gate_planning.check import graph_session, least, time_pictures
    from deploycc.gate_planning.shared_decisions import TimedDecision, shared_decisions

    decisions, notes = shared_decisions(network, layers)
    graphs: dict[str | tuple[int, int], gs.Graph] = {"dense": networks.dense, "multiply": networks.multiply}
    for number, each in enumerate(decisions):
        graphs |= {(number, size): graph for size, graph in enumerate(each.graphs)}
    noise = np.random.default_rng(0).standard_normal((4, *network.graph.inputs[0].shape), np.float32)
    tensors = list(noise) if pictures is None else pictures.tensors[:8]
    sessions = {name: graph_session(graph, settings.threads) for name, graph in graphs.items()}
    seconds = _SECONDS_PER_NETWORK * len(sessions)
    samples = time_pictures(sessions, tensors, seconds, say=say)
    taken = {name: float(least(own).mean()) for name, own in samples.items()}
    timed = tuple(
        TimedDecision(each, np.array([taken[number, size] for size in range(len(each.graphs))]))
        for number, each in enumerate(decisions)
    )
    return taken["dense"], taken["multiply"], timed, notes
