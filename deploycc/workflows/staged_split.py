"""What a plan with two networks in a row may be: a shared decision, and how many kernels each second network holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploycc.errors import ModelError, Note

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import onnx_graphsurgeon as gs
    from numpy.typing import NDArray

    from deploycc.detector import Detector
    from deploycc.documents.gate_plan import LayerPlan
    from deploycc.gate_planning.costs import CostModel
    from deploycc.gate_planning.planner import Planned
    from deploycc.gate_planning.regions import Choice, PlannedLayer
    from deploycc.gate_planning.shared_decisions import TimedDecision
    from deploycc.graph.branches.gated_network import GatedNetwork
    from deploycc.workflows.staged import StagedDetector

_FLOAT_BYTES = 4


@dataclass(frozen=True, eq=False)
class Split:
    """A network that a plan splits where one decision switches many layers.

    Attributes:
        stages: the networks.
        plan: of all gates: ``variants`` of those that the decision switches; the others multiply.
        added_bytes: weights of all networks beyond those of the network in one.
    """

    stages: StagedDetector
    plan: tuple[LayerPlan, ...]
    added_bytes: int

    @property
    def layers(self) -> tuple[LayerPlan, ...]:
        """Those that the decision switches."""
        return tuple(layer for layer in self.plan if layer.lowering == "variants")

    def shares(self, active: Mapping[str, NDArray[np.bool_]]) -> tuple[float, ...]:
        """Return for each second network the share of pictures that need it, from decisions, [pictures, kernels]."""
        import numpy as np

        needed = numbers_needed(self.layers, active)
        counts = np.bincount(needed, minlength=len(self.stages.second))
        return tuple((counts / len(needed)).tolist())

    def models(self) -> Iterator[onnx.ModelProto]:
        """Yield the first network and the second ones."""
        from deploycc.graph.export import to_onnx

        return map(to_onnx, self.graphs())

    def graphs(self) -> list[gs.Graph]:
        """Return the first network and the second ones."""
        return [self.stages.first, *(detector.graph for detector in self.stages.second)]


def find_split(
    prepared: Detector,
    network: GatedNetwork,
    layers: Sequence[PlannedLayer],
    shared: Sequence[TimedDecision],
    model: CostModel,
    planned: Planned,
    growth: float,
) -> tuple[Split | None, tuple[Note, ...]]:
    """Split a network at the decision that is worth it most, as far as predicted times tell.

    Args:
        prepared: after the passes before gates are lowered.
        network: its graph, which stays as it is.
        layers: of the network.
        shared: decisions that switch several layers.
        model: costs of convolutions and multiplications.
        planned: what the planner considered.
        growth: bound of the weights that further networks add, as a multiple of all weights.

    Returns:
        The split, or None where no decision is shared or none can be split, with notes.
    """
    from deploycc.gate_planning.stages import stage_choices

    multiplying = {
        choice.layers[0]: choice.expected_ms for choice in planned.considered if choice.lowering == "multiply"
    }

    def saved_ms(choices: Sequence[Choice]) -> float:
        return sum(multiplying.get(name, 0.0) for name in choices[0].layers) - choices[0].expected_ms

    every = [choices for timed in shared if (choices := stage_choices(timed, layers, model))]
    notes: list[Note] = []
    for choices in sorted(every, key=saved_ms, reverse=True):
        split = _split(prepared, network, layers, choices, growth)
        if isinstance(split, Split):
            return split, tuple(notes)
        notes.append(split)
    return None, tuple(notes)


def numbers_needed(layers: Sequence[LayerPlan], active: Mapping[str, NDArray[np.bool_]]) -> NDArray[np.intp]:
    """Return for each picture the number of the smallest variant that holds every kernel which is on, [pictures].

    Args:
        layers: with ``variants`` of one decision; the last variant holds all kernels.
        active: for each layer its decisions, [pictures, kernels].
    """
    import numpy as np

    from deploycc.passes.lower_gates import kernels_of_variants

    enough = [
        np.logical_and.reduce([~(active[name] & ~kept).any(1) for name, kept in keep.items()])
        for keep in kernels_of_variants(layers)
    ]
    needed: NDArray[np.intp] = np.argmax(np.stack(enough), 0)
    return needed


def _split(
    prepared: Detector,
    network: GatedNetwork,
    layers: Sequence[PlannedLayer],
    choices: Sequence[Choice],
    growth: float,
) -> Split | Note:
    """Split a network by the best of these choices whose networks do not hold too many weights."""
    from deploycc.documents.gate_plan import LayerPlan
    from deploycc.gate_planning.planner import layer_plans
    from deploycc.graph.cost import measure_cost
    from deploycc.workflows.staged import stage_network

    one_bytes = _FLOAT_BYTES * measure_cost(network.graph).params
    first, most_bytes, least_bytes = choices[0].layers[0], growth * one_bytes, 0
    for choice in choices:
        variants = {plan.layer: plan for plan in layer_plans(choice)}
        plan = tuple(
            variants.get(layer.name)
            or LayerPlan(layer=layer.name, lowering="multiply", order=tuple(range(layer.kernels)))
            for layer in layers
            if layer.gated
        )
        try:
            stages = stage_network(prepared, network, plan)
        except ModelError as error:
            return Note(first, "gate-not-staged", error.message)
        graphs = (stages.first, *(each.graph for each in stages.second))
        added = _FLOAT_BYTES * sum(measure_cost(graph).params for graph in graphs) - one_bytes
        split = Split(stages, plan, max(0, added))
        if len(stages.second) == len(split.layers[0].sizes) and added <= most_bytes:
            return split
        least_bytes = min(least_bytes or added, added)
    return Note(
        first,
        "gate-not-staged",
        f"its networks hold {least_bytes / 2**20:.1f} MiB more weights than one network, and {most_bytes / 2**20:.1f} "
        "are allowed",
    )
