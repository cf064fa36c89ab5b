"""Annotated pictures from a VOC folder or from the generator of street scenes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploycc.detector.pictures import read_picture
from deploycc.errors import InputError
from deploycc.evaluation.truth import Truth
from deploycc.evaluation.voc_folder import AnnotatedPicture, read_voc_folder
from deploycc.scenes import CLASS_NAMES, draw_scene

GENERATED_COUNT = 500  # default number of generated pictures
_GENERATED = re.compile(r"generated:(?P<seed>[0-9]{1,19})(:(?P<count>[0-9]{1,7}))?")
_SYNTAX = "voc:FOLDER[@SPLIT] or generated:SEED[:COUNT]"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Annotated pictures, read or drawn one at a time.

    Attributes:
        spelling: as the user wrote it.
        class_names: without background.
        names: one per picture.
        sample: returns the picture, [H, W, 3] uint8 (red first), and the annotations for an index.
    """

    spelling: str
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    sample: Callable[[int], tuple[NDArray[np.uint8], Truth]]

    def __len__(self) -> int:
        return len(self.names)


def remembered(dataset: Dataset, most_bytes: int = 256 << 20) -> Dataset:
    """Return the same data set, whose first pictures are read or drawn only once, for several networks in turn.

    Args:
        dataset: annotated pictures.
        most_bytes: of pictures that are kept; the others are read again.
    """
    known: dict[int, tuple[NDArray[np.uint8], Truth]] = {}
    free = most_bytes

    def sample(number: int) -> tuple[NDArray[np.uint8], Truth]:
        nonlocal free
        if number in known:
            return known[number]
        picture, truth = dataset.sample(number)
        if picture.nbytes <= free:
            picture.flags.writeable = False
            known[number] = picture, truth
            free -= picture.nbytes
        return picture, truth

    return replace(dataset, sample=sample)


def open_dataset(spelling: str, *, size: int = 160, classes: tuple[str, ...] | None = None) -> Dataset:
    """Open ``voc:FOLDER[@SPLIT]`` or ``generated:SEED[:COUNT]``.

    Args:
        spelling: the data set.
        size: height and width of generated pictures.
        classes: the class names allowed in a VOC folder, in order; None takes those that occur.

    Raises:
        InputError: the spelling is wrong, or the folder's data are (see `read_voc_folder`).
    """
    kind, _, rest = spelling.partition(":")
    if kind == "voc" and rest:
        return _open_voc(spelling, rest, classes)
    if generated := _GENERATED.fullmatch(spelling):
        count = int(generated["count"] or GENERATED_COUNT)
        if count > 0:
            return _open_generated(spelling, int(generated["seed"]), count, size)
    raise InputError("data-spelling", f"{spelling!r} is not a data set", hint=f"write {_SYNTAX}")


def _open_voc(spelling: str, rest: str, classes: tuple[str, ...] | None) -> Dataset:
    folder, split = Path(rest), None
    if not folder.exists() and "@" in rest:
        path, _, split = rest.rpartition("@")
        folder = Path(path)
    names, pictures = read_voc_folder(folder, classes, split)
    return Dataset(spelling, names, tuple(p.picture.name for p in pictures), partial(_read, pictures))


def _read(pictures: Sequence[AnnotatedPicture], number: int) -> tuple[NDArray[np.uint8], Truth]:
    return read_picture(pictures[number].picture), pictures[number].truth


def _open_generated(spelling: str, seed: int, count: int, size: int) -> Dataset:
    names = tuple(f"scene-{seed}-{number}" for number in range(count))
    return Dataset(spelling, CLASS_NAMES, names, partial(_draw, seed, size))


def _draw(seed: int, size: int, number: int) -> tuple[NDArray[np.uint8], Truth]:
    scene = draw_scene(seed, number, size)
    return scene.pixels, Truth(scene.boxes, scene.classes, scene.difficult)
