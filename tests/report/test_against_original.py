"""Original and compiled, side by side."""

from __future__ import annotations

import re

from sample_reports import compiled, compiled_beside_original, latency, pruning, run, runs_in_turns, samples

from deploycc.documents.compile import AccuracyRecord
from deploycc.documents.document import Evidence
from deploycc.report.against_original import against_original, sentence
from deploycc.report.headline import key_figures
from deploycc.report.html import render_html
from deploycc.report.markdown import render_markdown

TURNS = latency(*runs_in_turns(samples(2400, median_ms=8.0, seed=1), samples(1200, seed=2), blocks=12))


def score(variant: str, map50: float) -> AccuracyRecord:
    evidence = Evidence(kind="measured", source="Test CPU")
    return AccuracyRecord(
        precision="fp32", variant=variant, evidence=evidence, data="voc:x", pictures=7, map50=map50, map50_11point=map50,
        coco_map=None,
    )  # fmt: skip


def test_every_figure_stands_beside_its_original() -> None:
    report = compiled_beside_original(accuracy=(score("compiled", 0.751), score("original", 0.748)))
    sides = {side.label: side for side in against_original(report, TURNS)}
    shown = {label: (side.original, side.compiled, side.change) for label, side in sides.items()}
    latency_change = shown.pop("fp32 latency, median")
    assert shown == {
        "MACs per picture": ("900.00 M", "661.55 M", "-26.5%"),
        "parameters": ("4.00 M", "3.34 M", "-16.5%"),
        "kernels": ("64", "48", "-25.0%"),
        "fp32 engine": ("17.2 MiB", "12.9 MiB", "-25.0%"),
        "mAP50": ("74.8", "75.1", "+0.3 points"),
    }
    assert re.fullmatch(r"-(19|20)\.\d%", latency_change[2])
    assert {label: side.provenance for label, side in sides.items()} == {
        "MACs per picture": "predicted",
        "parameters": "predicted",
        "kernels": "predicted",
        "fp32 engine": "measured",
        "fp32 latency, median": "measured",
        "mAP50": "measured",
    }
    assert re.fullmatch(
        r"-2\d\.\d% to -1\d\.\d% at 99% confidence, in turns, 12 pairs, Test CPU", sides["fp32 latency, median"].source
    )
    assert "mAP50 +0.3 points" in (sentence(list(sides.values())) or "")


def test_macs_of_a_network_that_skips_work_are_the_most_that_a_picture_needs() -> None:
    report = compiled_beside_original()
    network = next(one for one in report.networks if one.variant == "compiled")
    last = network.steps[-1]
    lowered = last.model_copy(update={"name": "lower_gates", "changed": True, "before": last.after})
    skipping = network.model_copy(update={"steps": (*network.steps, lowered)})
    changed = report.model_copy(
        update={"networks": tuple(skipping if one is network else one for one in report.networks)}
    )
    labels = [side.label for side in against_original(changed, TURNS)]
    assert "MACs per picture, at most" in labels
    assert "MACs per picture" not in labels
    assert "MACs per picture, at most" in [figure.label for figure in key_figures(changed, ())]


def test_a_difference_that_may_be_chance_is_not_a_figure() -> None:
    same = latency(*runs_in_turns(samples(1200, seed=1), samples(1200, seed=2), blocks=12))
    sides = {side.label: side for side in against_original(compiled_beside_original(), same)}
    assert sides["fp32 latency, median"].change == "not significant"


def test_a_network_as_imported_is_compared_with_nothing() -> None:
    assert against_original(compiled(), latency()) == ()
    assert sentence(()) is None


def test_without_the_original_its_recorded_sizes_are_shown() -> None:
    sides = against_original(compiled(prunings=(pruning(),)), latency())
    assert [(side.label, side.original, side.compiled) for side in sides] == [
        ("MACs per picture", "900.00 M", "661.55 M"),
        ("parameters", "4.00 M", "3.34 M"),
        ("kernels", "64", "48"),
    ]
    assert "its files are not here" in sides[0].source


def test_pages_show_it_before_anything_else() -> None:
    report = compiled_beside_original()
    page, text = render_html(report, TURNS), render_markdown(report, TURNS)
    assert page.index("Original and compiled") < page.index('class="cards"')
    assert text.index("## Original and compiled") < text.index("## Key figures")
    for shown in (page, text):
        assert "900.00 M" in shown
        assert "17 useless, 1 kept for a multiple of 16" in shown
        assert "channel-shared" in shown
    assert "Original and compiled" not in render_html(compiled(), latency(run(samples())))
