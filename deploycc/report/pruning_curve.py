"""Render a pruning curve as Markdown and as a page."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deploycc.documents.pruning_curve import CurvePoint, PruningCurve
from deploycc.report import format as formats
from deploycc.report.markdown import escape, table_of
from deploycc.report.page import page_template
from deploycc.report.plots import BAR, INK, LINE, grid, render
from deploycc.report.table import Table

TEMPLATE = "pruning_curve.html.j2"

COLUMNS = ("criterion", "below", "weights", "MACs", "back-end", "parameters")


def cells(curve: PruningCurve) -> Iterator[tuple[str, ...]]:
    """Yield rows of the table: `columns`, then accuracy and its change in points for each data set."""
    dense = curve.dense
    for point in curve.points:
        trained = point is dense
        accuracies = []
        for accuracy, before in zip(point.map50, dense.map50, strict=True):
            accuracies.append(f"{100 * accuracy:.1f}" + ("" if trained else f" ({100 * (accuracy - before):+.1f})"))
        yield (
            "as trained" if trained else point.criterion,
            "-" if trained else f"{point.below:g}",
            "refitted" if point.refitted else "trained",
            formats.count(point.macs) if trained else _share(dense.macs, point.macs),
            formats.count(point.backend_macs) if trained else _share(dense.backend_macs, point.backend_macs),
            formats.count(point.params) if trained else _share(dense.params, point.params),
            *_latency(point, dense),
            *accuracies,
        )


def columns(curve: PruningCurve) -> tuple[str, ...]:
    """Return the headings before the accuracies."""
    if curve.latency is None:
        return COLUMNS
    return (*COLUMNS, f"ms, {curve.latency.kind}")


def accuracy_columns(curve: PruningCurve) -> tuple[str, ...]:
    """Return the headings of the accuracies."""
    return tuple(f"mAP50 on {data} ({count} pictures)" for data, count in zip(curve.data, curve.pictures, strict=True))


def curve_table(curve: PruningCurve) -> Table:
    """One row per network."""
    return Table(f"{curve.network} pruned", (*columns(curve), *accuracy_columns(curve)), tuple(cells(curve)))


def render_curve_markdown(curve: PruningCurve) -> str:
    """Return the table with a description."""
    blocks = [f"# Pruning curve of {escape(curve.network)}", escape(_what(curve))]
    blocks.append(table_of((*columns(curve), *map(escape, accuracy_columns(curve))), cells(curve)))
    if curve.latency is not None:
        blocks.append(f"Latencies {curve.latency.kind} for {escape(curve.target)}: {escape(curve.latency.source)}")
    blocks.append(f"{curve.evidence.kind}: {escape(curve.evidence.source)}; trained files sha256 {curve.source_sha256}")
    return "\n\n".join(blocks) + "\n"


def render_curve_html(curve: PruningCurve) -> str:
    """Return the page, which loads nothing from elsewhere; every name in it is escaped."""
    return page_template(TEMPLATE).render(
        curve=curve,
        what=_what(curve),
        picture=Markup(_picture(curve)),
        columns=(*columns(curve), *accuracy_columns(curve)),
        rows=list(cells(curve)),
    )


def _what(curve: PruningCurve) -> str:
    if curve.calibration is None:
        return "Back-end kernels are pruned at several thresholds; the remaining weights are not changed."
    source, count = curve.calibration.source, curve.calibration.count
    return (
        "Back-end kernels are pruned at several thresholds. In rows marked as refitted, the remaining weights are "
        f"refitted on {count} pictures of {source}, without labels; accuracy on these pictures is optimistic."
    )


def _latency(point: CurvePoint, dense: CurvePoint) -> tuple[str, ...]:
    if point.latency_ms is None or dense.latency_ms is None:
        return ()
    change = "" if point is dense else f" ({100 * (point.latency_ms / dense.latency_ms - 1):+.1f} %)"
    return (f"{point.latency_ms:.3g}{change}",)


def _share(whole: int, part: int) -> str:
    return f"{100 * (part / whole - 1):+.1f} %"


def _picture(curve: PruningCurve) -> str:
    """Draw accuracy over back-end MACs, and over latency where it is known; one column of panels per data set."""
    dense, latency = curve.dense, curve.latency
    rows = 1 if latency is None else 2

    def draw(figure: Figure) -> None:
        panels = figure.subplots(rows, len(curve.data), sharey=True, squeeze=False)
        for number, (axes, data) in enumerate(zip(panels[0], curve.data, strict=True)):
            _panel(axes, curve, number, [100 * (1 - p.backend_macs / dense.backend_macs) for p in curve.points])
            axes.set_xlabel("back-end MACs removed, %")
            axes.set_title(f"{data}, {curve.pictures[number]} pictures")
        for number, axes in enumerate(panels[1] if latency is not None else ()):
            _panel(axes, curve, number, [p.latency_ms or 0.0 for p in curve.points])
            axes.set_xlabel(f"latency on {curve.target}, ms ({'' if latency is None else latency.kind})")
            axes.invert_xaxis()  # as above, more is removed to the right
        for row in panels:
            row[0].set_ylabel("mAP50, %")
        panels[0][-1].legend(frameon=False, fontsize=8)

    best = max(curve.points[1:] or curve.points, key=lambda point: (point.map50[-1], -point.backend_macs))
    facts = f"as trained {dense.map50[-1]:.1%}; pruned at best {best.map50[-1]:.1%}"
    return render("curve", f"Accuracy of {curve.network} pruned", facts, draw, 4.6 * len(curve.data) + 0.6, 3.4 * rows)


def _panel(axes: Axes, curve: PruningCurve, number: int, across: list[float]) -> None:
    """Draw the accuracy on one data set over a number per point of the curve."""
    colours = {"utilisation": BAR, "l1": LINE}
    at = {id(point): x for point, x in zip(curve.points, across, strict=True)}
    axes.axhline(100 * curve.dense.map50[number], color=INK, linewidth=0.8, linestyle=(0, (1, 3)))
    for name, points in curve.series():
        ordered = sorted(points, key=lambda point: -point.backend_macs)
        axes.plot(
            [at[id(point)] for point in ordered],
            [100 * point.map50[number] for point in ordered],
            color=colours[ordered[-1].criterion],
            linestyle="-" if ordered[-1].refitted else (0, (4, 3)),
            marker="o" if ordered[-1].refitted else ".",
            linewidth=1.2,
            markersize=4,
            label=name,
        )
    axes.set_ylim(bottom=0)
    grid(axes, "y")
