"""The utilisation picture shows every kernel, and the page loads and executes nothing."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from deploycc.documents.document import Evidence
from deploycc.report.utilisation import (
    LayerPanel,
    ReductionFacts,
    UtilisationFigure,
    render_utilisation_html,
    render_utilisation_svg,
)

SVG = "{http://www.w3.org/2000/svg}"


def figure(layers: int = 3, *, gates: bool = True) -> UtilisationFigure:
    rng = np.random.default_rng(0)
    panels = tuple(
        LayerPanel(f"conv{n}", 1_500_000, (0.0, 0.04, *rng.uniform(0.05, 0.9, 4 + n).tolist(), 1.0), "after-bias")
        for n in range(layers)
    )
    reduction = ReductionFacts(31.25, 2.5, 26.0, 49.0, tuple(rng.uniform(26, 49, 50).tolist()), "off by all")
    return UtilisationFigure(
        network="net",
        kind="gates" if gates else "activations",
        pictures=50,
        picture_source="folder",
        preparation="RGB, (pixel - (128)) * (1)",
        evidence=Evidence(kind="measured", source="this CPU"),
        scope="back-end",
        scope_macs=12_000_000,
        source_sha256="a" * 64,
        pictures_sha256="b" * 64,
        panels=panels,
        reduction=reduction if gates else None,
    )


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("layers", [1, 3, 4, 13])
def test_the_picture_is_a_file_of_its_own_with_one_panel_a_layer(layers: int) -> None:
    svg = render_utilisation_svg(figure(layers))
    assert "var(--" not in svg
    shown = texts(svg)
    assert [text for text in shown if text.startswith("conv")] == [f"conv{n}" for n in range(layers)]
    assert sum(text.startswith("mean ") and text.endswith("2 below 5%") for text in shown) == layers


def test_bars_are_the_kernels_most_used_first() -> None:
    """Heights are read back from the drawn path."""
    panel = LayerPanel("conv", 1, (0.25, 1.0, 0.0, 0.5), "after-bias")
    svg = render_utilisation_svg(replace(figure(), panels=(panel,)))
    paths = [
        path.get("d", "") for path in ET.fromstring(svg).iter(f"{SVG}path") if "#3f6fb0" in (path.get("style") or "")
    ]
    (bars,) = paths
    points = np.array([[float(v) for v in pair] for pair in re.findall(r"(-?[\d.]+) (-?[\d.]+)", bars)])
    base = points[:, 1].max()
    levels = list(dict.fromkeys(np.round(base - points[:, 1], 1)))
    full = max(levels)
    heights = [round(level / full, 2) for level in levels if level > 0]
    assert heights == [1.0, 0.5, 0.25]
    assert np.ptp(points[:, 0]) / 4 == pytest.approx(np.diff(np.unique(points[:, 0]))[0], rel=0, abs=0.2)


def test_the_page_states_figures_source_and_definition() -> None:
    page = render_utilisation_html(figure())
    for text in ("31.2 %", "std 2.5 %", "26.0 to 49.0 %", "Off by all", "12.00 M MACs (back-end)", "6 of 24", "a" * 64):
        assert text in page, text
    assert 'class="badge measured"' in page
    assert 'class="badge published"' in page
    assert page.count("<svg") == 2
    assert "default-src 'none'" in page
    assert not re.search(r'(?:src|href)="(?!#)|<script|@import|url\((?!#)', page)


def test_without_gates_there_is_no_reduction() -> None:
    page = render_utilisation_html(figure(gates=False))
    assert "Operation reduction" not in page
    assert "published" not in page.split("</style>")[1]
    assert "responses that are not zero" in page
    assert page.count("<svg") == 1


@pytest.mark.parametrize("name", ["<script>x</script>", "$a$_b", 'a"&b', "\x00\x07", "层"])
def test_names_are_shown_not_interpreted(name: str) -> None:
    odd = replace(figure(1), network=name, panels=(replace(figure(1).panels[0], name=name),))
    page, svg = render_utilisation_html(odd), render_utilisation_svg(odd)
    assert "<script" not in page + svg
    ET.fromstring(svg)


def test_one_picture_and_equal_reductions_are_drawn() -> None:
    facts = ReductionFacts(30.0, 0.0, 30.0, 30.0, (30.0,), "off by all")
    assert "30.0 %" in render_utilisation_html(replace(figure(1), reduction=facts))
