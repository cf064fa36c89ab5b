"""A gated network and its profile as files, and the pictures that the profile was made from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from gated_networks import Spelling, gated

from deploycc.detector import Detector, InputSpec
from deploycc.detector.file import save
from deploycc.detector.picture_list import PictureList
from deploycc.documents.utilisation import UtilisationProfile
from deploycc.importers import load
from deploycc.utilisation.measure import measure_utilisation

COUNT = 24


def pictures(count: int = COUNT) -> PictureList:
    random = np.random.default_rng(0)
    drawn = [random.integers(0, 256, (6, 6, 3), np.uint8) // np.uint8(random.integers(1, 6)) for _ in range(count)]
    return PictureList("drawn", tuple(map(str, range(count))), "a" * 64, lambda number: drawn[number])


def write(folder: Path, spelling: Spelling) -> tuple[str, str, Detector, UtilisationProfile]:
    """A gated network whose gates decide differently for different pictures, and its profile."""
    found = gated(spelling, seed=3)
    found = replace(found, input=InputSpec("x", 6, 6, "RGB", (128.0,) * 3, (1 / 32,) * 3))
    model, profile = folder / "gated.onnx", folder / "profile.json"
    save(found, model)
    found = load(model)
    measured, _ = measure_utilisation(found, pictures())
    measured.write(profile)
    return str(model), str(profile), found, measured
