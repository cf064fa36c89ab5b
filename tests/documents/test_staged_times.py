"""Times of two networks in a row: sums of parts, or of a whole that ran."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from deploycc.documents.document import Evidence
from deploycc.documents.staged_times import StagedRecord, TimesApart, TimesInARow

PARTS = TimesApart(dense_ms=(10.0, 12.0), first_ms=(2.0, 3.0), second_ms=((4.0, 9.0), (8.0,)), reading_ms=0.5)
WHOLE = TimesInARow(
    dense_ms=((10.0, 14.0), (11.0, 12.0)),
    planned_ms=((9.0, 9.0), (9.0, 9.0)),
    staged_ms=((5.0, 9.0), (6.0, 8.0)),
    worst_dense_ms=((8.0,), (9.0,)),
    worst_staged_ms=((10.0,), (9.0,)),
)


def record(**changes: Any) -> StagedRecord:
    fields: dict[str, Any] = {
        "layers": ("a", "b"), "sizes": ((8, 16), (4, 16)), "shares": (0.75, 0.25), "added_bytes": 100,
        "evidence": Evidence(kind="measured", source="a test"), "parts": PARTS,
    }  # fmt: skip
    return StagedRecord(**{**fields, **changes})


def test_parts_are_added_by_their_shares() -> None:
    apart = record()
    assert apart.composed
    assert apart.dense_ms == 10.0
    assert apart.planned_ms is None
    assert apart.expected_ms == pytest.approx(2 + 0.75 * 4 + 0.25 * 8 + 0.5, rel=1e-12, abs=0)
    assert apart.worst_ms == pytest.approx(2 + 8 + 0.5, rel=1e-12, abs=0)
    assert apart.relative_time == pytest.approx(0.75, rel=1e-12, abs=0)
    assert apart.worst_case == pytest.approx(1.05, rel=1e-12, abs=0)


def test_a_reading_that_is_not_known_is_not_added() -> None:
    apart = record(parts=PARTS.model_copy(update={"reading_ms": None}))
    assert apart.worst_ms == pytest.approx(10, rel=1e-12, abs=0)


def test_the_slowest_second_network_is_the_worst_case_whichever_it_is() -> None:
    parts = PARTS.model_copy(update={"second_ms": ((9.0,), (8.0,))})
    assert record(parts=parts).worst_ms == pytest.approx(11.5, rel=1e-12, abs=0)


def test_a_whole_is_what_ran_and_no_sum() -> None:
    run = record(parts=None, whole=WHOLE)
    assert not run.composed
    assert (run.dense_ms, run.planned_ms, run.expected_ms, run.worst_ms) == (11.0, 9.0, 6.5, 9.0)
    assert run.relative_time == pytest.approx(6.5 / 11, rel=1e-12, abs=0)
    assert run.worst_case == pytest.approx(9 / 8, rel=1e-12, abs=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"parts": None},
        {"whole": WHOLE},
        {"shares": (0.75, 0.75)},
        {"shares": (1.0,)},
        {"shares": (0.5, 0.25, 0.25)},
        {"sizes": ((8, 16),)},
        {"sizes": ((8, 16), (16,))},
        {"parts": PARTS.model_copy(update={"second_ms": ((1.0,),) * 3})},
    ],
)
def test_what_does_not_belong_together_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        record(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"dense_ms": ((10.0, 14.0),)},
        {"staged_ms": ((5.0,), (6.0,))},
        {"worst_staged_ms": ((9.0,),)},
        {"worst_dense_ms": ((9.0, 9.0), (9.0, 9.0))},
    ],
)
def test_turns_have_as_many_rounds_and_pictures(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TimesInARow(**{**WHOLE.model_dump(), **changes})
