"""Pictures as users name them: a folder, or a data set whose labels are not looked at."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.errors import InputError, PictureError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deploycc.detector import InputSpec
    from deploycc.detector.picture_list import PictureList
    from deploycc.documents.utilisation import UtilisationProfile
    from deploycc.evaluation.dataset import Dataset

_DATA_SETS = ("voc:", "generated:")


def open_pictures(source: str | Path | PictureList, spec: InputSpec) -> PictureList:
    """Open pictures for a network.

    Args:
        source: a folder, ``voc:FOLDER[@SPLIT]``, ``generated:SEED[:COUNT]``, or pictures that are open already.
        spec: input of the network: generated scenes are drawn in its size.

    Raises:
        InputError: the data set cannot be read.
        PictureError: the folder or a file in it cannot be read, or it holds no picture.
    """
    from deploycc.detector.picture_list import PictureList, folder_pictures

    if isinstance(source, PictureList):
        return source
    if isinstance(source, Path) or not source.startswith(_DATA_SETS):
        return folder_pictures(Path(source))
    from deploycc.evaluation.dataset import open_dataset

    dataset = open_dataset(source, size=spec.height)
    digest = hashlib.sha256(f"{spec.height}\0".encode())
    for number, name in enumerate(dataset.names):
        digest.update(f"{name}\0".encode())
        if not source.startswith("generated:"):  # there the name says it all
            digest.update(dataset.sample(number)[0].tobytes())
    return PictureList(source, dataset.names, digest.hexdigest(), partial(_read, dataset))


def _read(dataset: Dataset, number: int) -> NDArray[np.uint8]:
    return dataset.sample(number)[0]


def profile_pictures(profile: UtilisationProfile, spec: InputSpec) -> PictureList | None:
    """Open the pictures that a profile was made from; None where they cannot be read any more.

    Args:
        profile: names its pictures as `open_pictures` takes them.
        spec: input of the network.
    """
    try:
        return open_pictures(profile.pictures.source, spec)
    except (InputError, PictureError):
        return None
