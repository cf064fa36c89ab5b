"""Which layers may lose kernels: those of the scope, or those of them that are named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import deploycc
from deploycc.detector import Detector
from deploycc.errors import InputError
from deploycc.graph.cost import node_macs
from deploycc.workflows.fisher import FisherImportance

LAYER = "backend.2.0/conv/Conv"
SETTINGS = deploycc.PruneSettings(by="l1", below=0.25, multiple=8, layers=(LAYER,))


@pytest.fixture(scope="module")
def detector() -> Detector:
    return deploycc.load("street_ssd")


def macs_of(detector: Detector) -> int:
    return next(node_macs(node) for node in detector.graph.nodes if node.name == LAYER)


def test_only_layers_that_are_named_lose_kernels(detector: Detector) -> None:
    pruned = deploycc.prune(detector, SETTINGS)
    assert set(pruned.decision.choice.kernels) == {LAYER}
    assert len(pruned.record.removed[LAYER]) == 32
    everywhere = deploycc.prune(detector, replace(SETTINGS, layers=()))
    assert set(everywhere.decision.choice.kernels) > {LAYER}


def test_a_share_of_macs_is_one_of_these_layers(detector: Detector) -> None:
    worths = {
        node.name: np.arange(1.0, 1.0 + node.inputs[1].shape[0]) for node in detector.graph.nodes if node_macs(node)
    }
    settings = replace(SETTINGS, by="fisher", below=0.3, multiple=1)
    pruned = deploycc.prune(detector, settings, importance=FisherImportance(worths, "", 1))
    assert set(pruned.decision.choice.kernels) == {LAYER}
    assert 0.69 < macs_of(pruned.detector) / macs_of(detector) <= 0.7


@pytest.mark.parametrize(("layer", "scope"), [("nothing", "both"), (LAYER, "front-end")])
def test_a_layer_that_cannot_lose_any_is_refused(detector: Detector, layer: str, scope: Any) -> None:
    with pytest.raises(InputError, match=f"{layer} is no layer that may lose kernels"):
        deploycc.prune(detector, replace(SETTINGS, layers=(layer,), scope=scope))
