"""A network whose gate decides for two layers, its profile and its pictures: whole, small and fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from branching_networks import SIZE, Block, Branching, Wish
from numpy.typing import NDArray
from PIL import Image

from deploycc.detector import Detector, InputSpec
from deploycc.detector.file import save
from deploycc.detector.picture_list import folder_pictures
from deploycc.gate_planning import check
from deploycc.importers import load
from deploycc.utilisation.measure import measure_utilisation

COUNT = 12
FASTER = {"dense": 5.0, "multiply": 5.5, "lowered": 4.6, "planned": 4.6, "staged": 4.0}
"""Milliseconds with which two networks in a row are the best choice, by what the networks are called in turns."""

MADE = Branching((Block("two", "nested", (0, 2, 0, 0)),), (Wish("widths", 0, False),), 3, True)


def write_shared(folder: Path) -> tuple[str, str, Detector]:
    """Write the network, its profile and the pictures that it was made from; these need different numbers of kernels."""
    images = folder / "pictures"
    images.mkdir()
    random = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = random.integers(0, 256, (SIZE, SIZE, 3)) * random.random((1, 1, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(images / f"{number:02}.png")
    spec = InputSpec("x", SIZE, SIZE, "RGB", (128.0,) * 3, (1 / 32,) * 3)
    save(replace(MADE.build("random"), input=spec), folder / "shared.onnx")
    detector = load(folder / "shared.onnx")
    profile, _ = measure_utilisation(detector, folder_pictures(images))
    profile.write(folder / "profile.json")
    return str(folder / "shared.onnx"), str(folder / "profile.json"), detector


def pretend_times(monkeypatch: pytest.MonkeyPatch, ms: Mapping[Any, float], other_ms: float = 4.5) -> list[set[Any]]:
    """Pretend that networks take as long as their names say; return what took turns, filled while it does."""
    asked: list[set[Any]] = []

    def timed(
        sessions: Mapping[Any, Any], pictures: Sequence[Any], *_: Any, **__: Any
    ) -> dict[Any, NDArray[np.float64]]:
        asked.append(set(sessions))
        return {name: np.full((2, len(pictures)), ms.get(name, other_ms)) for name in sessions}

    monkeypatch.setattr(check, "time_pictures", timed)
    return asked
