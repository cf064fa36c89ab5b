"""Gate plans that run the shipped detector with one decision for six layers as networks in a row."""

from __future__ import annotations

import numpy as np

from deploycc.detector import Detector
from deploycc.documents.document import Evidence, this_tool
from deploycc.documents.gate_plan import GatePlan, LayerPlan
from deploycc.graph.branches.gated_network import read_gated_network
from deploycc.graph.gates.search import Gate
from deploycc.target import Target
from deploycc.workflows.gate_network import prepare_network


def staged_plan(detector: Detector, target: Target, shares: tuple[float, ...] = ()) -> GatePlan:
    """Return a plan with a second network for each unit of the decision."""
    network = read_gated_network(prepare_network(detector, target)[0].graph)
    return GatePlan(
        tool=this_tool(),
        evidence=Evidence(kind="predicted", source="a test"),
        source_sha256=detector.source.sha256,
        random_weights=detector.source.random_weights,
        network=detector.name,
        target=target.name,
        layers=tuple(map(_variants, network.gates)),
        staged=True,
        shares=shares,
    )


def _variants(gate: Gate) -> LayerPlan:
    units = np.array(gate.unit_of)
    sizes = tuple(int((units <= unit).sum()) for unit in range(gate.units))
    order = tuple(np.argsort(units, kind="stable").tolist())
    return LayerPlan(layer=gate.layer, lowering="variants", order=order, sizes=sizes)
