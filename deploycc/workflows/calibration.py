"""Calibration pictures as commands name them: a folder, or a data set whose labels are not looked at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.errors import InputError

if TYPE_CHECKING:
    from deploycc.detector import InputSpec
    from deploycc.documents.utilisation import Preparation
    from deploycc.utilisation.measure import PictureList


def check_one(images: Path | None, data: str | None) -> None:
    """Refuse neither and both.

    Raises:
        InputError: ``calibration-pictures``.
    """
    if (images is None) == (data is None):
        raise InputError("calibration-pictures", "give either --images or --data", hint="--images FOLDER")


def calibration_pictures(images: Path | None, data: str | None, spec: InputSpec) -> PictureList:
    """The pictures of ``--images`` or of ``--data``.

    Raises:
        InputError: neither or both are given, or the data set cannot be read.
        PictureError: the folder or a file in it cannot be read, or it holds no picture.
    """
    from deploycc.utilisation.measure import PictureList, folder_pictures

    check_one(images, data)
    if images is not None:
        return folder_pictures(images)
    import hashlib

    from deploycc.evaluation.dataset import open_dataset

    assert data is not None
    dataset = open_dataset(data, size=spec.height)
    digest = hashlib.sha256(f"{spec.height}\0".encode())
    for number, name in enumerate(dataset.names):
        digest.update(f"{name}\0".encode())
        if not data.startswith("generated:"):  # there the name says it all
            digest.update(dataset.sample(number)[0].tobytes())
    return PictureList(data, dataset.names, digest.hexdigest(), lambda number: dataset.sample(number)[0])


def preparation(spec: InputSpec | Preparation) -> str:
    """How pictures become tensors, in words."""
    mean, scale = (", ".join(f"{value:g}" for value in dict.fromkeys(each)) for each in (spec.mean, spec.scale))
    return f"{spec.colour}, (pixel - ({mean})) * ({scale})"
