"""The gates report: the time that gates save, picture by picture, beside the operations that they save."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from deploycc.documents.gates import GateReport
from deploycc.documents.prediction import Interval
from deploycc.report import gates_plots as plots
from deploycc.report.format import bare_ms
from deploycc.report.gates_staged import HOW, one_network, staged_evidence, staged_json, staged_table
from deploycc.report.page import page_template
from deploycc.report.table import Table

TEMPLATE = "gates.html.j2"
_LONGEST_ROW = 3
LEAST = "each picture counts with the least time of its rounds: whatever else the machine does only adds time"


@dataclass(frozen=True)
class Derived:
    """Figures of a measured report.

    Attributes:
        pictures, rounds: numbers of both.
        dense_ms, multiply_ms, lowered_ms: mean times over the pictures.
        saved: share of the dense network's time that is saved.
        saved_macs: share of the back-end's MACs that belongs to kernels that are off.
        saved_macs_with_inputs: share of all MACs that is saved, with input channels that are zero because of them.
        pays: ``saved`` divided by ``saved_macs``; None if no kernel is off.
        pays_with_inputs: ``saved`` divided by ``saved_macs_with_inputs``.
        worst_case: time with every kernel on, divided by the dense network's.
        samples: number of raw times that these figures come from.
    """

    pictures: int
    rounds: int
    dense_ms: float
    multiply_ms: float
    lowered_ms: float
    saved: float
    saved_macs: float
    saved_macs_with_inputs: float
    pays: float | None
    pays_with_inputs: float | None
    worst_case: float
    samples: int

    def as_json(self) -> dict[str, Any]:
        """Return the figures as plain values, with their provenance."""
        return {"provenance": "measured", "statistic": LEAST, **asdict(self)}


def derive(report: GateReport) -> Derived:
    """Derive the figures of a report.

    Raises:
        ValueError: it has no timings.
    """
    timings = report.timings
    if timings is None:
        raise ValueError("nothing was measured")
    dense, multiply, lowered = (
        float(plots.least_ms(rounds).mean()) for rounds in (timings.dense_ms, timings.multiply_ms, timings.lowered_ms)
    )
    saved = 1 - lowered / dense
    macs = float(np.mean([picture.saved_macs for picture in timings.pictures])) / report.scope_macs
    both = float(np.mean([picture.saved_macs_with_inputs for picture in timings.pictures])) / report.network_macs
    worst = plots.least_ms(timings.worst_lowered_ms).mean() / plots.least_ms(timings.worst_dense_ms).mean()
    count = len(timings.dense_ms)
    return Derived(
        pictures=len(timings.pictures),
        rounds=count,
        dense_ms=dense,
        multiply_ms=multiply,
        lowered_ms=lowered,
        saved=saved,
        saved_macs=macs,
        saved_macs_with_inputs=both,
        pays=saved / macs if macs else None,
        pays_with_inputs=saved / both if both else None,
        worst_case=float(worst),
        samples=3 * count * len(timings.pictures),
    )


def gates_json(report: GateReport, considered: bool = False) -> dict[str, Any]:
    """Return a report as plain values, with the figures that follow from its raw samples instead of the samples.

    Args:
        report: to show.
        considered: include what the planner chose from.
    """
    omitted = {"timings", "staged"} if considered else {"timings", "staged", "considered"}
    facts = report.model_dump(mode="json", exclude=omitted, by_alias=True)
    facts["staged"] = None if report.staged is None else staged_json(report.staged)
    return {**facts, "measured": derive(report).as_json() if report.timings is not None else None}


def summary_table(report: GateReport) -> Table:
    """Return figures of the network as a whole, predicted and measured."""
    columns = (
        "evidence", "dense ms", "multiply ms", "planned ms", "time saved", "back-end MACs saved", "time/MACs",
        "all MACs saved, with idle inputs", "time/MACs", "worst case",
    )  # fmt: skip
    ratio = report.predicted_all_on_ms / report.predicted_dense_ms
    saved = 1 - report.predicted_expected_ms / report.predicted_dense_ms
    times = bare_ms(report.predicted_dense_ms), "-", bare_ms(report.predicted_expected_ms)
    worst = f"{ratio:.3f}"
    if report.intervals is not None:
        of = report.intervals
        times, worst = (_within(of.dense), "-", _within(of.expected)), f"{worst}: {_within(of.all_on)} ms"
    rows: list[tuple[str, ...]] = [("predicted", *times, f"{saved:.1%}", "-", "-", "-", "-", worst)]
    if report.timings is not None:
        d = derive(report)
        kernels = f"{d.saved_macs:.1%}", "-" if d.pays is None else f"{d.pays:.2f}"
        both = f"{d.saved_macs_with_inputs:.1%}", "-" if d.pays_with_inputs is None else f"{d.pays_with_inputs:.2f}"
        times = bare_ms(d.dense_ms), bare_ms(d.multiply_ms), bare_ms(d.lowered_ms)
        rows.append(("measured", *times, f"{d.saved:.1%}", *kernels, *both, f"{d.worst_case:.3f}"))
    how = f"{report.threads} threads" if report.threads else report.predicted.source
    return Table(f"{report.network} for {report.target}, {how}", columns, tuple(rows))


def _within(time: Interval) -> str:
    return f"{bare_ms(time.ms)} ({bare_ms(time.low_ms)} to {bare_ms(time.high_ms)})"


def regions_table(report: GateReport) -> Table:
    """Return the regions that were planned to become branches, with predicted and measured savings."""
    columns = ("layers", "lowering", "pieces", "predicted saved ms", "measured saved ms", "kept", "if changed, why")
    rows = tuple(
        (
            _row(region.layers),
            region.lowering,
            _sizes(region.sizes),
            f"{region.predicted_saved_ms:.3f}",
            "-" if region.measured_saved_ms is None else f"{region.measured_saved_ms:.3f}",
            "yes" if region.kept else "no",
            region.why,
        )
        for region in report.regions
    )
    growth = f"they add {report.added_bytes / 2**20:.1f} MiB to {report.weight_bytes / 2**20:.1f} MiB of weights"
    title = f"Gates planned as branches; {growth} ({report.max_growth:g} times as much is allowed)"
    return Table(title, columns, rows)


def gates_tables(report: GateReport, considered: bool = False) -> list[Table]:
    """Return what was planned and what it saves; first of all what was considered, where that is asked for."""
    tables = [*([considered_table(report)] if considered else []), regions_table(report), summary_table(report)]
    staged = staged_table(report)
    return tables if staged is None else [*tables, staged]


def considered_table(report: GateReport) -> Table:
    """Return what the planner chose from, with predicted times."""
    columns = ("layers", "lowering", "pieces", "predicted mean ms", "all on ms", "added MiB", "chosen")
    ordered = sorted(report.considered, key=lambda choice: (_first(report, choice.layers[0]), len(choice.layers)))
    rows = tuple(
        (
            _row(choice.layers),
            choice.lowering,
            _sizes(choice.sizes),
            f"{choice.expected_ms:.3f}",
            f"{choice.all_on_ms:.3f}",
            f"{choice.added_bytes / 2**20:.1f}",
            "yes" if choice.chosen else "",
        )
        for choice in ordered
    )
    return Table("Considered for each layer and each row of layers: the best of each kind", columns, rows)


def render_gates_html(report: GateReport) -> str:
    """Return the page, which loads nothing from elsewhere; every name in it is escaped."""
    drawings, staged = {}, staged_table(report)
    if report.timings is not None:
        draw = {"by_share": plots.latency_by_share, "saved": plots.saved_time, "worst": plots.worst_case}
        drawings = {name: Markup(function(report)) for name, function in draw.items()}
    return page_template(TEMPLATE).render(
        report=report,
        derived=derive(report) if report.timings is not None else None,
        plots=drawings,
        tables=[*([] if staged is None else [staged]), regions_table(report), considered_table(report)],
        staged_evidence=None if report.staged is None else staged_evidence(report.staged),
        one_network=one_network(report),
        how_staged=HOW,
        least=LEAST,
    )


def _sizes(sizes: tuple[tuple[int, ...], ...]) -> str:
    return _row(tuple("/".join(map(str, layer)) or "-" for layer in sizes))


def _row(parts: tuple[str, ...]) -> str:
    """Return the parts of a row, of many only the first and the last."""
    if len(parts) <= _LONGEST_ROW:
        return " > ".join(parts)
    return f"{parts[0]} > ... {len(parts) - 2} more ... > {parts[-1]}"


def _first(report: GateReport, layer: str) -> int:
    return next(index for index, choice in enumerate(report.considered) if layer in choice.layers)
