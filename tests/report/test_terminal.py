from __future__ import annotations

import json

import pytest
import sample_reports
from sample_reports import latency, run, runs_in_turns, samples, unmeasured

from deploycc.documents.latency import Run
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
    variants_table,
)

REPORT = latency(run(samples()), unmeasured())
TURNS = latency(*runs_in_turns(samples(2400, median_ms=5.0, seed=1), samples(1200, seed=2), blocks=12), unmeasured())


@pytest.mark.parametrize(
    "table",
    [
        latency_table(REPORT),
        latency_table(TURNS),
        variants_table(TURNS),
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


def test_variants_are_told_apart_where_there_are_two() -> None:
    table = latency_table(TURNS)
    assert table.columns[:2] == ("precision", "variant")
    assert [row[:2] for row in table.rows] == [("fp32", "compiled"), ("fp32", "original"), ("fp16", "compiled")]
    assert "variant" not in latency_table(REPORT).columns

    engines = sample_reports.compiled().engines
    original = engines[0].model_copy(update={"variant": "original"})
    assert "variant" not in engines_table(sample_reports.compiled()).columns
    assert [row[1] for row in engines_table(sample_reports.compiled(engines=(*engines, original))).rows] == [
        "compiled",
        "original",
    ]
    assert latency_remarks(latency(original_run(duration_s=1.0)))[0].startswith("fp32 original: INVALID")


def original_run(**changes: object) -> Run:
    return run(samples()).model_copy(update={"variant": "original", **changes})


def test_the_compiled_network_is_set_against_the_original() -> None:
    table = variants_table(TURNS)
    assert table is not None
    (row,) = table.rows
    assert row[0] == "fp32"
    assert row[4].startswith("49.9% faster (-50.2% to -49.8% at 99% confidence)")
    assert row[5] == "in turns, 12 pairs"
    assert variants_table(REPORT) is None

    (told,) = latency_json(TURNS)["variants"]
    assert told["in_turns"] is True
    assert told["change"]["direction"] == "faster"
    assert [item["variant"] for item in latency_json(TURNS)["runs"]] == ["compiled", "original", "compiled"]
