"""Real networks, and seeded kernels whose removal takes a wanted share of their back-end."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from pva_ssd import pva_ssd

from deploycc.detector import Detector
from deploycc.graph.channels.groups import ChannelGroups
from deploycc.graph.channels.labels import channel_groups
from deploycc.graph.cost import node_macs
from deploycc.graph.split import split_heads
from deploycc.importers import load
from deploycc.parsers.support import Contract
from deploycc.passes.fold_affine import fold_affine
from deploycc.passes.fold_constants import fold_constants
from deploycc.passes.options import Options

OPTIONS = Options(Contract("tensorrt-rtx"))

# name of the definition and the share of back-end MACs that the white paper's table 3 removes
NETWORKS = {
    "vgg_ssd300_voc_deploy": 0.223,
    "squeezenet_ssd_voc_deploy": 0.258,
    "MobileNetSSD_voc_deploy": 0.258,
    "MobileNetv2_SSDLite_voc_deploy": 0.258,
    "pva_ssd": 0.274,
}


def read(assets: Path, name: str) -> Detector:
    """A definition with seeded weights, its affine layers folded."""
    detector = import_seeded(assets, name)
    return fold_affine(fold_constants(detector, OPTIONS).detector, OPTIONS).detector


def import_seeded(assets: Path, name: str) -> Detector:
    """A definition with seeded weights, as the importer reads it."""
    if name != "pva_ssd":
        return load(assets / "prototxt" / f"{name}.prototxt", random_weights=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pva_ssd.prototxt"
        path.write_text(pva_ssd(), encoding="utf-8")
        return load(path, random_weights=1)


def backend(detector: Detector) -> int:
    """MACs of the back-end; of the whole network where it has no raw heads."""
    heads = detector.heads
    if heads is None:
        return sum(node_macs(node) for node in detector.graph.nodes)
    return split_heads(detector.graph, heads.locations, heads.scores).backend.macs


def choose_groups(detector: Detector, share: float, seed: int = 0) -> tuple[ChannelGroups, list[int]]:
    """Groups in seeded order, as many as it takes to remove ``share`` of the back-end, counted from the groups alone.

    Returns:
        The groups of the graph and the chosen ones.
    """
    graph = detector.graph
    groups = channel_groups(graph)
    order = np.random.default_rng(seed).permutation(groups.free)
    full = backend(detector)
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        if 1 - backend_without(detector, groups, order[:middle].tolist()) / full < share:
            low = middle + 1
        else:
            high = middle
    return groups, sorted(order[:low].tolist())


def backend_without(detector: Detector, groups: ChannelGroups, gone: list[int]) -> int:
    """MACs of the back-end, worked out from the kernels and inputs that are left; nothing is removed."""
    graph = detector.graph
    heads = detector.heads
    names = {node.name for node in graph.nodes if node_macs(node)}
    if heads is not None:
        names = set(split_heads(graph, heads.locations, heads.scores).backend.nodes)
    total = 0.0
    for node in graph.nodes:
        if node.name in names and node_macs(node):
            macs = float(node_macs(node))
            made = groups.tensors[node.outputs[0].name].groups
            macs *= np.mean(~np.isin(made, gone))
            taken = groups.tensors.get(node.inputs[0].name)
            if taken is not None and int(node.attrs.get("group", 1)) == 1:
                macs *= np.mean(~np.isin(taken.groups, gone))
            total += macs
    return round(total)


def kernels_of(groups: ChannelGroups, gone: list[int]) -> dict[str, tuple[int, ...]]:
    """All kernels of these groups, by layer."""
    lost = {name: np.flatnonzero(np.isin(labels, gone)).tolist() for name, labels in groups.layers.items()}
    return {name: tuple(kernels) for name, kernels in lost.items() if kernels}


def copy_of(detector: Detector) -> Detector:
    """The same detector around a copy of its graph."""
    return replace(detector, graph=detector.graph.copy())
