"""A small gated network with its profile, and a machine on which branches pay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gated_networks import Spelling, gated
from numpy.typing import NDArray
from PIL import Image

from deploycc.detector import Detector, InputSpec
from deploycc.detector.file import save
from deploycc.detector.picture_list import folder_pictures
from deploycc.gate_planning import check, costs
from deploycc.gate_planning.costs import CostModel, make_grid
from deploycc.gate_planning.operations import OPERATIONS, Line
from deploycc.importers import load
from deploycc.utilisation.measure import measure_utilisation

COUNT = 8
BLOCKS = Spelling(group="gather", layout="after-activation")


def write_profiled(folder: Path, spelling: Spelling = BLOCKS, seed: int = 3) -> tuple[str, str, Detector]:
    """Write a gated network, its profile and the pictures that it was made from."""
    images = folder / "pictures"
    images.mkdir()
    random = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = random.integers(0, 256, (6, 6, 3), np.uint8) // np.uint8(random.integers(1, 6))
        Image.fromarray(pixels).save(images / f"{number}.png")
    spec = InputSpec("x", 6, 6, "RGB", (128.0,) * 3, (1 / 32,) * 3)
    save(replace(gated(spelling, seed=seed), input=spec), folder / "gated.onnx")
    detector = load(folder / "gated.onnx")
    profile, _ = measure_utilisation(detector, folder_pictures(images))
    profile.write(folder / "profile.json")
    return str(folder / "gated.onnx"), str(folder / "profile.json"), detector


def pretend_branches_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that convolutions are slow and branches free, and that a network with fewer nodes is faster."""

    def model(self: costs.GateCosts, convolutions: Any, *_: object) -> CostModel:
        grids = {}
        for convolution, _ in convolutions:
            inputs, kernels = range(1, convolution.inputs + 1), range(1, convolution.kernels + 1)
            grids[convolution] = make_grid(inputs, kernels, [[float(i * k) for k in kernels] for i in inputs])
        return CostModel(grids, {name: Line(0.0, 0.0) for name in OPERATIONS})

    def timed(
        sessions: Mapping[str, Any], pictures: Sequence[Any], *_: Any, **__: Any
    ) -> dict[str, NDArray[np.float64]]:
        multiply = 5.0 if "planned" in sessions else 5.5
        ms = {"dense": 5.0, "multiply": multiply, "lowered": 4.0, "planned": 4.0}
        return {name: np.full((2, len(pictures)), ms.get(name, 4.5)) for name in sessions}

    monkeypatch.setattr(costs.GateCosts, "model", model)
    monkeypatch.setattr(check, "time_pictures", timed)
