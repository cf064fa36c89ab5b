"""Channels of real networks: the outputs of the masked original, counted operations, and nothing left of the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from channel_removal import masked
from graph_text import run
from pruned_networks import NETWORKS, backend, backend_without, choose_groups, copy_of, read

from deploycc.graph.channels.groups import node_key
from deploycc.graph.channels.removal import remove_channels

RTOL, ATOL = 0.0, 1e-4  # of the largest output


@pytest.mark.parametrize(("name", "share"), NETWORKS.items(), ids=lambda value: str(value))
def test_the_papers_reductions(assets: Path, name: str, share: float) -> None:
    detector = read(assets, name)
    groups, gone = choose_groups(detector, share)
    before, cut = backend(detector), copy_of(detector)
    sizes = {
        (operand.node, operand.index, operand.axis): len(operand.groups) - int(np.isin(operand.groups, gone).sum())
        for operand in groups.operands
    }
    result = remove_channels(cut.graph, groups, gone)
    assert result.notes == ()
    assert list(result.groups) == gone
    after = backend(cut)
    assert after == backend_without(detector, groups, gone)
    assert share <= 1 - after / before < share + 0.01
    nodes = {node_key(node): node for node in cut.graph.nodes}
    for (key, index, axis), size in sizes.items():
        assert nodes[key].inputs[index].values.shape[axis] == size
    got, expected = run(cut.graph), run(masked(detector.graph, groups, gone))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=RTOL, atol=ATOL * float(np.abs(b).max()))
