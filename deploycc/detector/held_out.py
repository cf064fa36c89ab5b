"""Pictures that judge a network: nothing is ever fitted to them, neither by refitting nor by training."""

from __future__ import annotations

import numpy as np

from deploycc.detector.picture_list import FitPictures, PictureList

LEAST_PICTURES = 20
"""Fewer are too few to train on, so that none is held out."""
_SHARE = 0.1
_MOST = 100


def held_out_numbers(count: int) -> tuple[int, ...]:
    """Return the numbers of the pictures that judge, in order: a tenth, at most a hundred, chosen by the count alone.

    Whatever fits weights to the same pictures, with whichever seed and in whichever command, holds out the same ones.
    """
    if count < LEAST_PICTURES:
        return ()
    order = np.random.default_rng([17, count]).permutation(count)
    return tuple(sorted(int(number) for number in order[: min(_MOST, round(count * _SHARE))]))


def to_fit_on(pictures: PictureList) -> FitPictures:
    """Return the other pictures, in their order; the digest stays that of all, from which the choice follows."""
    if isinstance(pictures, FitPictures):
        return pictures
    judging = set(held_out_numbers(len(pictures.names)))
    numbers = tuple(number for number in range(len(pictures.names)) if number not in judging)
    chosen = pictures.only(numbers)
    return FitPictures(chosen.source, chosen.names, chosen.sha256, chosen.read)
