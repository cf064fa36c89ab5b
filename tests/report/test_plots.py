from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
import sample_reports
from sample_reports import run, samples

from deploycc.documents.latency import LayerTime
from deploycc.report import plots
from deploycc.report.stats import summarise


def _parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg.replace("xlink:href", "href"))


def _pictures() -> list[str]:
    measured = run(samples())
    summary = summarise(measured.samples_ms)
    return [
        plots.distribution(measured, summary),
        plots.over_time(measured, summary),
        plots.layer_bars(measured),
        plots.size_over_passes(sample_reports.compiled().networks[0]),
    ]


@pytest.fixture(scope="module")
def pictures() -> list[str]:
    return _pictures()


def test_pictures_are_small_well_formed_and_described(pictures: list[str]) -> None:
    for svg in pictures:
        root = _parsed(svg)
        title, description = root[0], root[1]

        assert len(svg) < 80_000
        assert root.get("role") == "img"
        assert root.get("aria-labelledby", "").split() == [title.get("id"), description.get("id")]
        assert title.text
        assert description.text
        assert "http" not in svg


def test_networks_that_differ_in_their_name_only_are_drawn_once() -> None:
    network = sample_reports.compiled().networks[0]
    other = network.model_copy(update={"precision": "fp16", "variant": "original"})
    plots._drawn_sizes.cache_clear()
    first, second = plots.size_over_passes(network), plots.size_over_passes(other)
    assert plots._drawn_sizes.cache_info().misses == 1
    assert not set(re.findall(r'\bid="([^"]+)"', first)) & set(re.findall(r'\bid="([^"]+)"', second))
    assert _parsed(second)[0].text == f"Size over the passes, {other.label}"


def test_colours_and_fonts_are_the_pages(pictures: list[str]) -> None:
    for svg in pictures:
        assert "var(--ink)" in svg
        assert not re.search(r"(?:fill|stroke): #0[1-9]0", svg)
        assert "DejaVu" not in svg


def test_ids_are_unique_over_all_pictures_and_references_resolve(pictures: list[str]) -> None:
    page = "".join(pictures)
    ids = re.findall(r'\bid="([^"]+)"', page)

    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(ids)


def test_pictures_are_the_same_every_time(pictures: list[str]) -> None:
    plots._drawn_sizes.cache_clear()
    assert _pictures() == pictures


@pytest.mark.parametrize("count", [1, 2, 50, 20_000])
def test_few_and_many_samples_can_be_drawn(count: int) -> None:
    measured = run(samples(count))
    for draw in (plots.distribution, plots.over_time):
        svg = draw(measured, summarise(measured.samples_ms))
        _parsed(svg)
        assert len(svg) < 80_000


def test_any_layer_name_can_be_drawn() -> None:
    names = ("\x00\x1b[31m", "$x$ $", "<script>alert(1)</script>", 'id="x" #010101', "a" * 300, "层\U0001f600", "")
    layers = tuple(LayerTime(name=name, op="Conv", median_ms=0.0, share=0.0) for name in names)
    svg = plots.layer_bars(run(samples(), layers=layers))

    labels = "".join(_parsed(svg).itertext())
    assert "<script" not in svg
    for name in names[1:4]:
        assert f"{name}  Conv" in labels


def test_the_far_tail_is_counted_not_drawn() -> None:
    measured = run((*samples(1000), 500.0, 600.0))
    svg = plots.distribution(measured, summarise(measured.samples_ms))

    assert re.search(r"\(\d+ slower samples not drawn\)", svg)
