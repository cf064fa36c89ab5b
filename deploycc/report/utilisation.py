"""Render kernel utilisation as a plot and a page: the white paper's Figure 3 for any profile."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from deploycc.documents.document import Evidence
from deploycc.report.page import page_template
from deploycc.report.plots import BAND, BAR, FAINT, LINE, grid, render, shortened, standalone

PRUNING_THRESHOLD = 0.05
"""The white paper's static pruning removes kernels with a lower utilisation."""

TEMPLATE = "utilisation.html.j2"
_COLUMNS = 4
_PUBLISHED = "average 31.5 %, std 2.6 %, minimum 26.4 %, maximum 49.6 % (VGG-SSD, emulated)"
_PUBLISHED_SOURCE = "white paper, Silexica and Irida Labs, 2018, table 2"


@dataclass(frozen=True)
class LayerPanel:
    """One layer.

    Attributes:
        name: node.
        macs: for one picture.
        utilisation: 0..1, one value per kernel.
        what: the gate's place, or the activation.
    """

    name: str
    macs: int
    utilisation: tuple[float, ...]
    what: str

    @property
    def mean(self) -> float:
        """Mean utilisation of the kernels, 0..1."""
        return sum(self.utilisation) / len(self.utilisation)

    @property
    def below(self) -> int:
        """Number of kernels below `PRUNING_THRESHOLD`."""
        return sum(use < PRUNING_THRESHOLD for use in self.utilisation)

    @property
    def always(self) -> int:
        """Number of kernels that are always used."""
        return sum(use == 1 for use in self.utilisation)


@dataclass(frozen=True)
class ReductionFacts:
    """Operation reduction, percent.

    Attributes:
        average_percent, std_percent, min_percent, max_percent: over the pictures.
        percents: one per picture.
        definition: of the quotient, in words.
    """

    average_percent: float
    std_percent: float
    min_percent: float
    max_percent: float
    percents: tuple[float, ...]
    definition: str


@dataclass(frozen=True)
class UtilisationFigure:
    """The contents of the plot and the page.

    Attributes:
        network: name of the network.
        kind: meaning of utilisation: gates that are on, or activations that are not 0.
        pictures, picture_source: number of pictures and their source.
        preparation: how pictures became the network's input.
        evidence: source of the measurement.
        scope, scope_macs: part of the network that the reduction refers to.
        source_sha256, pictures_sha256: digests of trained files and pictures.
        panels: layers in graph order.
        reduction: None without gates.
    """

    network: str
    kind: Literal["gates", "activations"]
    pictures: int
    picture_source: str
    preparation: str
    evidence: Evidence
    scope: str
    scope_macs: int
    source_sha256: str
    pictures_sha256: str
    panels: tuple[LayerPanel, ...]
    reduction: ReductionFacts | None

    @property
    def meaning(self) -> str:
        """Meaning of a bar's height."""
        if self.kind == "gates":
            return "share of the pictures in which the kernel's gate is on"
        return "share of the kernel's responses that are not zero, mean over the pictures"


def render_utilisation_svg(figure: UtilisationFigure) -> str:
    """Return the panels as an SVG file."""
    return standalone(_panels(figure))


def render_utilisation_html(figure: UtilisationFigure) -> str:
    """Return the page, which loads nothing from elsewhere; every name in it is escaped."""
    return page_template(TEMPLATE).render(
        figure=figure,
        panels=Markup(_panels(figure)),
        histogram=Markup(_histogram(figure.reduction)) if figure.reduction else None,
        threshold=PRUNING_THRESHOLD,
        kernels=sum(len(panel.utilisation) for panel in figure.panels),
        below=sum(panel.below for panel in figure.panels),
        published=_PUBLISHED,
        published_source=_PUBLISHED_SOURCE,
    )


def _panels(figure: UtilisationFigure) -> str:
    """Draw one panel per layer, with its kernels from the most to the least used."""
    panels = figure.panels
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)

    def draw(canvas: Figure) -> None:
        grid_of_axes = canvas.subplots(rows, columns, sharey=True, squeeze=False)
        for axes, panel in zip(grid_of_axes.flat, panels, strict=False):
            _panel(axes, panel)
        for axes in grid_of_axes.flat[len(panels) :]:
            axes.set_axis_off()
        canvas.supylabel("utilisation", fontsize=9)
        canvas.supxlabel("kernels of the layer, most used first", fontsize=9)

    kernels = sum(len(panel.utilisation) for panel in panels)
    below = sum(panel.below for panel in panels)
    facts = f"{len(panels)} layers, {kernels} kernels, {below} of them below {PRUNING_THRESHOLD:.0%}: {figure.meaning}"
    title = f"Kernel utilisation of {figure.network}"
    picture = render("utilisation", title, facts, draw, 2.35 * columns + 0.4, 1.5 * rows + 0.5)
    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), picture)  # tenths of a point


def _panel(axes: Axes, panel: LayerPanel) -> None:
    heights = np.sort(np.array(panel.utilisation))[::-1]
    edges = np.arange(heights.size + 1)
    axes.axhspan(0, 1, color=BAND, alpha=0.35, linewidth=0)
    axes.stairs(heights, edges, fill=True, color=BAR, linewidth=0)
    axes.axhline(PRUNING_THRESHOLD, color=LINE, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_xlim(0, heights.size)
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.5, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.tick_params(labelsize=7.5, color=FAINT)
    summary = f"mean {panel.mean:.0%}" + (f", {panel.below} below {PRUNING_THRESHOLD:.0%}" if panel.below else "")
    axes.set_title(f"{shortened(panel.name, 30)}\n{summary}", fontsize=8)
    grid(axes, "y")


def _histogram(reduction: ReductionFacts) -> str:
    """Draw a histogram of the operation reduction over the pictures."""
    percents = np.array(reduction.percents)

    def draw(canvas: Figure) -> None:
        axes = canvas.subplots()
        low, high = float(percents.min()), float(percents.max())
        room = max(0.5, 0.02 * (high - low))
        heights, edges = np.histogram(
            percents, bins=min(50, max(8, round(2 * percents.size**0.5))), range=(low - room, high + room)
        )
        axes.stairs(heights, edges, fill=True, color=BAR)
        axes.axvline(reduction.average_percent, color=LINE, linewidth=1.2)
        axes.set_xlabel("operations that the gates switch off, % of the back-end's")
        axes.set_ylabel("pictures")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        grid(axes, "y")

    facts = (
        f"average {reduction.average_percent:.1f} %, std {reduction.std_percent:.1f} %, "
        f"{reduction.min_percent:.1f} to {reduction.max_percent:.1f} %"
    )
    return render("reduction", "Operation reduction over the pictures", facts, draw, 6.4, 2.6)
