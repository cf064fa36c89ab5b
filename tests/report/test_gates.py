"""The gates report: figures from raw samples, and a page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from deploycc.documents.document import Evidence
from deploycc.documents.gates import ConsideredRecord, GateReport, PictureRecord, RegionRecord, Timings
from deploycc.documents.staged_times import StagedRecord, TimesApart, TimesInARow
from deploycc.report.gates import (
    considered_table,
    derive,
    gates_json,
    gates_tables,
    regions_table,
    render_gates_html,
    summary_table,
)

COUNT = 30


def timings(**changes: Any) -> Timings:
    """Dense 10 ms; lowered 10 ms less what is off; one round of two is disturbed."""
    off = np.linspace(0.1, 0.5, COUNT)
    records = tuple(
        PictureRecord(
            name=f"{n}.png", active_share=float(1 - each), saved_macs=round(1e6 * each),
            saved_macs_with_inputs=round(1.2e6 * each),
        )
        for n, each in enumerate(off)
    )  # fmt: skip
    lowered = tuple((10 - 4 * off).tolist())
    fields: dict[str, Any] = {
        "evidence": Evidence(kind="measured", source="Test CPU"),
        "pictures": records,
        "dense_ms": ((10.0,) * COUNT, (13.0,) * COUNT),
        "multiply_ms": ((11.0,) * COUNT, (11.0,) * COUNT),
        "lowered_ms": ((20.0,) * COUNT, lowered),
        "worst_dense_ms": ((10.0, 10.0), (12.0, 10.0)),
        "worst_lowered_ms": ((10.4, 12.0), (10.4, 10.4)),
    }
    return Timings(**{**fields, **changes})


def report(**changes: Any) -> GateReport:
    sizes = ((32, 64), (96,))
    fields: dict[str, Any] = {
        "tool": {"deploycc": "0.1.0"}, "network": "<b>net</b>", "source_sha256": "a" * 64, "plan_sha256": "b" * 64,
        "profile_sha256": "c" * 64, "target": "x86-cpu", "threads": 2, "network_macs": 1_200_000,
        "scope_macs": 1_000_000, "max_worst_case": 1.05,
        "max_growth": 1.0, "weight_bytes": 3 << 20, "added_bytes": 1 << 20, "predicted": Evidence(kind="predicted", source="parts"),
        "predicted_dense_ms": 10.0, "predicted_expected_ms": 8.0, "predicted_all_on_ms": 10.2,
        "considered": (
            ConsideredRecord(layers=("a", "b"), lowering="widths", sizes=sizes, expected_ms=3.0, all_on_ms=5.0,
                             added_bytes=1 << 20, chosen=True),
            ConsideredRecord(layers=("a",), lowering="multiply", sizes=((),), expected_ms=2.5, all_on_ms=2.5,
                             added_bytes=0, chosen=False),
        ),
        "regions": (
            RegionRecord(layers=("a", "b"), lowering="widths", sizes=sizes, predicted_saved_ms=2.0,
                         measured_saved_ms=1.5, kept=True),
        ),
        "timings": timings(),
    }  # fmt: skip
    return GateReport(**{**fields, **changes})


def test_figures_follow_from_the_samples() -> None:
    d = derive(report())
    assert (d.pictures, d.rounds, d.samples) == (COUNT, 2, 180)
    assert d.dense_ms == pytest.approx(10, rel=1e-9, abs=0)
    assert d.lowered_ms == pytest.approx(10 - 4 * 0.3, rel=1e-9, abs=0)
    assert d.saved == pytest.approx(0.12, rel=1e-9, abs=0)
    assert d.saved_macs == pytest.approx(0.3, rel=1e-6, abs=0)
    assert d.pays == pytest.approx(0.4, rel=1e-6, abs=0)
    assert d.saved_macs_with_inputs == pytest.approx(0.3, rel=1e-6, abs=0)
    assert d.worst_case == pytest.approx(1.04, rel=1e-9, abs=0)


def test_nothing_off_pays_nothing() -> None:
    none = tuple(
        PictureRecord(name=str(n), active_share=1.0, saved_macs=0, saved_macs_with_inputs=0) for n in range(COUNT)
    )
    d = derive(report(timings=timings(pictures=none)))
    assert d.pays is None
    assert d.pays_with_inputs is None
    assert "<svg" in render_gates_html(report(timings=timings(pictures=none)))


def test_tables_name_their_evidence() -> None:
    rows = summary_table(report()).rows
    assert [row[0] for row in rows] == ["predicted", "measured"]
    assert rows[1][4:] == ("12.0%", "30.0%", "0.40", "30.0%", "0.40", "1.040")
    assert regions_table(report()).rows[0][:6] == ("a > b", "widths", "32/64 > 96", "2.000", "1.500", "yes")
    assert [row[-1] for row in considered_table(report()).rows] == ["", "yes"]
    assert [row[0] for row in summary_table(report(timings=None)).rows] == ["predicted"]


def test_the_page_is_whole_and_escapes_names() -> None:
    page = render_gates_html(report())
    assert page.count("<svg") == 3
    assert "<b>net</b>" not in page
    assert "&lt;b&gt;net&lt;/b&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "Nothing was run" in render_gates_html(report(timings=None))


def test_json_has_no_raw_samples() -> None:
    facts = gates_json(report())
    assert "timings" not in facts
    assert "considered" not in facts
    assert facts["measured"]["provenance"] == "measured"
    assert len(gates_json(report(), considered=True)["considered"]) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"dense_ms": ((10.0,) * (COUNT - 1),)},
        {"lowered_ms": ((10.0,) * COUNT,)},
        {"worst_lowered_ms": ((10.0,), (10.0,))},
        {"worst_dense_ms": ((10.0, 10.0),)},
    ],
)
def test_timings_that_do_not_belong_together_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        timings(**changes)


def staged(**changes: Any) -> StagedRecord:
    fields: dict[str, Any] = {
        "layers": ("<i>a</i>", "b"), "sizes": ((8, 16), (8, 16)), "shares": (0.75, 0.25), "added_bytes": 3 << 19,
        "evidence": Evidence(kind="measured", source="Test board"), "chosen": True,
        "parts": TimesApart(dense_ms=(10.0,), first_ms=(2.0,), second_ms=((4.0,), (8.0,)), reading_ms=None),
    }  # fmt: skip
    return StagedRecord(**{**fields, **changes})


def test_two_networks_in_a_row_stand_beside_the_plan_in_one() -> None:
    made = report(staged=staged())
    table = gates_tables(made)[-1]
    assert [value for _, value in table.rows] == [
        "<i>a</i> > ... 2 layers", "8/16", "75%/25%", "composed, parts measured", "10.00", "7.000", "0.700", "1.000",
        "0.880", "1.5", "yes",
    ]  # fmt: skip
    refused = gates_tables(report(staged=staged(chosen=False, why="it is slower")))[-1]
    assert refused.rows[-1] == ("chosen", "no: it is slower")
    assert len(gates_tables(report())) == len(gates_tables(made)) - 1
    facts = gates_json(made)["staged"]
    assert facts["provenance"] == "composed, parts measured"
    assert (facts["expected_ms"], facts["worst_ms"]) == (7.0, 10.0)
    assert "parts" not in facts
    assert gates_json(report())["staged"] is None


def test_the_page_says_that_two_networks_are_chosen_and_that_sums_were_run_by_nobody() -> None:
    page = render_gates_html(report(staged=staged()))
    assert "Chosen: two networks in a row" in page
    assert "no device ran both in a row" in page
    assert "In one network, not chosen" in page
    assert "<i>a</i>" not in page
    other = render_gates_html(report(staged=staged(chosen=False, why="it is slower")))
    assert "Chosen:" not in other
    assert "it is slower" in other


def test_a_whole_that_ran_is_measured_and_compared_with_what_took_turns_with_it() -> None:
    rounds = ((10.0,),)
    whole = TimesInARow(
        dense_ms=rounds, planned_ms=((9.0,),), staged_ms=((6.0,),), worst_dense_ms=rounds, worst_staged_ms=((10.2,),)
    )
    rows = gates_tables(report(staged=staged(parts=None, whole=whole)))[-1].rows
    assert [value for _, value in rows[3:9]] == ["measured", "10.00", "6.000", "0.600", "1.020", "0.900"]
    assert "no device ran both in a row" not in render_gates_html(report(staged=staged(parts=None, whole=whole)))
