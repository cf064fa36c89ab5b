"""Real networks lose channels whose constants meet zero padding, and compute what they would with kernels of zeros."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from channel_removal import zeroed
from graph_text import run
from pruned_networks import import_seeded

import deploycc
from deploycc import PruneSettings
from deploycc.detector import Detector
from deploycc.importers import load
from deploycc.passes import PRUNE
from deploycc.passes import run as run_passes
from deploycc.passes.prune_channels import choose
from deploycc.prediction.costs import PredictedCosts
from deploycc.target import load as load_target
from deploycc.workflows.prune import Pruned, cpu_options

RTOL, ATOL = 0.0, 2e-5  # of the largest output


def squeezenet(assets: Path) -> Detector:
    return import_seeded(assets, "squeezenet_ssd_voc_deploy")


def faces(assets: Path) -> Detector:
    folder = assets / "res10_face_ssd"
    return load(folder / "deploy.prototxt", weights=folder / "res10_300x300_ssd_iter_140000.caffemodel")


@pytest.mark.parametrize(
    ("network", "layers"),
    [
        (squeezenet, ["fire5/expand1x1", "fire5/expand3x3"]),
        (faces, ["layer_256_1_conv_expand", "layer_512_1_conv_expand_h"]),
    ],
)
def test_channels_go_whose_constants_meet_padding(
    assets: Path, network: Callable[[Path], Detector], layers: list[str]
) -> None:
    pruned = deploycc.prune(network(assets), PruneSettings(by="l1", below=0.4, multiple=8))
    assert_carried(pruned, layers)
    options = replace(cpu_options(), prune=pruned.decision.prune)
    compiled = run_passes(pruned.decision.original, options, PRUNE).detector
    for got, expected in zip(run(compiled.graph), run(pruned.detector.graph), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_goal_counts_the_carrier_as_a_kernel_that_stays(assets: Path) -> None:
    pruned = deploycc.prune(
        squeezenet(assets), PruneSettings(by="l1", speedup=1.4), costs=PredictedCosts(load_target("jetson-tx2-jp461"))
    )
    assert_carried(pruned, ["fire5/expand1x1"])


def assert_carried(pruned: Pruned, layers: list[str]) -> None:
    """These layers lost kernels, all that did keep a multiple of 8, and the outputs are those of kernels of zeros."""
    decision, record = pruned.decision, pruned.record
    codes = {note.code for note in record.stays}
    assert "channel-carrier" in codes
    assert "channel-constant" not in codes
    assert set(layers) <= set(record.removed)
    for layer in record.layers:
        if layer.name in record.removed:
            assert layer.kernels[1] % 8 == 0, layer.name
    _, constants, _ = choose(decision.dense.graph, decision.groups, decision.prune)
    masks = {
        name: tuple(k for k in kernels if int(decision.groups.layers[name][k]) in constants.carriers)
        for name, kernels in decision.prune.carriers.items()
    }
    masks = {name: (*record.removed.get(name, ()), *masks.get(name, ())) for name in {*record.removed, *masks}}
    expected = run(zeroed(decision.dense.graph, masks))
    for got, wanted in zip(run(pruned.detector.graph), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=RTOL, atol=ATOL * float(np.abs(wanted).max()))
