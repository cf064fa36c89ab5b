"""Published latencies of the white paper, shown in reports for the same network and board.

Optimizing Deep-Learning Inference for Embedded Devices, Silexica and Irida Labs, 2018, table 4: batch 1, Caffe, FP32,
maximum performance mode. Networks are recognised by the MACs and parameters of the paper's table 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploycc.documents.compile import CompileReport, SizeRecord

SOURCE = "white paper, Silexica and Irida Labs, 2018, table 4: original network in Caffe, FP32, batch 1"

_BY_SIZE = {("31.4", "26.3"): "VGG-SSD", ("1.3", "5.7"): "PVA-SSD", ("1.2", "5.5"): "SqueezeNet-SSD"}
"""GMACs and millions of parameters, as printed in table 1."""

_MILLISECONDS = {
    "jetson-tx2": {"VGG-SSD": 157.1, "PVA-SSD": 65.9, "SqueezeNet-SSD": 34.8},
    "drive-px2-igpu": {"VGG-SSD": 160.7, "PVA-SSD": 67.4, "SqueezeNet-SSD": 35.1},
    "drive-px2-dgpu": {"VGG-SSD": 49.1, "PVA-SSD": 56.8, "SqueezeNet-SSD": 24.6},
}
"""Latency on the GPU by prefix of the target's name and by network."""


@dataclass(frozen=True)
class PublishedLatency:
    """A published figure.

    Attributes:
        network: its name in the paper.
        latency_ms: for one picture.
    """

    network: str
    latency_ms: float


def published_latency(report: CompileReport) -> PublishedLatency | None:
    """Return the paper's latency of this network on this board, or None if it has none."""
    board = next((name for name in _MILLISECONDS if report.target.name.startswith(name)), None)
    sizes = [size for network in report.networks for step in network.steps for size in (step.before, step.after)]
    network = next((_BY_SIZE[_printed(size)] for size in sizes if _printed(size) in _BY_SIZE), None)
    if board is None or network is None:
        return None
    return PublishedLatency(network, _MILLISECONDS[board][network])


def _printed(size: SizeRecord) -> tuple[str, str]:
    return f"{size.macs / 1e9:.1f}", f"{size.params / 1e6:.1f}"
