"""Render predictions: tables for a terminal, and a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from markupsafe import Markup

from deploycc.documents.prediction import Interval, LaunchPrediction, PredictionReport, TargetPrediction
from deploycc.report.format import bare_ms, count
from deploycc.report.page import page_template
from deploycc.report.prediction_plots import draw_layers, draw_targets
from deploycc.report.table import Table

TEMPLATE = "prediction.html.j2"
SLOWEST = 12
"""Launches that are shown where not all are asked for."""

TARGET_COLUMNS = (
    "target", "precision", "latency, ms", "90 % interval", "launches", "nodes", "MACs", "on padding", "bound by",
)  # fmt: skip
LAUNCH_COLUMNS = ("launch", "kind", "ms", "90 % interval", "bound by", "MMACs", "on padding", "fewer kernels pay at")

BOUND_COLUMNS = ("bound by", "launches", "ms", "of the time", "of the MACs", "what helps")
_HELPS = {
    "compute": "fewer kernels: time follows the MACs",
    "tile waste": "numbers of kernels that fill whole tiles",
    "latency": "shorter sums: fewer inputs, smaller windows",
    "memory": "fewer channels where maps are large",
    "launch": "fuse, or remove whole layers or branches",
}


def prediction_json(report: PredictionReport) -> dict[str, Any]:
    """Everything, as plain values."""
    return report.model_dump(mode="json", by_alias=True)


def prediction_tables(report: PredictionReport, *, layers: bool = False) -> list[Table]:
    """One row per target and precision; then the launches: all of each, or the slowest of a single one."""
    tables = [targets_table(report.predictions)]
    if any(each.skipping for each in report.predictions):
        tables.append(gates_table(report.predictions))
    shown = report.predictions if layers or len(report.predictions) == 1 else ()
    for each in shown:
        tables.append(bounds_table(each))
        launches = list(each.launches) if layers else slowest(each)
        title = f"{each.target.name} {each.precision}, predicted"
        title += "" if layers else f": the {len(launches)} slowest of {len(each.launches)} launches"
        tables.append(Table(title, LAUNCH_COLUMNS, tuple(launch_cells(launch) for launch in launches)))
    return tables


def targets_table(predictions: Sequence[TargetPrediction]) -> Table:
    """Latency by target and precision."""
    return Table("predicted", TARGET_COLUMNS, tuple(target_cells(each) for each in predictions))


def bounds_table(each: TargetPrediction) -> Table:
    """What bounds the launches of a network, beside their multiply-accumulates: where fewer of these save less time."""
    rows = []
    for bound, part in bounds(each):
        launches = [launch for launch in each.launches if launch.bound == bound]
        time_ms, macs = sum(launch.time.ms for launch in launches), sum(launch.macs for launch in launches)
        rows.append((bound, str(len(launches)), bare_ms(time_ms), f"{part:.0%}", share(macs, each.macs), _HELPS[bound]))
    return Table(f"{each.target.name} {each.precision}, predicted: what takes the time", BOUND_COLUMNS, tuple(rows))


def gates_table(predictions: Sequence[TargetPrediction]) -> Table:
    """What gates would save."""
    rows = tuple(
        (
            each.target.name,
            each.precision,
            bare_ms(each.time.ms),
            bare_ms(each.skipping.ms),
            span(each.skipping),
            each.gates,
        )
        for each in predictions
        if each.skipping is not None
    )
    columns = ("target", "precision", "every kernel, ms", "active kernels, ms", "90 % interval", "how")
    return Table("gates, predicted", columns, rows)


def prediction_notes(report: PredictionReport) -> list[str]:
    """Where the constants come from, why intervals are wide, and which targets are refused."""
    targets: dict[str, list[str]] = {}
    for each in report.predictions:
        name = f"{each.target.name} {each.precision}"
        targets.setdefault(f"predicted with {each.evidence.source}; {each.timed}", []).append(name)
        for remark in each.remarks:
            targets.setdefault(remark, []).append(name)
    everything = len(report.predictions) > 1
    notes = [
        text if everything and len(names) == len(report.predictions) else f"{', '.join(names)}: {text}"
        for text, names in targets.items()
    ]
    return notes + [f"{each.target}: not predicted: {each.reason} ({each.code})" for each in report.refused]


def render_prediction_html(report: PredictionReport) -> str:
    """Return the page, which loads nothing from elsewhere; every name in it is escaped."""
    return page_template(TEMPLATE).render(
        report=report,
        name=PurePath(report.source.files[0]).name if report.source.files else "the network",
        picture=Markup(draw_targets(report.predictions)),
        columns=TARGET_COLUMNS,
        rows=[target_cells(each) for each in report.predictions],
        gates=gates_table(report.predictions),
        notes=prediction_notes(report),
        launch_columns=LAUNCH_COLUMNS,
        targets=[
            {
                "title": f"{each.target.title}, {each.precision.upper()}",
                "picture": Markup(draw_layers(each, slowest(each))),
                "bounds": bounds_table(each),
                "rows": [launch_cells(launch) for launch in each.launches],
            }
            for each in report.predictions
        ],
    )


def target_cells(each: TargetPrediction) -> tuple[str, ...]:
    """A row of `TARGET_COLUMNS`."""
    return (
        each.target.name,
        each.precision,
        bare_ms(each.time.ms),
        span(each.time),
        f"{len(each.launches)}",
        f"{each.nodes}",
        count(each.macs),
        share(each.wasted_macs, each.macs + each.wasted_macs),
        ", ".join(f"{bound} {part:.0%}" for bound, part in bounds(each)[:3]),
    )


def launch_cells(launch: LaunchPrediction) -> tuple[str, ...]:
    """A row of `LAUNCH_COLUMNS`."""
    others = len(launch.nodes) - 1
    return (
        launch.name + (f" + {others}" if others else ""),
        launch.kind,
        bare_ms(launch.time.ms),
        span(launch.time),
        launch.bound,
        f"{launch.macs / 1e6:.2f}",
        share(launch.wasted_macs, launch.macs + launch.wasted_macs),
        ", ".join(f"{step.kernels} (-{bare_ms(step.saved_ms)})" for step in launch.steps) or "-",
    )


def bounds(each: TargetPrediction) -> list[tuple[str, float]]:
    """Return what bounds the launches, with the share of the latency that they take, largest first."""
    shares: dict[str, float] = {}
    for launch in each.launches:
        shares[launch.bound] = shares.get(launch.bound, 0.0) + launch.time.ms / max(each.time.ms, 1e-12)
    return sorted(shares.items(), key=lambda item: -item[1])


def slowest(each: TargetPrediction) -> list[LaunchPrediction]:
    """Return the launches that take longest, the slowest first."""
    return sorted(each.launches, key=lambda launch: -launch.time.ms)[:SLOWEST]


def span(time: Interval) -> str:
    """Return ``4.29 to 6.05``."""
    return f"{bare_ms(time.low_ms)} to {bare_ms(time.high_ms)}"


def share(part: float, whole: float) -> str:
    """Return a share in percent, or a dash."""
    return f"{part / whole:.0%}" if whole and part else "-"
