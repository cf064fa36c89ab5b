"""Several folders in one table: what fills a cell, and what is compared with what."""

from __future__ import annotations

from typing import Any

import pytest
import sample_reports
from sample_reports import latency, run, runs_in_turns, samples

from deploycc.documents.compile import AccuracyRecord, PredictedLatency, SizeRecord, TargetRecord
from deploycc.documents.document import Evidence
from deploycc.report import overview_page
from deploycc.report.markdown import table_of
from deploycc.report.overview import Folder, Row, overview
from deploycc.report.overview_page import overview_html
from deploycc.report.overview_tables import (
    demonstration_table,
    latency_tables,
    overview_json,
    overview_markdown,
    remarks,
    wide_latency_table,
)
from deploycc.report.table import lay_out


def score(map50: float, variant: Any) -> AccuracyRecord:
    evidence = Evidence(kind="measured", source="this machine")
    figures = {"map50": map50, "map50_11point": map50, "coco_map": None}
    return AccuracyRecord(precision="fp32", variant=variant, evidence=evidence, data="voc:d", pictures=10, **figures)


PRUNED = Folder(
    "pruned",
    sample_reports.compiled_beside_original(accuracy=(score(0.70, "original"), score(0.69, "compiled"))),
    latency(*runs_in_turns(samples(1200, median_ms=8.0, seed=1), samples(1200, seed=2), blocks=12)),
)
GATED = Folder("gated", sample_reports.compiled(), latency(run(samples(median_ms=9.0, seed=3))), gated=True)
TX2 = TargetRecord(name="jetson-tx2-jp461", title="Jetson TX2", tier="planned", runtime="tensorrt")


def vgg() -> Folder:
    """VGG-SSD for a TX2, where nothing was measured and a latency is predicted."""
    report = sample_reports.compiled()
    size = SizeRecord(nodes=10, params=26_285_000, macs=31_374_000_000)
    step = report.networks[0].steps[0].model_copy(update={"before": size, "after": size})
    network = report.networks[0].model_copy(update={"steps": (step,), "source_sha256": "1" * 64})
    source = report.source.model_copy(update={"sha256": "1" * 64})
    predicted = PredictedLatency(
        precision="fp32", evidence=Evidence(kind="predicted", source="constants"), ms=150.0, low_ms=120.0, high_ms=190.0
    )
    detector = report.detector.model_copy(update={"name": "vgg_ssd"})
    changes = {"networks": (network,), "source": source, "predictions": (predicted,), "detector": detector}
    return Folder("board", report.model_copy(update={**changes, "target": TX2, "engines": ()}), None)


def cells(row: Row) -> dict[str, float | None]:
    return {
        kind: cell.measured and cell.measured.summary and round(cell.measured.summary.p50_ms, 1)
        for kind, cell in row.cells.items()
    }


def test_variants_of_one_network_share_a_row() -> None:
    [row] = overview([PRUNED, GATED])
    assert (row.network, row.platform, row.unit, row.precision) == ("tiny_ssd", "x86-cpu", "CPU", "fp32")
    assert cells(row) == {"original": 10.0, "pruned": 8.0, "gated": 9.0}
    pruned, gated = row.cells["pruned"].change, row.cells["gated"].change
    assert pruned is not None
    assert gated is not None
    assert (pruned.direction, gated.direction) == ("faster", "faster")
    assert pruned.ratio == pytest.approx(0.8, rel=0.01, abs=0)
    assert gated.ratio == pytest.approx(0.9, rel=0.01, abs=0)


def test_two_prunings_of_one_network_have_a_row_each() -> None:
    other = Folder("harder", PRUNED.compiled, PRUNED.latency)
    first, second = overview([PRUNED, other])
    assert [row.network for row in (first, second)] == ["tiny_ssd", "tiny_ssd (harder)"]
    assert cells(second) == {"pruned": 8.0}
    assert second.cells["pruned"].change == first.cells["pruned"].change


@pytest.mark.parametrize("changes", [{"device": "another"}, {"threads": 1}])
def test_other_conditions_are_not_compared(changes: dict[str, Any]) -> None:
    other = Folder("gated", GATED.compiled, latency(run(samples(median_ms=9.0), **changes)), gated=True)
    [row] = overview([PRUNED, other])
    assert row.cells["gated"].change is None
    [table] = latency_tables([row])
    assert table.rows[0][-1] == "-"


def test_predicted_and_published_figures_stay_out_of_measured_columns() -> None:
    rows = overview([PRUNED, vgg()])
    measured, predicted, published = latency_tables(rows)
    assert [row[0] for row in measured.rows] == ["tiny_ssd"]
    assert predicted.rows == (("vgg_ssd", TX2.name, "GPU", "fp32", "150.0 (120.0 to 190.0)"),)
    assert published.rows == (("vgg_ssd", TX2.name, "GPU", "fp32", "157.1", "136.1", "-13.4 %"),)
    for table in (measured, predicted, published, demonstration_table(rows, wide=False)):
        laid_out = lay_out(table.columns, table.rows, 80)
        assert max(map(len, (*laid_out.head, *laid_out.body))) <= 80
    wide = wide_latency_table(rows)
    assert wide.columns[4:] == (
        "original (measured)", "pruned (measured)", "change (measured)", "original (predicted)",
        "original (published)", "pruned (published)", "change (published)",
    )  # fmt: skip
    said = " | ".join(remarks(rows))
    assert "predicted: constants" in said
    assert "published: white paper" in said
    whole = latency_tables(rows, whole_paper=True)[-1]
    assert len(whole.rows) == 15
    assert ("VGG-SSD", "drive-px2", "CPU", "fp32", "1869.3", "1532.6", "-18.0 %") in whole.rows


def test_accuracy_rate_and_weights() -> None:
    rows = overview([PRUNED, vgg()])
    shown = demonstration_table(rows, wide=True).rows
    assert shown[0][:3] == ("tiny_ssd", "original", "x86-cpu")
    assert [row[4:7] for row in shown] == [("70.0", "100.1", "16.0"), ("69.0", "125.1", "13.4"), ("-", "-", "105.1")]
    assert shown[2][7:] == ("-", "-", "-")  # the paper demonstrates VGG-SSD on DRIVE PX 2 only


def test_a_measurement_that_is_not_valid_is_marked() -> None:
    weak = Folder("weak", sample_reports.compiled(), latency(run(samples(50))))
    rows = overview([weak])
    assert latency_tables(rows)[0].rows[0][4].endswith(" *")
    assert "* tiny_ssd, original, on x86-cpu in fp32: INVALID: ran for" in remarks(rows)[0]


def test_markdown_page_and_json_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    evil = PRUNED.compiled.detector.model_copy(update={"name": "<b>ssd|x"})
    rows = overview([Folder("pruned", PRUNED.compiled.model_copy(update={"detector": evil}), PRUNED.latency), vgg()])
    text = overview_markdown(rows)
    assert "| 150.0 (120.0 to 190.0) |" in text
    assert "<b>" not in text
    assert table_of(("a",), [("b",)]).splitlines()[0] == "| a |"
    monkeypatch.setattr(
        overview_page, "render", lambda key, title, facts, draw, width, height: f"<svg>{len(facts)}</svg>"
    )
    page = overview_html(rows)
    assert "<b>ssd" not in page
    assert "&lt;b&gt;ssd|x" in page
    assert '<span class="badge published">published</span>' in page
    first, second = overview_json(rows)
    assert first["networks"]["pruned"]["change"]["direction"] == "faster"
    assert second["networks"]["original"]["measured"] is None
    assert second["networks"]["original"]["predicted"]["ms"] == 150.0
    assert second["published"]["provenance"] == "published"


def test_the_picture_can_be_drawn() -> None:
    picture = overview_html(overview([PRUNED, vgg()]))
    assert "150.0 ms predicted, published 157.1 ms" in picture
