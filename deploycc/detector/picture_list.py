"""Pictures without labels, named and digested, so that what was made from them can say so."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deploycc.detector.pictures import find_pictures, read_picture
from deploycc.errors import PictureError
from deploycc.files import sha256_of

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, eq=False)
class PictureList:
    """Pictures in order, read one at a time; another process on this machine reads them too.

    Attributes:
        source: as the user wrote it.
        names: one per picture.
        sha256: over names and contents, in order.
        read: picture [H, W, 3] uint8, red first, by its number; may raise PictureError.
    """

    source: str
    names: tuple[str, ...]
    sha256: str
    read: Callable[[int], NDArray[np.uint8]]

    def only(self, numbers: Sequence[int]) -> Self:
        """Return some of the pictures; the digest stays that of all, from which the choice follows."""
        names = tuple(self.names[number] for number in numbers)
        return replace(self, names=names, read=partial(_read_chosen, self.read, tuple(numbers)))

    def some(self, most: int, seed: int) -> Self:
        """Return all pictures, or as many as this of more: chosen at random, in their order."""
        chosen = np.random.default_rng(seed).permutation(len(self.names))[:most]
        return self.only(sorted(chosen.tolist()))


class FitPictures(PictureList):
    """Pictures that weights may be fitted to: those that judge are not among them."""


def folder_pictures(folder: Path) -> PictureList:
    """The pictures of a folder.

    Raises:
        PictureError: the folder or a file in it cannot be read, or it holds no picture.
    """
    paths = find_pictures(folder)
    digest = hashlib.sha256()
    for path in paths:
        try:
            content = sha256_of(path)
        except OSError as error:
            raise PictureError(
                "picture-unreadable", "the picture cannot be read", context={"file": path}, note=error.strerror
            ) from None
        digest.update(f"{path.name}\0{content}\n".encode())
    names = tuple(path.name for path in paths)
    return PictureList(str(folder), names, digest.hexdigest(), partial(_read, paths))


def _read(paths: Sequence[Path], number: int) -> NDArray[np.uint8]:
    return read_picture(paths[number])


def _read_chosen(read: Callable[[int], NDArray[np.uint8]], numbers: tuple[int, ...], number: int) -> NDArray[np.uint8]:
    return read(numbers[number])
