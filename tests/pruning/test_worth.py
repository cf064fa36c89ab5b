"""What is lost with kernels, by both measures."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from mutation import mutant
from published_networks.builder import Builder

from deploycc.graph.channels.labels import channel_groups
from deploycc.pruning import worth
from deploycc.pruning.decide import bundles


def added(module: ModuleType = worth) -> tuple[list[float], list[float]]:
    """Losses of two layers of four kernels whose outputs are added, the least worth first: shares, and changes."""
    net = Builder("added", 3)
    first = net.conv(net.input, 4, 1, act=None)
    graph = net.finish(net.conv(net.add(first, net.conv(net.input, 4, 1, act=None)), 2, 1, act=None))
    groups = channel_groups(graph)
    (bundle,) = (bundle for bundle in bundles(groups, groups.layers) if len(bundle.layers) == 2)
    use = {name: np.array(values) for name, values in zip(bundle.layers, ([1.0, 2, 3, 4], [4.0, 0, 0, 0]), strict=True)}
    losses = []
    for measure in (module.ShareOfLayer(use), module.OutputChange(use)):
        able = sorted(bundle.groups)
        order = np.array(sorted(able, key=lambda group: measure.of_groups(groups, bundle)[group]))
        losses.append(measure.losses(groups, bundle, order).tolist())
    return losses[0], losses[1]


def test_the_losses_are_those_by_hand() -> None:
    """Shares of the four groups are 1.1, 0.2, 0.3, 0.4, changes 5, 2, 3, 4."""
    shares, changes = added()
    assert shares == pytest.approx([0, -np.log(0.8), -np.log(0.5), -np.log(0.1), np.inf], rel=1e-9, abs=1e-12)
    assert changes == pytest.approx([0, 2, 5, 9, 14], rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "loss -= np.log(np.maximum(1 - np.cumsum([0.0, *shares[order]]), 0.0))",
            "loss += np.cumsum([0.0, *shares[order]])",
        ),
        ("worth += np.bincount", "worth = np.bincount"),
        ("/ self._use[name].sum()\n", "/ 1.0\n"),
    ],
)
def test_planted_bugs_are_noticed(old: str, new: str) -> None:
    assert added(mutant(worth, old, new)) != added()
