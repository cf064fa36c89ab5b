from __future__ import annotations

import json

import pytest
import sample_reports
from sample_reports import latency, run, samples, unmeasured

from deploycc.report.compare import compare_reports
from deploycc.report.terminal import (
    Table,
    comparison_json,
    comparison_table,
    engines_table,
    latency_json,
    latency_remarks,
    latency_table,
    passes_tables,
)

REPORT = latency(run(samples()), unmeasured())


@pytest.mark.parametrize(
    "table",
    [
        latency_table(REPORT),
        comparison_table(compare_reports(REPORT, REPORT)),
        engines_table(sample_reports.compiled()),
        engines_table(sample_reports.compiled_for_board()),
        *passes_tables(sample_reports.compiled()),
    ],
    ids=lambda table: table.title,
)
def test_every_row_has_one_cell_a_column(table: Table) -> None:
    assert table.rows
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_what_was_not_measured_shows_no_number() -> None:
    row = latency_table(REPORT).rows[1]

    assert row == ("fp16", *["-"] * 7, "NOT MEASURED")
    assert latency_remarks(REPORT) == [
        "fp16: NOT MEASURED: no FP16 convolution on this CPU",
        "fp16: use a GPU target",
    ]


def test_json_is_plain_and_keeps_full_precision() -> None:
    told = json.loads(json.dumps(latency_json(REPORT), allow_nan=False))
    comparison = compare_reports(REPORT, latency(run(samples(seed=5))))
    compared = json.loads(json.dumps(comparison_json(comparison), allow_nan=False))

    assert told["runs"][0]["statistics"]["max_ms"] == max(samples())
    assert told["runs"][1]["statistics"] is None
    assert compared["rows"][0]["change"]["direction"] == "not significant"
    assert compared["rows"][1]["candidate"] is None
