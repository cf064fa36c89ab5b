"""The table of several output folders as a page with a picture."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from matplotlib.figure import Figure

from deploycc.report.format import bare_ms
from deploycc.report.overview import KINDS, Cell, Row
from deploycc.report.overview_tables import demonstration_table, remarks, wide_latency_table
from deploycc.report.page import page_template
from deploycc.report.plots import BAND, BAR, INK, LINE, grid, render, shortened
from deploycc.report.table import number_columns

TEMPLATE = "overview.html.j2"
_COLOURS = {"original": BAR, "pruned": LINE, "gated": BAND}
_MOST_BARS = 60


def overview_html(rows: Sequence[Row]) -> str:
    """Return the page, which loads nothing from elsewhere; every name in it is escaped."""
    tables = [wide_latency_table(rows), demonstration_table(rows, wide=True)]
    bars = [(row, kind, row.cells[kind]) for row in rows for kind in KINDS if kind in row.cells]
    drawn = [bar for bar in bars if _ms(bar[2]) is not None][:_MOST_BARS]
    return page_template(TEMPLATE).render(
        tables=[(table, number_columns(table)) for table in tables if table.rows],
        picture=Markup(_picture(drawn)) if drawn else None,
        remarks=remarks(rows),
    )


def _ms(cell: Cell) -> float | None:
    if cell.measured is not None and cell.measured.summary is not None:
        return cell.measured.typical_ms
    return cell.predicted.ms if cell.predicted is not None else None


def _picture(bars: Sequence[tuple[Row, str, Cell]]) -> str:
    """Draw a bar per measured network; predicted ones are outlines with their interval, published ones diamonds."""
    names = [f"{shortened(row.network, 30)}, {row.platform}, {row.precision}, {kind}" for row, kind, _ in bars]
    values = [_ms(cell) or 0.0 for _, _, cell in bars]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        ends = []
        for place, ((row, kind, cell), ms) in enumerate(zip(bars, values, strict=True)):
            colour = _COLOURS[kind]
            end = ms
            if cell.measured is not None:
                axes.barh(place, ms, height=0.66, color=colour)
            elif cell.predicted is not None:
                axes.barh(place, ms, height=0.66, facecolor="none", edgecolor=colour, linestyle="--")
                low, end = cell.predicted.low_ms, cell.predicted.high_ms
                axes.plot([low, end], [place, place], color=INK, linewidth=1.0, marker="|", markersize=6)
            label = f"{bare_ms(ms)} ms" + ("" if cell.measured is not None else " predicted")
            if row.published is not None and kind != "gated":
                published = row.published.latency_ms if kind == "original" else row.published.pruned_ms
                axes.plot([published], [place], marker="D", color=INK, markersize=5, linestyle="none")
                end = max(end, published)
                label += f", published {published:g} ms"
            ends.append(end)
            axes.annotate(label, (end, place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.3 * max(ends))
        axes.set_xlabel("median latency of one picture, ms (dashed: predicted, with its interval; diamond: published)")
        grid(axes, "x")

    facts = "; ".join(f"{name} {bare_ms(ms)} ms" for name, ms in zip(names, values, strict=True))
    return render("overview", "Latency of networks by platform", facts, draw, 9.4, 0.8 + 0.3 * len(bars))
