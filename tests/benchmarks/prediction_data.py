"""Public measurements of boards, and the networks that they were made with.

The measurements are read from a folder of facts (``--facts``, else ``DEPLOYCC_FACTS``, else ``../shared/facts``), which
is not part of the project; `bench_prediction.py` and `fit_prediction.py` say so where it is absent.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from published_networks.mobile import NETSPRESSO
from published_networks.slim import SLIM
from published_networks.yolox import YOLOX

from deploycc.prediction.launches import Fusion, Launch, launches
from deploycc.prediction.stacks import Gpu, Model
from deploycc.prediction.times import LaunchTable, launch_times, network_ms

ROOT = Path(__file__).resolve().parents[2]


def facts_folder(given: str | None) -> Path:
    """The folder of facts; ends the program where it is absent."""
    folder = Path(given or os.environ.get("DEPLOYCC_FACTS") or ROOT.parent / "shared" / "facts")
    if not (folder / "board-data").is_dir():
        sys.exit(f"skipped: there is no folder of public measurements {folder}/board-data (--facts, DEPLOYCC_FACTS)")
    return folder


# Multiprocessors, cores, MHz, GB/s and whether it has tensor cores. TX2, Nano and Xavier: deviceQuery and the DVFS
# tables that targets/*.toml name; Xavier NX: NVIDIA's data sheet.
GPUS = {
    "Jetson TX2": (2, 256, 1300.5, 59.7, False),
    "Jetson Nano": (1, 128, 921.6, 25.6, False),
    "Jetson NX": (6, 384, 1100.0, 59.7, True),
    "Jetson Xavier": (8, 512, 1377.0, 137.0, True),
    "Jetson Orin Nano": (8, 1024, 625.0, 68.0, True),
    "Jetson AGX Orin": (16, 2048, 1300.0, 204.8, True),
    "drive_px2.igpu": (2, 256, 1270.0, 51.2, False),
    "drive_px2.dgpu": (9, 1152, 1290.0, 96.1, False),
    "jetson_tx2.gpu": (2, 256, 1300.5, 59.7, False),
}


def gpu(board: str) -> Gpu:
    """The facts of a board. A tensor core multiplies eight times what the cores beside it do."""
    sm_count, cores, mhz, bandwidth, tensor = GPUS[board]
    macs = cores * mhz * 1e6
    return Gpu(sm_count, mhz * 1e6, macs, macs * (8 if tensor else 2), bandwidth * 1e9)


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file whose comments start with #."""
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


@dataclass(frozen=True)
class Series:
    """Times of some networks on one board in one precision."""

    board: str
    precision: str
    ms: np.ndarray


class Networks:
    """Several networks as one table, so that a fit evaluates all of them at once."""

    def __init__(self, graphs: Mapping[str, gs.Graph | Sequence[Launch]], fusion: Fusion) -> None:
        parts = [launches(graph, fusion) if isinstance(graph, gs.Graph) else list(graph) for graph in graphs.values()]
        self.names = list(graphs)
        self.launches = parts
        self.table = LaunchTable.of([launch for part in parts for launch in part])
        self.starts = np.cumsum([0] + [len(part) for part in parts])[:-1]
        self.inputs = np.array([_input_elements(graph) for graph in graphs.values()])

    def predict(self, board: Gpu, model: Model, precision: str) -> np.ndarray:
        """Milliseconds of each network."""
        total = np.add.reduceat(launch_times(self.table, board, model, precision).total, self.starts)
        return np.asarray(total + [network_ms(board, model, count) for count in self.inputs])

    def sums(self, per_launch: np.ndarray) -> np.ndarray:
        """Sum a quantity of launches by network."""
        return np.asarray(np.add.reduceat(per_launch, self.starts))


def _input_elements(graph: gs.Graph | Sequence[Launch]) -> int:
    return int(np.prod(graph.inputs[0].shape)) if isinstance(graph, gs.Graph) else 0


def made(builders: Mapping[str, Callable[[], gs.Graph]]) -> dict[str, gs.Graph]:
    return {name: build() for name, build in builders.items()}


def tensorrt_3(facts: Path) -> tuple[dict[str, gs.Graph], list[Series]]:
    """TX2, JetPack 3.2, TensorRT 3.0: 14 classification networks in both precisions."""
    found = {row["model"]: row for row in rows(facts / "board-data" / "tx2_tensorrt30_classification.csv")}
    graphs = made({name: SLIM[name] for name in found})
    series = [
        Series("Jetson TX2", precision, np.array([float(found[name][f"tensorrt_{precision}_ms"]) for name in graphs]))
        for precision in ("fp32", "fp16")
    ]
    return graphs, series


def tensorrt_8(facts: Path, boards: Sequence[str]) -> tuple[dict[str, gs.Graph], list[Series]]:
    """JetPack 4.6, TensorRT 8.0.1, FP16: nine classification networks."""
    found = rows(facts / "board-data" / "netspresso_jetson_tensorrt_ms.csv")
    ms = {(row["board"], row["model"]): float(row["latency_ms"]) for row in found if row["jetpack"] == "JetPack 4.6"}
    series = [Series(board, "fp16", np.array([ms[board, name] for name in NETSPRESSO])) for board in boards]
    return made(NETSPRESSO), series


# Published beside the classification networks on the same page (github Nota-NetsPresso/netspresso-trainer,
# docs/benchmarks/device_matrix/tensorrt.md, 2025-07-15), JetPack 4.6, FP16, 640x640. No fit has seen them.
YOLOX_MS = {
    "Jetson TX2": (35.8665, 82.2585, 153.366),
    "Jetson Nano": (95.8883, 224.517, 415.363),
    "Jetson NX": (13.7659, 29.2506, 49.0844),
    "Jetson Xavier": (8.83621, 19.1866, 30.6859),
}


def yolox() -> dict[str, gs.Graph]:
    return made(YOLOX)
