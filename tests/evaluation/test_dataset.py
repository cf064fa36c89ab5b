"""Data sets as users spell them."""

from __future__ import annotations

import pytest

from deploycc.errors import InputError
from deploycc.evaluation.dataset import open_dataset


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
