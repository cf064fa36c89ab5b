"""The gates report: what gates save in time, picture by picture, beside what they save in operations."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from deploycc.documents.gates import GateReport, Rounds
from deploycc.report import gates_plots as plots
from deploycc.report.format import bare_ms
from deploycc.report.page import page_template
from deploycc.report.table import Table

TEMPLATE = "gates.html.j2"
_LONGEST_ROW = 3
LEAST = "of each picture the least time of its rounds: what else the machine does only adds time"


@dataclass(frozen=True)
class Derived:
    """Figures of a measured report.

    Attributes:
        pictures, rounds: how many.
        dense_ms, multiply_ms, lowered_ms: mean over the pictures.
        saved: share of the dense network's time.
        saved_macs: share of the back-end's operations, those of kernels that are off.
        saved_macs_with_inputs: share of all operations, also those of input channels that are zero because of them.
        pays: `saved` divided by `saved_macs`; None where nothing is off.
        pays_with_inputs: divided by `saved_macs_with_inputs`.
        worst_case: time with every kernel on, divided by the dense network's.
        samples: raw times behind these figures.
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
        """As plain values, with how they came about."""
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
        float(least_ms(each).mean()) for each in (timings.dense_ms, timings.multiply_ms, timings.lowered_ms)
    )
    saved = 1 - lowered / dense
    macs = float(np.mean([each.saved_macs for each in timings.pictures])) / report.scope_macs
    both = float(np.mean([each.saved_macs_with_inputs for each in timings.pictures])) / report.network_macs
    worst = least_ms(timings.worst_lowered_ms).mean() / least_ms(timings.worst_dense_ms).mean()
    rounds = len(timings.dense_ms)
    return Derived(
        pictures=len(timings.pictures),
        rounds=rounds,
        dense_ms=dense,
        multiply_ms=multiply,
        lowered_ms=lowered,
        saved=saved,
        saved_macs=macs,
        saved_macs_with_inputs=both,
        pays=saved / macs if macs else None,
        pays_with_inputs=saved / both if both else None,
        worst_case=float(worst),
        samples=3 * rounds * len(timings.pictures),
    )


def gates_json(report: GateReport, considered: bool = False) -> dict[str, Any]:
    """A report without its raw samples, with the figures that follow from them, as plain values."""
    left_out = {"timings"} if considered else {"timings", "considered"}
    facts = report.model_dump(mode="json", exclude=left_out, by_alias=True)
    return {**facts, "measured": derive(report).as_json() if report.timings is not None else None}


def least_ms(rounds: Rounds) -> NDArray[np.float64]:
    """Least time of each picture, [pictures]."""
    least: NDArray[np.float64] = np.array(rounds).min(0)
    return least


def summary_table(report: GateReport) -> Table:
    """The network as a whole, predicted and measured."""
    columns = (
        "evidence", "dense ms", "multiply ms", "planned ms", "time saved", "back-end MACs saved", "time/MACs",
        "all MACs saved, with idle inputs", "time/MACs", "worst case",
    )  # fmt: skip
    ratio = report.predicted_all_on_ms / report.predicted_dense_ms
    saved = 1 - report.predicted_expected_ms / report.predicted_dense_ms
    times = bare_ms(report.predicted_dense_ms), "-", bare_ms(report.predicted_expected_ms)
    rows: list[tuple[str, ...]] = [("predicted", *times, f"{saved:.1%}", "-", "-", "-", "-", f"{ratio:.3f}")]
    if report.timings is not None:
        d = derive(report)
        own = f"{d.saved_macs:.1%}", "-" if d.pays is None else f"{d.pays:.2f}"
        both = f"{d.saved_macs_with_inputs:.1%}", "-" if d.pays_with_inputs is None else f"{d.pays_with_inputs:.2f}"
        times = bare_ms(d.dense_ms), bare_ms(d.multiply_ms), bare_ms(d.lowered_ms)
        rows.append(("measured", *times, f"{d.saved:.1%}", *own, *both, f"{d.worst_case:.3f}"))
    return Table(f"{report.network} for {report.target}, {report.threads} threads", columns, tuple(rows))


def regions_table(report: GateReport) -> Table:
    """The lowered regions: what was promised, and what was kept."""
    columns = ("layers", "lowering", "pieces", "predicted saved ms", "measured saved ms", "stays", "why otherwise")
    rows = tuple(
        (
            _row(each.layers),
            each.lowering,
            _sizes(each.sizes),
            f"{each.predicted_saved_ms:.3f}",
            "-" if each.measured_saved_ms is None else f"{each.measured_saved_ms:.3f}",
            "yes" if each.kept else "no",
            each.why,
        )
        for each in report.regions
    )
    growth = f"{report.added_bytes / 2**20:.1f} MiB of weights added to {report.weight_bytes / 2**20:.1f}"
    title = f"Gates that became branches; others stay a multiply; {growth}, at most {report.max_growth:g} times as many"
    return Table(title, columns, rows)


def considered_table(report: GateReport) -> Table:
    """What the planner chose from, predicted."""
    columns = ("layers", "lowering", "pieces", "predicted mean ms", "all on ms", "weights + MiB", "chosen")
    ordered = sorted(report.considered, key=lambda each: (_first(report, each.layers[0]), len(each.layers)))
    rows = tuple(
        (
            _row(each.layers),
            each.lowering,
            _sizes(each.sizes),
            f"{each.expected_ms:.3f}",
            f"{each.all_on_ms:.3f}",
            f"{each.added_bytes / 2**20:.1f}",
            "yes" if each.chosen else "",
        )
        for each in ordered
    )
    return Table("Considered for each layer and row of layers; the best of each kind", columns, rows)


def render_gates_html(report: GateReport) -> str:
    """Return the page; it loads nothing, and escapes every name."""
    pictures = {}
    if report.timings is not None:
        drawn = {"by_share": plots.latency_by_share, "saved": plots.saved_time, "worst": plots.worst_case}
        pictures = {name: Markup(draw(report)) for name, draw in drawn.items()}
    return page_template(TEMPLATE).render(
        report=report,
        derived=derive(report) if report.timings is not None else None,
        pictures=pictures,
        tables=[regions_table(report), considered_table(report)],
        least=LEAST,
    )


def _sizes(sizes: tuple[tuple[int, ...], ...]) -> str:
    return _row(tuple("/".join(map(str, each)) or "-" for each in sizes))


def _row(parts: tuple[str, ...]) -> str:
    """What stands in a row; of many the first and the last."""
    if len(parts) <= _LONGEST_ROW:
        return " > ".join(parts)
    return f"{parts[0]} > ... {len(parts) - 2} more ... > {parts[-1]}"


def _first(report: GateReport, layer: str) -> int:
    return next(index for index, each in enumerate(report.considered) if layer in each.layers)
