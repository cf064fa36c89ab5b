"""Which second network each picture needs, and how a network is split to be planned."""

from __future__ import annotations

import numpy as np
import pytest
from branching_networks import Block, Branching, Pattern, Wish
from graph_text import run
from numpy.typing import NDArray

from deploycc import target
from deploycc.detector import Detector
from deploycc.documents.gate_plan import LayerPlan
from deploycc.graph.gates.search import find_gates
from deploycc.workflows.staged import StagedSession, stage
from deploycc.workflows.staged_split import numbers_needed

CPU = target.load("x86-cpu")


def vectors(detector: Detector, picture: NDArray[np.float32]) -> dict[str, NDArray[np.bool_]]:
    """Decisions of each gated layer about a picture, [1, kernels]."""
    found = {}
    for gate in find_gates(detector.graph):
        copy = detector.graph.copy()
        copy.outputs = [copy.tensors()[gate.vector]]
        on = run(copy.cleanup(), picture)[0].reshape(-1) > 0
        found[gate.layer] = np.broadcast_to(on, (1, gate.kernels))
    return found


@pytest.mark.parametrize("granularity", ["nested", "block", "kernel"])
@pytest.mark.parametrize("pattern", ["on", "off", "random", "front"])
def test_recorded_decisions_tell_what_the_first_network_decides(granularity: str, pattern: Pattern) -> None:
    made = Branching((Block("two", granularity, (0, 2, 0, 0)),), (Wish("widths", 0, False),), 3, True)
    detector = made.build(pattern)
    plan = tuple(
        LayerPlan(layer=gate.layer, lowering="variants", order=(0, 1, 2, 3, 4, 5), sizes=(2, 4, 6))
        for gate in find_gates(detector.graph)
    )
    number, _ = StagedSession(stage(detector, plan, CPU)).run(made.picture())
    assert numbers_needed(plan, vectors(detector, made.picture())).tolist() == [number]


def test_the_layer_that_needs_most_decides() -> None:
    plan = tuple(
        LayerPlan(layer=name, lowering="variants", order=order, sizes=(1, 2, 4))
        for name, order in (("a", (0, 1, 2, 3)), ("b", (3, 2, 1, 0)))
    )
    off, first, last = [False] * 4, [True, False, False, False], [False, False, False, True]
    active = {"a": np.array([off, first, first, last]), "b": np.array([off, off, last, last])}
    assert numbers_needed(plan, active).tolist() == [0, 0, 0, 2]
