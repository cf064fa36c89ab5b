"""What the report says of networks in a row: measured as a whole, or composed of engines timed apart."""

from __future__ import annotations

from typing import Any

import pytest

from deploycc.documents.document import this_tool
from deploycc.documents.latency import EngineFile, LatencyReport, PartRun, RowRun, Run
from deploycc.report.row import composed_ms, row_tables, typical_ms
from deploycc.report.terminal import latency_json
from deploycc.report.variants import by_block, typical_samples
from deploycc.report.verdict import judge

ENGINE = EngineFile(file="engine-fp32-first.engine", sha256="1" * 64, runtime="any", second_sha256=("2" * 64, "3" * 64))


def run(**fields: Any) -> Run:
    given = {"precision": "fp32", "engine": ENGINE, "device": "board", "status": "measured", **fields}
    return Run(**given)


def report(*runs: Run) -> LatencyReport:
    return LatencyReport(tool=this_tool(), target="any", quick=False, environment={}, runs=runs)


def measured(second: tuple[int, ...], samples: tuple[float, ...]) -> Run:
    offsets = tuple(float(number) for number in range(len(samples)))
    return run(samples_ms=samples, start_offsets_s=offsets, row=RowRun(shares=(0.75, 0.25), second=second))


def composed(shares: tuple[float, ...] = (0.75, 0.25)) -> Run:
    parts = tuple(PartRun(file=f"{ms}.engine", samples_ms=(ms, ms, 9.0)) for ms in (1.0, 2.0, 4.0))
    return run(status="composed", reason="apart", row=RowRun(shares=shares, parts=parts))


def test_a_measured_row_shows_how_often_each_ran() -> None:
    [table] = row_tables(report(measured((0, 1, 0, 0), (1.0, 3.0, 1.1, 1.2))))
    rows = {cells[0]: cells[1:] for cells in table.rows}
    assert rows["first > second 0"] == ("measured", "75.0%", "75.0%", "1.100", "3")
    assert rows["first > second 1"] == ("measured", "25.0%", "25.0%", "3.000", "1")
    assert rows["mean by what pictures need"] == ("composed, parts measured", "-", "-", "1.575", "-")


def test_no_mean_is_composed_where_a_needed_one_did_not_run() -> None:
    [table] = row_tables(report(measured((0, 0), (1.0, 1.2))))
    assert [cells[0] for cells in table.rows] == ["first > second 0", "first > second 1"]
    assert table.rows[1][1:] == ("-", "0.0%", "25.0%", "-", "0")


def test_sums_of_parts_are_called_composed() -> None:
    [table] = row_tables(report(composed()))
    rows = {cells[0]: (cells[1], cells[4]) for cells in table.rows}
    assert rows["first"] == ("measured", "1.000")
    assert rows["first > second 1"] == ("composed", "5.000")
    assert rows["mean by what pictures need"] == ("composed", "3.500")
    assert composed_ms(composed()) == pytest.approx(3.5)
    assert composed_ms(composed(())) == 5.0  # the slowest
    assert composed_ms(measured((0,), (1.0,))) is None
    assert judge(composed(), report(composed())).status == "NOT MEASURED"


def test_the_figures_are_in_the_json_too() -> None:
    [first] = latency_json(report(measured((0, 1, 0, 0), (1.0, 3.0, 1.1, 1.2))))["runs"]
    assert first["row"] == {"shares": [0.75, 0.25], "ran": [3, 1], "parts": [], "composed_ms": None}
    [other] = latency_json(report(composed()))["runs"]
    assert (other["row"]["composed_ms"], len(other["row"]["parts"])) == (3.5, 3)
    assert (other["status"], other["provenance"]) == ("composed", None)


def test_that_networks_differ_is_no_sign_of_an_unsteady_machine() -> None:
    second = tuple(number % 2 for number in range(200))
    steady = measured(second, tuple(1.0 + 4 * number for number in second))
    assert not any("varies" in str(advice) for advice in judge(steady, report(steady)).warnings)
    alone = run(samples_ms=steady.samples_ms, start_offsets_s=steady.start_offsets_s)
    assert any("varies" in str(advice) for advice in judge(alone, report(alone)).warnings)


def test_a_row_is_compared_by_the_medians_of_its_networks_as_often_as_they_ran() -> None:
    busy = measured((0, 1, 0, 0) * 10, ((1.0, 3.0, 1.0, 1.0) * 9) + (50.0, 90.0, 60.0, 70.0))  # at last disturbed
    assert typical_ms(busy) == 1.5
    assert typical_samples(busy) == (1.5, 1.5)
    assert by_block(measured((0, 1), (1.0, 3.0))) == [(2.0,)]
    alone = run(samples_ms=(1.0, 3.0), start_offsets_s=(0.0, 1.0))
    assert (typical_samples(alone), by_block(alone)) == ((1.0, 3.0), [(1.0, 3.0)])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"status": "composed", "reason": "apart"}, "times of the parts"),
        ({"samples_ms": (1.0,), "start_offsets_s": (0.0,), "row": RowRun(second=(0, 1))}, "which second network ran"),
        ({"samples_ms": (1.0,), "start_offsets_s": (0.0,), "row": RowRun()}, "which second network ran"),
        ({"row": {"shares": (0.0, 0.0)}}, "must sum to 1"),
        ({"row": {"shares": (0.5, 0.5), "second": (2,)}}, "that has no share"),
        ({"row": {"shares": (1.0,), "parts": composed().row.parts}}, "has a share of the pictures and times"),  # type: ignore[union-attr]
        ({"row": {"second": (16,)}}, "less than 16"),
        ({"row": {"parts": (PartRun(file="a", samples_ms=(1.0,)),)}}, "a first network and two others"),
    ],
)
def test_a_run_that_contradicts_itself_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(**fields)
