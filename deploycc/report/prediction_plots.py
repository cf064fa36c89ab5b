"""Pictures of predictions: latency by target with its interval, and the parts of the slowest launches."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from deploycc.documents.prediction import LaunchPrediction, TargetPrediction
from deploycc.report.format import bare_ms
from deploycc.report.plots import BAND, BAR, FAINT, INK, LINE, grid, render

_LONGEST_NAME = 34  # characters


def draw_targets(predictions: Sequence[TargetPrediction]) -> str:
    """Draw a bar with its interval per target and precision."""
    names = [f"{each.target.name} {each.precision}" for each in predictions]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for row, each in enumerate(predictions):
            time = each.time
            axes.barh(row, time.ms, height=0.6, color=BAR)
            axes.plot([time.low_ms, time.high_ms], [row, row], color=LINE, linewidth=1.4, marker="|", markersize=7)
            axes.annotate(
                f" {bare_ms(time.ms)} ms", (time.high_ms, row), va="center", xytext=(3, 0), textcoords="offset points"
            )
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.18 * max(each.time.high_ms for each in predictions))
        axes.set_xlabel("predicted latency, ms (line: 90 % interval)")
        grid(axes, "x")

    facts = "; ".join(f"{name} {bare_ms(each.time.ms)} ms" for name, each in zip(names, predictions, strict=True))
    return render("targets", "Predicted latency by target", facts, draw, 8.2, 0.8 + 0.34 * len(predictions))


def draw_layers(prediction: TargetPrediction, launches: Sequence[LaunchPrediction]) -> str:
    """Draw the parts of the time of some launches."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        colours = {"launch": FAINT, "compute": BAR, "tile waste": LINE, "latency": BAND, "memory": INK}
        for row, launch in enumerate(launches):
            left = 0.0
            for part, ms in _parts(launch).items():
                axes.barh(row, ms, left=left, height=0.66, color=colours[part], label=None if row else part)
                left += ms
        axes.set_yticks(range(len(launches)), [_short(launch.name) for launch in launches])
        axes.invert_yaxis()
        axes.set_xlabel("predicted time, ms")
        handles = [axes.barh(0, 0, color=colour) for colour in colours.values()]
        axes.legend(handles, list(colours), frameon=False, fontsize=8, loc="lower right")
        grid(axes, "x")

    name = f"{prediction.target.name}-{prediction.precision}"
    facts = "; ".join(f"{launch.name} {bare_ms(launch.time.ms)} ms, {launch.bound}" for launch in launches)
    return render(f"layers-{name}", f"Slowest launches on {name}", facts, draw, 8.2, 0.9 + 0.28 * len(launches))


def _parts(launch: LaunchPrediction) -> dict[str, float]:
    """Return the parts that add up to the launch's time: arithmetic and memory overlap, and the longer one counts."""
    arithmetic = launch.work_ms + launch.padding_ms + launch.latency_ms
    if launch.memory_ms > arithmetic:
        return {"launch": launch.launch_ms, "memory": launch.memory_ms}
    return {
        "launch": launch.launch_ms,
        "compute": launch.work_ms,
        "tile waste": launch.padding_ms,
        "latency": launch.latency_ms,
    }


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else "..." + name[3 - _LONGEST_NAME :]
