"""Plots of the gates report."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from deploycc.documents.gates import GateReport, Timings
from deploycc.documents.staged_times import Rounds
from deploycc.report.plots import BAND, BAR, FAINT, INK, LINE, grid, render

_BINS = 8


def latency_by_share(report: GateReport) -> str:
    """Draw the latency of each picture over the share of the gated MACs that is on; bands hold the middle half."""
    timings = _timings(report)
    share = np.array([picture.active_share for picture in timings.pictures])
    lowered, dense, multiply = map(least_ms, (timings.lowered_ms, timings.dense_ms, timings.multiply_ms))

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for low, high, inside in _bins(share):
            quarters = np.percentile(lowered[inside], [25, 50, 75])
            axes.fill_between([low, high], quarters[0], quarters[2], color=BAND, linewidth=0)
            axes.plot([low, high], [quarters[1]] * 2, color=BAR, linewidth=1.6)
        axes.plot(share, lowered, ".", color=BAR, markersize=4)
        lines = [(dense.mean(), "dense", "-"), (multiply.mean(), "multiplying", (0, (4, 3)))]
        # The lower line has its name below, so that the names of lines close to each other stay apart.
        for (value, name, style), side in zip(sorted(lines, key=lambda line: line[0]), ("top", "bottom"), strict=True):
            axes.axhline(value, color=LINE, linewidth=1.2, linestyle=style)
            axes.annotate(name, (0.005, value), xycoords=("axes fraction", "data"), ha="left", va=side, fontsize=8,
                          xytext=(0, -3 if side == "top" else 3), textcoords="offset points")  # fmt: skip
        end = 1.12 * max(float(np.percentile(lowered, 99)), multiply.mean(), dense.mean())
        above = int((lowered > end).sum())
        axes.set_ylim(0, end)
        hidden = f" ({above} slower pictures not drawn)" if above else ""
        axes.set_xlabel("active share of the gated layers' operations" + hidden)
        axes.set_ylabel("latency, ms")
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        grid(axes, "y")

    facts = f"{share.size} pictures, {lowered.min():.3f} to {lowered.max():.3f} ms; dense {dense.mean():.3f} ms"
    return render("by-share", "Latency by active share", facts, draw, 6.4, 3.2)


def saved_time(report: GateReport) -> str:
    """Draw saved time over saved operations, one dot per picture; on the diagonal, operations save their full time."""
    timings = _timings(report)
    macs = np.array([picture.saved_macs for picture in timings.pictures]) / report.scope_macs
    saved = 1 - least_ms(timings.lowered_ms) / least_ms(timings.dense_ms).mean()  # the dense time is the same for all

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        low = max(-0.5, min(0.0, float(saved.min()) - 0.02))
        below = int((saved < low).sum())
        high = max(float(macs.max()), float(saved.max()), 0.05) * 1.05
        axes.plot([0, high], [0, high], color=FAINT, linewidth=1.2)
        axes.annotate("operations save their full time", (0.42 * high, 0.42 * high), xytext=(6, -4),
                      textcoords="offset points", va="top", fontsize=8,
                      bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1})  # fmt: skip
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.plot(macs, saved, ".", color=BAR, markersize=5)
        axes.plot([macs.mean()], [saved.mean()], "D", color=LINE, markersize=6)
        axes.set_xlim(0, high)
        axes.set_ylim(low, high)
        axes.set_xlabel("saved share of the back-end's operations")
        axes.set_ylabel("saved share of the dense time" + (f" ({below} below)" if below else ""))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        grid(axes, "y")

    facts = f"on average {macs.mean():.1%} of the operations and {saved.mean():.1%} of the time are saved"
    return render("saved", "Saved time over saved operations", facts, draw, 5.2, 4.2)


def worst_case(report: GateReport) -> str:
    """Draw the raw times with every kernel on, beside those of the dense network."""
    timings = _timings(report)
    both = [np.array(rounds).ravel() for rounds in (timings.worst_dense_ms, timings.worst_lowered_ms)]
    bound = float(least_ms(timings.worst_dense_ms).mean()) * report.max_worst_case

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        end = max(float(np.percentile(samples, 90)) for samples in both)
        beyond = sum(int((samples > end).sum()) for samples in both)
        random = np.random.default_rng(0)
        for place, samples in zip((1, 0), both, strict=True):
            shown = samples[samples <= end]
            axes.plot(shown, place + random.uniform(-0.18, 0.18, shown.size), ".", color=BAR, markersize=4)
            axes.plot([samples.min()] * 2, [place - 0.3, place + 0.3], color=INK, linewidth=1.4)
        axes.axvline(bound, color=LINE, linewidth=1.2, linestyle=(0, (4, 3)))
        label = f"{report.max_worst_case:g} times dense"
        axes.annotate(label, (bound, 1.45), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_yticks([1, 0], ["dense", "all kernels on"])
        axes.set_ylim(-0.5, 1.6)
        axes.set_xlabel("latency, ms" + (f" ({beyond} slower samples not drawn)" if beyond else ""))
        grid(axes, "x")

    facts = f"least {both[0].min():.3f} ms dense, {both[1].min():.3f} ms with every kernel on, bound {bound:.3f} ms"
    return render("worst", "Worst case", facts, draw, 6.4, 2.0)


def _bins(share: np.ndarray) -> list[tuple[float, float, np.ndarray]]:
    """Return slices of equal width with at least three pictures: start, end, which pictures."""
    edges = np.linspace(share.min(), share.max(), _BINS + 1)
    place = np.clip(np.searchsorted(edges, share, side="right") - 1, 0, _BINS - 1)
    counts = np.bincount(place, minlength=_BINS)
    return [(float(edges[k]), float(edges[k + 1]), place == k) for k in range(_BINS) if counts[k] >= 3]


def least_ms(rounds: Rounds) -> NDArray[np.float64]:
    """Return the least time of each picture, [pictures]."""
    least: NDArray[np.float64] = np.array(rounds).min(0)
    return least


def _timings(report: GateReport) -> Timings:
    if report.timings is None:
        raise ValueError("nothing was measured")
    return report.timings
