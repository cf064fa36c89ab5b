"""Kernels are ranked and weights refitted on pictures in which the detector is sure of an object."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

import deploycc
from deploycc.detector import Detector
from deploycc.detector.held_out import held_out_numbers
from deploycc.detector.picture_list import FitPictures, PictureList
from deploycc.workflows.pictures import open_pictures
from deploycc.workflows.pictures_with_objects import LEAST, pictures_with_objects


@pytest.fixture(scope="module")
def detector() -> Detector:
    return deploycc.load("street_ssd")


@pytest.fixture(scope="module")
def scene(detector: Detector) -> NDArray[np.uint8]:
    """With objects."""
    return open_pictures("generated:5:1", detector.input).read(0)


def mixed(scene: NDArray[np.uint8], count: int, every: int) -> PictureList:
    """Pictures of which every so many shows the scene, and the others nothing."""

    def read(number: int, scene: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return scene if number % every == 0 else np.full_like(scene, 90)

    return PictureList("mixed", tuple(map(str, range(count))), "0" * 64, partial(read, scene=scene))


def numbers_of(pictures: PictureList) -> list[int]:
    return [int(name) for name in pictures.names]


def test_pictures_with_objects_are_chosen(detector: Detector, scene: NDArray[np.uint8]) -> None:
    pictures = mixed(scene, 480, 2)
    chosen = pictures_with_objects(pictures, detector)
    expected = sorted(set(range(0, 480, 2)) - set(held_out_numbers(480)))
    assert len(expected) >= LEAST
    assert numbers_of(chosen) == expected
    assert np.array_equal(chosen.read(7), scene)
    assert (chosen.source, chosen.sha256) == (pictures.source, pictures.sha256)


def test_where_few_show_any_those_it_is_surest_of_are_enough(detector: Detector, scene: NDArray[np.uint8]) -> None:
    chosen = pictures_with_objects(mixed(scene, 400, 5), detector)
    surest = set(range(0, 400, 5)) - set(held_out_numbers(400))
    assert surest <= set(numbers_of(chosen))
    assert not set(numbers_of(chosen)) & set(held_out_numbers(400))
    assert len(chosen.names) >= LEAST


@pytest.mark.parametrize("count", [12, 200])
def test_of_few_pictures_none_is_left_out(detector: Detector, scene: NDArray[np.uint8], count: int) -> None:
    chosen = pictures_with_objects(mixed(scene, count, 5), detector)
    assert numbers_of(chosen) == sorted(set(range(count)) - set(held_out_numbers(count)))


def test_where_outputs_are_no_detections_none_is_left_out(detector: Detector, scene: NDArray[np.uint8]) -> None:
    opaque = replace(detector, heads=None)
    assert len(pictures_with_objects(mixed(scene, 300, 5), opaque).names) == 300 - len(held_out_numbers(300))


def test_what_was_chosen_stays(detector: Detector, scene: NDArray[np.uint8]) -> None:
    chosen = pictures_with_objects(mixed(scene, 300, 1), detector)
    fewer = chosen.some(250, 1)
    assert isinstance(fewer, FitPictures)
    assert pictures_with_objects(fewer, detector) is fewer


def test_of_many_pictures_some_are_looked_at(
    detector: Detector, scene: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploycc.workflows.pictures_with_objects._LOOK", 250)
    said: list[int] = []
    chosen = pictures_with_objects(mixed(scene, 1000, 1), detector, lambda what, done=0, of=0: said.append(of))
    assert set(said) == {250}
    assert len(chosen.names) == 250
