"""The report's plots: inline SVG with the page's colours, legible in light and dark mode and in print."""

from __future__ import annotations

import io
import logging
import re
import threading
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from deploycc.documents.compile import NetworkRecord, SizeRecord
from deploycc.documents.latency import LayerTime, Run
from deploycc.documents.plan import Identified
from deploycc.report.format import bare_ms, count
from deploycc.report.stats import Summary

TOP_LAYERS = 20
MAX_DOTS = 400
TIME_BINS = 240

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # hide "building the font cache"

_DRAWING = threading.Lock()  # matplotlib's settings are those of the process

# Placeholder colours for matplotlib; `_inline` replaces them by the page's colours.
INK, FAINT, BAR, BAND, LINE, PAGE = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
_PAGE_COLOURS = {
    INK: "var(--ink)",
    FAINT: "var(--rule)",
    BAR: "var(--bar)",
    BAND: "var(--band)",
    LINE: "var(--accent)",
    PAGE: "var(--page)",
}
_LIGHT = {INK: "#1b2430", FAINT: "#d9dee5", BAR: "#3f6fb0", BAND: "#c9d8ec", LINE: "#c2410c", PAGE: "#ffffff"}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "deploycc",  # the same ids each time that the same is drawn
    "text.parse_math": False,  # a layer may be called $x$
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
}


def distribution(run: Run, summary: Summary) -> str:
    """Draw a histogram of the samples with percentiles; the far tail is counted in the label instead of drawn."""
    samples = np.asarray(run.samples_ms)
    end = min(summary.max_ms, summary.p99_ms + 0.3 * (summary.p99_ms - summary.min_ms))
    shown = samples[samples <= end]
    beyond = samples.size - shown.size
    percentiles = (("p50", summary.p50_ms), ("p90", summary.p90_ms), ("p99", summary.p99_ms))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        heights, edges = np.histogram(shown, bins=min(70, max(10, round(2 * samples.size**0.5))))
        axes.stairs(heights, edges, fill=True, color=BAR)
        axes.set_ylim(0, heights.max() * 1.36)
        for level, (name, value) in enumerate(percentiles):
            axes.axvline(value, color=LINE, linewidth=1.2)
            near_end = value > edges[0] + 0.7 * (edges[-1] - edges[0])
            axes.annotate(
                f"{name} {bare_ms(value)} ms",
                (value, heights.max() * (1.29 - 0.1 * level)),
                xytext=(-4 if near_end else 4, 0),
                textcoords="offset points",
                ha="right" if near_end else "left",
                va="center",
                bbox={"facecolor": PAGE, "edgecolor": "none", "pad": 1},
            )
        axes.set_xlabel("latency of one picture, ms" + (f" ({beyond} slower samples not drawn)" if beyond else ""))
        axes.set_ylabel("samples")
        grid(axes, "y")

    facts = ", ".join(f"{name} {bare_ms(value)} ms" for name, value in percentiles)
    return render(_identifier("dist", run), f"Latency distribution, {run.label}", facts, draw, 6.4, 3.0)


def over_time(run: Run, summary: Summary) -> str:
    """Draw samples over time; above `MAX_DOTS` samples, draw the range and median of equal time slices."""
    starts, samples = np.asarray(run.start_offsets_s), np.asarray(run.samples_ms)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        if samples.size <= MAX_DOTS:
            axes.plot(starts, samples, ".", color=BAR, markersize=4)
        else:
            slices = np.minimum((starts / max(starts[-1], 1e-9) * TIME_BINS).astype(int), TIME_BINS - 1)
            sliced = [samples[slices == number] for number in np.unique(slices)]
            centres = [starts[slices == number].mean() for number in np.unique(slices)]
            lows, highs = [values.min() for values in sliced], [values.max() for values in sliced]
            axes.fill_between(centres, lows, highs, color=BAND, linewidth=0, step="mid")
            axes.plot(centres, [np.median(values) for values in sliced], color=BAR, linewidth=1.1)
        axes.axhline(summary.p50_ms, color=LINE, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, max(starts[-1], 1e-3))
        axes.set_xlabel("time since the first sample, s")
        axes.set_ylabel("latency, ms")
        grid(axes, "y")

    facts = f"{samples.size} samples over {run.duration_s:.1f} s, {summary.min_ms:.3f} to {summary.max_ms:.3f} ms"
    return render(_identifier("time", run), f"Latency over time, {run.label}", facts, draw, 6.4, 3.0)


def layer_bars(run: Run) -> str:
    """Draw the slowest layers and their share of the time."""
    layers = slowest(run.layers)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        places = np.arange(len(layers))[::-1]
        axes.barh(places, [layer.median_ms for layer in layers], color=BAR, height=0.68)
        for place, layer in zip(places, layers, strict=True):
            _beside_bar(axes, layer.median_ms, place, f"{bare_ms(layer.median_ms)} ms, {layer.share:.1%}")
        axes.set_yticks(places, [shortened(f"{layer.title}  {layer.op}") for layer in layers])
        axes.set_ylim(-0.6, len(layers) - 0.4)
        axes.set_xlim(0, max(layer.median_ms for layer in layers) * 1.22 or 1)
        axes.set_xlabel("median of the profiled runs, ms")
        grid(axes, "x")

    facts = f"slowest: {layers[0].title}, {bare_ms(layers[0].median_ms)} ms, {layers[0].share:.1%} of all layers"
    height = 0.8 + 0.24 * len(layers)
    return render(_identifier("layers", run), f"Slowest layers, {run.label}", facts, draw, 9.2, height)


def _identifier(what: str, shown: Identified) -> str:
    """Return a name for a plot that is unique on the page."""
    return f"{what}-{shown.precision}-{shown.variant}"


def size_over_passes(network: NetworkRecord) -> str:
    """Draw MACs, parameters and nodes as imported and after every pass."""
    first = network.steps[0].before
    sizes = (first, *(step.after for step in network.steps))
    last = sizes[-1]
    facts = (
        f"MACs {count(first.macs)} to {count(last.macs)}, parameters {count(first.params)} to {count(last.params)}, "
        f"nodes {first.nodes} to {last.nodes}"
    )
    drawn = _drawn_sizes(("as imported", *(step.name for step in network.steps)), sizes)
    return _inline(drawn, _identifier("passes", network), f"Size over the passes, {network.label}", facts)


@lru_cache(maxsize=16)  # networks of several precisions and targets often differ in nothing that is drawn
def _drawn_sizes(names: tuple[str, ...], sizes: tuple[SizeRecord, ...]) -> str:
    measures: tuple[tuple[str, list[int]], ...] = (
        ("MACs", [size.macs for size in sizes]),
        ("parameters", [size.params for size in sizes]),
        ("nodes", [size.nodes for size in sizes]),
    )

    def draw(figure: Figure) -> None:
        axes = figure.subplots()  # for all three measures: axes of their own would take three times as long to draw
        places = np.arange(len(names))[::-1]
        for column, (title, values) in enumerate(measures):
            left = column * 1.45
            lengths = np.array(values, float) / max(*values, 1)
            axes.barh(places, lengths, left=left, color=BAR, height=0.66)
            for number, (place, value) in enumerate(zip(places, values, strict=True)):
                changed = number > 0 and value != values[number - 1]
                _beside_bar(axes, left + lengths[number], place, count(value), bold=changed)
            axes.text(left, len(names) - 0.3, title)
            axes.vlines(left, -0.6, len(names) - 0.4, FAINT, linewidth=0.8)
        axes.set_xlim(0, 2 * 1.45 + 1.3)
        axes.set_ylim(-0.6, len(names) + 0.3)
        axes.set_xticks([])
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.set_yticks(places, [shortened(name) for name in names])

    return _drawn(draw, 9.2, 0.5 + 0.27 * len(names))


def slowest(layers: Sequence[LayerTime]) -> list[LayerTime]:
    """Return the `TOP_LAYERS` slowest layers, slowest first."""
    return sorted(layers, key=lambda layer: -layer.median_ms)[:TOP_LAYERS]


def render(key: str, title: str, description: str, draw: Callable[[Figure], None], width: float, height: float) -> str:
    """Draw into a figure of ``width`` x ``height`` inches and return it as an SVG element.

    Ids start with ``key``, so that several plots fit on a page.
    """
    return _inline(_drawn(draw, width, height), key, title, description)


def _drawn(draw: Callable[[Figure], None], width: float, height: float) -> str:
    """Return an SVG file; its ids depend on nothing but what is drawn."""
    with _DRAWING, matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser renders text with its own fonts
        figure = Figure(figsize=(width, height), layout="constrained")
        canvas = FigureCanvasSVG(figure)
        draw(figure)
        layout = figure.get_layout_engine()
        assert layout is not None
        layout.execute(figure)
        figure.set_layout_engine("none")
        buffer = io.StringIO()
        # `savefig` would draw everything twice.
        canvas.print_svg(buffer, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def standalone(svg: str) -> str:
    """Turn a plot of `render` into an SVG file: on white, in the page's light colours."""
    for drawn, shown in _PAGE_COLOURS.items():
        svg = svg.replace(shown, _LIGHT[drawn])
    head, rest = svg.replace("inherit", "sans-serif").split(">", 1)
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'{head} {names}><rect width="100%" height="100%" fill="{_LIGHT[PAGE]}"/>{rest}\n'


def _inline(svg: str, key: str, title: str, description: str) -> str:
    key = re.sub(r"[^a-z0-9-]", "-", key.lower())
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r">\s+<", "><", svg)
    svg = re.sub(r"<[^>]*>", lambda tag: _page_tag(tag[0], key), svg)  # tags only: a label may look like an attribute
    head, rest = svg.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    names = f'role="img" aria-labelledby="{key}-title {key}-desc"'
    return (
        f'{head} {names}><title id="{key}-title">{escape(_printable(title))}</title>'
        f'<desc id="{key}-desc">{escape(_printable(description))}</desc>{rest}'
    )


def _page_tag(tag: str, key: str) -> str:
    """Give a tag the page's colours and font, and unique ids."""
    tag = re.sub(r' xmlns(:\w+)?="[^"]*"', "", tag)
    tag = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{key}-", tag)
    tag = tag.replace("'DejaVu Sans'", "inherit")
    for drawn, shown in _PAGE_COLOURS.items():
        tag = tag.replace(drawn, shown)
    return tag


def _beside_bar(axes: Axes, end: float, place: float, text: str, *, bold: bool = False) -> None:
    weight = "bold" if bold else "normal"
    label = axes.annotate(
        text, (end, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, fontweight=weight
    )
    label.set_in_layout(False)  # the axes leave room for it, and to measure it takes a third of the drawing


def grid(axes: Axes, direction: str) -> None:
    """Draw grid lines in a direction, ``x`` or ``y``, instead of the axis line."""
    axes.grid(axis=direction)  # type: ignore[arg-type]
    axes.spines["left"].set_visible(direction == "x")


def shortened(name: str, longest: int = 46) -> str:
    """Cut the beginning of a long name, where runtimes add prefixes."""
    name = _printable(name)
    return name if len(name) <= longest else f"…{name[1 - longest :]}"


def _printable(text: str) -> str:
    """Replace characters that cannot be printed, or that XML forbids."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
