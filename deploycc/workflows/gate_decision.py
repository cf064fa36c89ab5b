"""Which lowering each gate gets: pictures with their decisions, whole networks timed, and the planner's choice."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from deploycc.progress import Say, prefixed, quiet

if TYPE_CHECKING:
    import numpy as np
    import onnx_graphsurgeon as gs
    from numpy.typing import NDArray

    from deploycc.detector import Detector
    from deploycc.detector.picture_list import PictureList
    from deploycc.errors import Note
    from deploycc.gate_planning.check import Networks, Tensors
    from deploycc.gate_planning.costs import CostModel
    from deploycc.gate_planning.planner import Planned
    from deploycc.gate_planning.regions import PlannedLayer
    from deploycc.gate_planning.shared_decisions import TimedDecision
    from deploycc.graph.branches.gated_network import GatedNetwork
    from deploycc.graph.gates.search import Gate
    from deploycc.timing.timer import Timer
    from deploycc.workflows.predicted_gate_costs import AnyGateCosts

Key = TypeVar("Key", bound=Hashable)

_SECONDS_PER_NETWORK = 2.0  # to time it before planning
_TIMED_PICTURES = 8  # in that time: without branches, pictures hardly differ


@dataclass(frozen=True, eq=False)
class RecordedPictures:
    """Pictures to run, with what the gates decide about each.

    Attributes:
        names: of the pictures.
        tensors: prepared for the network.
        active: for each gated layer its decisions, [pictures, kernels].
    """

    names: tuple[str, ...]
    tensors: Tensors
    active: dict[str, NDArray[np.bool_]]


def record_decisions(
    detector: Detector,
    gates: Sequence[Gate],
    pictures: PictureList,
    *,
    threads: int,
    most: int | None = None,
    say: Say = quiet,
) -> RecordedPictures:
    """Prepare pictures and record what the gates decide about each.

    Args:
        detector: stays as it is.
        gates: of the detector.
        pictures: to read.
        threads: CPU threads.
        most: number of pictures that are taken at most, evenly spread; None: all of them.
        say: told how many pictures are done.

    Raises:
        PictureError: a picture cannot be read.
        MeasureError: the network does not run.
    """
    import numpy as np

    from deploycc.detector.pictures import prepare
    from deploycc.utilisation.probe import Probe, layers_to_probe

    count = len(pictures.names)
    most = count if most is None else most
    numbers = sorted({round(place * (count - 1) / max(1, most - 1)) for place in range(most)})
    names = tuple(pictures.names[number] for number in numbers)
    tensors: list[NDArray[np.float32]] = []
    probe = Probe(detector, layers_to_probe(detector, gates), threads=threads)
    readings = []
    for number, name in zip(numbers, names, strict=True):
        say("running pictures", len(tensors), len(numbers))
        tensors.append(prepare(pictures.read(number), detector.input))
        readings.append(probe.read(tensors[-1], name))
    active = {
        layer.name: np.array([reading[number].used > 0 for reading in readings])
        for number, layer in enumerate(probe.layers)
    }
    return RecordedPictures(names, tensors, active)


def choose_lowerings(
    network: GatedNetwork,
    layers: Sequence[PlannedLayer],
    model: CostModel,
    networks: Networks,
    tensors: Tensors | None,
    *,
    max_worst_case: float,
    max_growth: float,
    costs: AnyGateCosts,
    conditional: bool = True,
    say: Say = quiet,
) -> tuple[Planned, tuple[TimedDecision, ...], tuple[Note, ...]]:
    """Time whole networks and plan, again as long as kernels of some layers cannot take the places planned for them.

    Args:
        network: stays as it is.
        layers: of the network.
        model: costs.
        networks: the network without gates and with them.
        tensors: pictures to time them on; None: noise.
        max_worst_case: bound of the time with every kernel on, as a multiple of the dense network's.
        max_growth: bound of the weights that branches add, as a multiple of all weights.
        costs: of what the plan is for.
        conditional: whether a branch skips work there; False: every gate of the plan multiplies.
        say: progress.

    Returns:
        The plan, the decisions that switch several layers, and notes.

    Raises:
        MeasureError: a network does not run.
    """
    from deploycc.gate_planning.layers import added_bytes_allowed, fix_unmovable
    from deploycc.gate_planning.planner import plan_lowerings, surroundings

    here = prefixed(say, "network as it is")
    dense_ms, multiply_ms, shared, notes = _time_networks(network, layers, networks, tensors, costs, here)
    around = surroundings(layers, model, dense_ms, multiply_ms)
    say("planning")
    while True:
        planned = plan_lowerings(
            layers,
            model,
            max_worst_case=max_worst_case,
            around=around,
            max_added_bytes=added_bytes_allowed(network.graph, max_growth),
            shared=shared,
            conditional=conditional,
        )
        layers, stuck = fix_unmovable(network, layers, planned.layers())
        if not stuck:
            return planned, shared, notes
        notes += stuck


def _time_networks(
    network: GatedNetwork,
    layers: Sequence[PlannedLayer],
    networks: Networks,
    tensors: Tensors | None,
    costs: AnyGateCosts,
    say: Say,
) -> tuple[float, float, tuple[TimedDecision, ...], tuple[Note, ...]]:
    """Time the dense and the multiplying network, ms, and what shared decisions leave of the dense one."""
    import numpy as np

    from deploycc.gate_planning.shared_decisions import TimedDecision, shared_decisions
    from deploycc.workflows.predicted_gate_costs import PredictedGateCosts

    decisions, notes = shared_decisions(network, layers)
    graphs: dict[str | tuple[int, int], gs.Graph] = {"dense": networks.dense, "multiply": networks.multiply}
    for number, decision in enumerate(decisions):
        graphs |= {(number, candidate): graph for candidate, graph in enumerate(decision.graphs)}
    if isinstance(costs, PredictedGateCosts):
        mean_ms = {name: costs.network_ms(graph) for name, graph in graphs.items()}
    else:
        mean_ms = _measured_ms(graphs, network.graph.inputs[0].shape, tensors, costs.timer, say)
    timed = tuple(
        TimedDecision(decision, np.array([mean_ms[number, candidate] for candidate in range(len(decision.graphs))]))
        for number, decision in enumerate(decisions)
    )
    return mean_ms["dense"], mean_ms["multiply"], timed, notes


def _measured_ms(
    graphs: Mapping[Key, gs.Graph], shape: Sequence[int], tensors: Tensors | None, timer: Timer, say: Say
) -> dict[Key, float]:
    """Return the mean time of each network over the pictures, or over noise of a shape."""
    import numpy as np

    from deploycc.gate_planning.check import graph_session, least, time_pictures

    if tensors is None:
        tensors = list(np.random.default_rng(0).standard_normal((4, *shape), np.float32))
    sessions = {name: graph_session(graph, timer) for name, graph in graphs.items()}
    seconds = _SECONDS_PER_NETWORK * len(sessions)
    pictures = tensors[: 1 if timer.builds else _TIMED_PICTURES]
    samples = time_pictures(sessions, pictures, seconds, timer=timer, say=say)
    return {name: float(least(times).mean()) for name, times in samples.items()}
