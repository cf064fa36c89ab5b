"""Data sets as users spell them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deploycc.errors import InputError
from deploycc.evaluation.dataset import open_dataset, remembered


def test_a_generated_data_set_has_its_count() -> None:
    assert len(open_dataset("generated:7:3")) == 3
    assert len(open_dataset("generated:7")) == 500


@pytest.mark.parametrize(
    "spelling",
    [
        *(
            "generated:\u00b2:1",
            "generated:1:\u0663",
            "generated:1:0",
            "generated:-1:1",
            "generated:1:2:3",
            "generated:",
        ),
        *("generated:1:99999999999", f"generated:{'9' * 5000}:1", "generated:1:1e3", "voc:", "coco:x"),
    ],
)
def test_other_spellings_are_refused(spelling: str) -> None:
    """Superscript digits are digits to `str.isdigit`; a count of 10**11 would fill the memory with names."""
    with pytest.raises(InputError) as caught:
        open_dataset(spelling)
    assert caught.value.code == "data-spelling"


def test_a_remembered_data_set_is_the_same_and_is_read_once_as_far_as_it_fits() -> None:
    drawn = open_dataset("generated:7:3", size=32)
    asked: list[int] = []
    counted = replace(drawn, sample=lambda number: asked.append(number) or drawn.sample(number))  # type: ignore[func-returns-value]
    data = remembered(counted, most_bytes=2 * 32 * 32 * 3)
    for _ in range(2):
        for number in range(3):
            (picture, truth), (expected, expected_truth) = data.sample(number), drawn.sample(number)
            assert np.array_equal(picture, expected)
            assert np.array_equal(truth.boxes, expected_truth.boxes)
    assert asked == [0, 1, 2, 2]
