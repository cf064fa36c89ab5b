"""What judges a network is never what it was fitted to, whichever step fits it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

import deploycc
from deploycc.detector import Detector
from deploycc.detector.held_out import LEAST_PICTURES, held_out_numbers, to_fit_on
from deploycc.detector.picture_list import PictureList
from deploycc.pruning import reconstruct
from deploycc.workflows.pictures import open_pictures

COUNT = 20


def numbered(count: int) -> PictureList:
    names = tuple(f"{number}.png" for number in range(count))
    return PictureList("here", names, "0" * 64, Shade())


class Shade:
    """Pictures whose brightness is their number; other processes read them too."""

    def __call__(self, number: int) -> NDArray[np.uint8]:
        return np.full((1, 1, 3), number, np.uint8)


@pytest.mark.parametrize("count", [LEAST_PICTURES, 33, 200])
def test_each_picture_is_on_one_side(count: int) -> None:
    held_out, rest = held_out_numbers(count), to_fit_on(numbered(count))
    assert len(held_out) == round(count / 10)
    read = [int(rest.read(number)[0, 0, 0]) for number in range(len(rest.names))]
    assert sorted({*held_out, *read}) == list(range(count))
    assert len(held_out) + len(read) == count
    assert rest.names == tuple(f"{number}.png" for number in read)
    assert rest.sha256 == numbered(count).sha256


def test_there_are_at_most_a_hundred_and_none_of_a_few() -> None:
    assert len(held_out_numbers(5000)) == 100
    assert max(held_out_numbers(5000)) > 2500
    few = numbered(LEAST_PICTURES - 1)
    assert to_fit_on(few).names == few.names


def test_other_processes_read_them() -> None:
    rest = pickle.loads(pickle.dumps(to_fit_on(numbered(50))))
    assert rest.read(49 - len(held_out_numbers(50))).shape == (1, 1, 3)


# ---- steps that fit -------------------------------------------------------------------------------------------------


def watched() -> tuple[PictureList, set[int]]:
    """Generated scenes, and the numbers of those that were read."""
    scenes, seen = open_pictures(f"generated:5:{COUNT}", deploycc.load("street_ssd").input), set[int]()

    def read(number: int) -> NDArray[np.uint8]:
        seen.add(number)
        return scenes.read(number)

    return replace(scenes, read=read), seen


def refit(detector: Detector, pictures: PictureList) -> None:
    settings = deploycc.PruneSettings(by="l1", below=0.2, multiple=8)
    record = deploycc.prune(detector, settings, pictures=pictures).record
    assert record.reconstruction is not None
    assert record.reconstruction.fitted + record.reconstruction.held_out == COUNT - COUNT // 10


def rank(detector: Detector, pictures: PictureList) -> None:
    pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")
    assert deploycc.fisher_importance(detector, pictures).pictures == COUNT - COUNT // 10


@pytest.mark.parametrize("fit", [refit, rank])
def test_pictures_that_judge_are_not_read_by_what_fits(
    fit: Callable[[Detector, PictureList], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruct, "_POSITIONS", 8)  # a rough fit is enough here
    monkeypatch.setattr(reconstruct, "RIDGES", (0.1,))
    detector = deploycc.load("street_ssd")
    pictures, seen = watched()
    fit(detector, pictures)
    assert seen == set(range(COUNT)) - set(held_out_numbers(COUNT))


@pytest.mark.parametrize("seed", [1, 2])
def test_training_judges_by_the_same_pictures_with_any_seed(seed: int) -> None:
    pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")
    from deploycc.distillation.samples import Samples

    spec = deploycc.load("street_ssd").input
    samples = Samples(open_pictures(f"generated:5:{COUNT}", spec), spec, seed)
    assert samples.held_out == held_out_numbers(COUNT)
    assert samples.trained_on == tuple(sorted(set(range(COUNT)) - set(samples.held_out)))
