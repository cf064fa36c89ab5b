"""Pictures as users name them: a folder, or a data set, whose labels training may look at."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.errors import InputError, Note, PictureError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deploycc.detector import Detector, InputSpec
    from deploycc.detector.picture_list import PictureList
    from deploycc.distillation.views import Labels
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
    if not _is_data_set(source):
        return folder_pictures(Path(source))
    from deploycc.evaluation.dataset import open_dataset

    return _pictures_of(open_dataset(str(source), size=spec.height), spec)


def open_labelled(
    source: str | Path | PictureList, detector: Detector, names: tuple[str, ...] = ()
) -> tuple[PictureList, Callable[[int], Labels] | None, tuple[Note, ...]]:
    """Open pictures for training, with the labels of a data set.

    Args:
        source: see `open_pictures`.
        detector: that is trained, with SSD heads.
        names: its class names with the background, if it does not know them.

    Returns:
        The pictures; what is labelled in each, by its number, or None where there are no labels; notes on class names
        that were assumed.

    Raises:
        InputError, PictureError: see `open_pictures` and `deploycc.distillation.labels.read_labels`.
    """
    from deploycc.detector.picture_list import PictureList

    if isinstance(source, PictureList) or not _is_data_set(source):
        return open_pictures(source, detector.input), None, ()
    from deploycc.distillation.labels import read_labels
    from deploycc.evaluation.dataset import open_dataset, remembered

    dataset = remembered(open_dataset(str(source), size=detector.input.height))
    labels, notes = read_labels(dataset, detector, names)
    return _pictures_of(dataset, detector.input), labels, notes


def check_labels(source: str | Path | PictureList, detector: Detector, names: tuple[str, ...] = ()) -> None:
    """Refuse a data set whose labels `open_labelled` would refuse, without reading a picture; the same arguments."""
    from deploycc.detector.picture_list import PictureList

    if isinstance(source, PictureList) or not _is_data_set(source):
        return
    from deploycc.distillation.labels import read_labels
    from deploycc.evaluation.dataset import open_dataset

    read_labels(open_dataset(str(source), size=detector.input.height), detector, names)


def _is_data_set(source: str | Path) -> bool:
    return isinstance(source, str) and source.startswith(_DATA_SETS)


def _pictures_of(dataset: Dataset, spec: InputSpec) -> PictureList:
    from deploycc.detector.picture_list import PictureList

    source = dataset.spelling
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
