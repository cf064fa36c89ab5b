"""Pictures of classes that the teacher seldom sees are drawn more often, as views of what it sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("torch", reason="PyTorch, of the extra train, is not installed")

import deploycc
from deploycc.detector.picture_list import PictureList
from deploycc.distillation.balance import MOST_OFTEN, Balance, balance_by, draws
from deploycc.distillation.loop import TrainingSettings, key_of
from deploycc.distillation.pair import Pair
from deploycc.distillation.samples import Samples
from deploycc.evaluation.nms import Detections
from deploycc.workflows.pictures import open_pictures

BOX = (0.25, 0.25, 0.5, 0.5)


def found(*objects: tuple[int, float], box: Sequence[float] = BOX) -> Detections:
    """Detections of classes with scores, all at the same place."""
    return Detections(
        np.tile(np.array(box, np.float32), (len(objects), 1)),
        np.array([score for _, score in objects], np.float32),
        np.array([k for k, _ in objects], np.int64),
    )


NOTHING = found()


def test_by_how_much_a_rare_class_is_drawn_more_often() -> None:
    """Class 1 is in 15 pictures, class 2 in one: 8 on average."""
    seen = [*[found((1, 1.0))] * 15, found((2, 1.0)), NOTHING]
    for power, factor in ((0.5, 8**0.5), (1.0, 8.0), (0.0, 1.0)):
        drawn = draws(seen, power)
        assert drawn.factors.tolist() == pytest.approx([1.0] * 15 + [factor, 1.0])


def test_a_doubtful_object_counts_by_the_square_and_hardly_anything_does_not_count() -> None:
    seen = [*[found((1, 1.0))] * 15, found((2, 0.5)), found((2, 0.5), (1, 1.0)), found((2, 0.04))]
    factors = draws(seen, 1.0).factors
    rarity = (16 + 0.5) / 2 / 0.5  # class 2 is worth half a picture
    assert rarity > MOST_OFTEN
    assert factors[15] == factors[16] == pytest.approx(1 + 0.25 * (MOST_OFTEN - 1))
    assert factors[17] == factors[0] == 1


def test_a_class_that_is_doubted_everywhere_is_rare_where_it_is_seen() -> None:
    """As networks with sigmoids do: each picture may be anything."""
    doubted = [(1, 0.9), (2, 0.1)]
    factors = draws([*[found(*doubted)] * 99, found((2, 0.9))], 1.0).factors
    assert factors[:99].max() < 1.2
    assert factors[99] > 5


def test_a_crowd_is_one_picture() -> None:
    alone = draws([found((1, 1.0)), found((2, 1.0))], 1.0).factors
    crowd = draws([found(*[(1, 1.0)] * 50), found((2, 1.0))], 1.0).factors
    assert alone.tolist() == crowd.tolist() == [1, 1]


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 5), st.floats(0.0, 1.0, width=32)), max_size=5), min_size=1, max_size=30
    ),
    st.floats(0, 1),
    st.integers(1, 5000),
)
def test_views_are_shared_out_whole_and_fairly(
    pictures: list[list[tuple[int, float]]], power: float, total: int
) -> None:
    drawn = draws([found(*objects) for objects in pictures], power)
    assert np.isfinite(drawn.factors).all()
    assert drawn.factors.min() >= 1
    assert drawn.factors.max() <= MOST_OFTEN
    counts = drawn.counts(total)
    assert counts.sum() == total
    wanted = drawn.factors / drawn.factors.sum() * total
    assert np.abs(counts - wanted).max() <= 1
    for factor, boxes, shares in zip(drawn.factors, drawn.targets, drawn.shares, strict=True):
        assert len(boxes) == len(shares)
        assert shares.sum() == pytest.approx(0.5 * (1 - 1 / factor), abs=1e-6)  # half of the additional views


def test_views_zoom_in_on_what_is_rare() -> None:
    there = (0.5, 0.5, 0.75, 0.75)
    both = Detections(np.array([BOX, there], np.float32), np.ones(2, np.float32), np.array([1, 2]))
    drawn = draws([*[found((1, 1.0))] * 15, both], 1.0)
    rng = np.random.default_rng(0)
    assert all(drawn.target(0, rng) is None for _ in range(50))
    targets = [drawn.target(15, rng) for _ in range(400)]
    zoomed = [target for target in targets if target is not None]
    assert len(zoomed) / 400 == pytest.approx(0.5 * (1 - 1 / drawn.factors[15]), abs=0.08)
    assert {tuple(target) for target in zoomed} == {there}


# ---- samples --------------------------------------------------------------------------------------------------------

COUNT = 100
RARE = 7


def shades() -> PictureList:
    def read(number: int) -> NDArray[np.uint8]:
        return np.full((8, 8, 3), number, np.uint8)

    return PictureList("shades", tuple(map(str, range(COUNT))), "0" * 64, read)


def seen_in(picture: NDArray[np.uint8]) -> Detections:
    return found((2 if picture[0, 0, 0] == RARE else 1, 1.0))


def test_the_rare_picture_comes_more_often_and_every_picture_comes() -> None:
    spec = deploycc.load("street_ssd").input
    plain, balanced = (Samples(shades(), spec, 1, balance=balance) for balance in (None, Balance(seen_in, 0.5)))
    assert RARE in plain.trained_on
    shares = []
    for samples in (plain, balanced):
        drawn = np.bincount([samples.first_picture(view) for view in range(samples.views_per_round)], minlength=COUNT)
        assert all(drawn[number] > 0 for number in samples.trained_on)
        assert all(drawn[number] == 0 for number in samples.held_out)
        shares.append(drawn[RARE] / drawn.sum())
    assert shares[1] / shares[0] == pytest.approx(45**0.5, rel=0.1)  # in one of 90 pictures, 45 on average


def test_views_are_the_same_again_with_balance() -> None:
    spec = deploycc.load("street_ssd").input
    one, other = (Samples(shades(), spec, 1, balance=Balance(seen_in, 1.0)) for _ in range(2))
    for view in one.views(3, 6):
        assert np.array_equal(one.view(view), other.view(view))
    assert one.views(3, 6) == other.views(3, 6)


def test_what_the_teacher_sees_decides_and_a_checkpoint_knows_it() -> None:
    teacher = deploycc.load("street_ssd")
    pictures = open_pictures("generated:5:24", teacher.input)
    assert balance_by(teacher, 0.0) is None
    balance = balance_by(teacher, 0.5)
    assert balance is not None
    assert len(balance.look(pictures.read(0))) > 0
    samples = Samples(pictures, teacher.input, 1)
    network = Pair(teacher, teacher, samples, 0, 0.0).student
    keys = {key_of(network, samples, TrainingSettings(balance=power)) for power in (0.0, 0.5, 1.0)}
    assert len(keys) == 3
