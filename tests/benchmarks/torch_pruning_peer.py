"""What Torch-Pruning 1.6 removes from a detector, by the L1 norms of filters and in multiples of 16."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch_executor_layers import ExecutorLayers

from deploycc.detector import Detector
from deploycc.graph.split import split_heads

PACKAGE = "torch-pruning>=1.6,<1.7"
ROUND_TO = 16


def install(folder: Path) -> None:
    """Install the peer beside this interpreter's PyTorch."""
    command = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--target", str(folder), PACKAGE]
    subprocess.run(command, check=True)


def decided_by_peer(tp: Any, detector: Detector, ratio: float) -> dict[str, tuple[int, ...]]:
    """Return the kernels that Torch-Pruning removes, by layer.

    Args:
        tp: the package.
        detector: folded, with SSD heads.
        ratio: share of each layer's kernels.
    """
    assert detector.heads is not None
    model = ExecutorLayers(detector).eval()
    backend = split_heads(detector.graph, detector.heads.locations, detector.heads.scores).backend.nodes
    for layer in model.layers:  # the importance does not look at biases, so they can tell which kernels stay
        layer.bias.data = torch.arange(len(layer.bias), dtype=torch.float32)
    kernels = [len(layer.bias) for layer in model.layers]
    pruner = tp.pruner.BasePruner(
        model,
        torch.zeros(detector.input.shape),
        importance=tp.importance.MagnitudeImportance(p=1),
        pruning_ratio=ratio,
        round_to=ROUND_TO,
        ignored_layers=[layer for name, layer in zip(model.nodes, model.layers, strict=True) if name not in backend],
    )
    pruner.step()
    kept = [{int(number) for number in layer.bias.detach()} for layer in model.layers]
    return {
        name: tuple(sorted(set(range(count)) - left))
        for name, count, left in zip(model.nodes, kernels, kept, strict=True)
        if len(left) < count
    }
