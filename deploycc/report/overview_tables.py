"""The table of several output folders as text, and as plain JSON values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal

from deploycc.report.format import bare_ms
from deploycc.report.markdown import escape, table_of
from deploycc.report.overview import KINDS, Cell, Kind, Row
from deploycc.report.published import PAPER, PublishedLatency, demonstration, table_4
from deploycc.report.stats import CONFIDENCE, Change
from deploycc.report.table import Table

Provenance = Literal["measured", "predicted", "published"]
_KEY = ("network", "platform", "unit", "precision")
_NOT_VALID, _NOT_SIGNIFICANT = "*", "n.s."


def latency_tables(rows: Sequence[Row], *, whole_paper: bool = False) -> list[Table]:
    """Return a table per provenance, each narrow enough for a terminal; those without a figure are left out.

    Args:
        rows: of `deploycc.report.overview.overview`.
        whole_paper: show every published figure, not only those of these networks and platforms.
    """
    tables = []
    for provenance in ("measured", "predicted", "published"):
        columns = list(_columns(rows, provenance))
        shown = [(_key(row), [cell(row) for _, cell in columns]) for row in rows]
        if provenance == "published" and whole_paper:
            columns = list(_columns(None, provenance))
            shown = [(_paper_key(each), _paper_cells(each)) for each in table_4()]
        found = [(*key, *cells) for key, cells in shown if any(cell != "-" for cell in cells)]
        if found:
            title = f"Latency, {provenance} (ms per picture)"
            tables.append(Table(title, (*_KEY, *(name for name, _ in columns)), tuple(found)))
    return tables


def wide_latency_table(rows: Sequence[Row]) -> Table:
    """Return one table in which measured, predicted and published figures have columns of their own."""
    columns: list[tuple[str, Callable[[Row], str]]] = []
    for provenance in ("measured", "predicted", "published"):
        columns += [(f"{name} ({provenance})", cell) for name, cell in _columns(rows, provenance)]
    cells = tuple((*_key(row), *(cell(row) for _, cell in columns)) for row in rows)
    return Table("Latency, ms per picture", (*_KEY, *(name for name, _ in columns)), cells)


def demonstration_table(rows: Sequence[Row], *, wide: bool) -> Table:
    """Return accuracy, pictures per second and size of the weights, as the paper's table 5.

    Args:
        rows: of `deploycc.report.overview.overview`.
        wide: with the paper's figures in columns of their own.
    """
    columns = ["network", "variant", "platform", "precision", "mAP50 %", "pictures/s", "weights MB"]
    shown = []
    for row in rows:
        for kind in KINDS:
            if (cell := row.cells.get(kind)) is None:
                continue
            cells = [
                "-" if cell.accuracy is None else f"{100 * cell.accuracy.map50:.1f}",
                "-" if cell.measured is None or cell.measured.summary is None else _fps(cell),
                "-" if cell.weights_bytes is None else f"{cell.weights_bytes / 1e6:.1f}",
            ]
            paper = demonstration(row.published, kind) if row.published and wide else None
            if wide:
                cells += [f"{paper.map_percent:g}", str(paper.fps), str(paper.weights_mb)] if paper else ["-"] * 3
            if any(text != "-" for text in cells):
                shown.append((row.network, kind, row.platform, row.precision, *cells))
    if wide:
        columns[4:] = [f"{name} (measured)" for name in columns[4:6]] + ["weights MB (counted)"]
        columns += ["mAP % (published)", "pictures/s (published)", "weights MB (published)"]
    return Table("Accuracy, rate and weights", tuple(columns), tuple(shown))


def remarks(rows: Sequence[Row]) -> list[str]:
    """Return what a reader must know beside the tables."""
    said = []
    changes = [cell.change for row in rows for cell in row.cells.values() if cell.change]
    if changes:
        said.append(
            f"change: of the median against the original network; {_NOT_SIGNIFICANT}: not significant at "
            f"{CONFIDENCE:.0%} confidence"
        )
    for row in rows:
        for kind, cell in sorted(row.cells.items(), key=lambda item: KINDS.index(item[0])):
            if cell.measured and cell.measured.verdict.label != "VALID":
                where = f"{row.network}, {kind}, on {row.platform} in {row.precision}"
                reasons = [cell.measured.verdict.label, "; ".join(cell.measured.verdict.failed)]
                said.append(f"{_NOT_VALID} {where}: " + ": ".join(filter(None, reasons)))
    sources = {cell.predicted.evidence.source for row in rows for cell in row.cells.values() if cell.predicted}
    said += [f"predicted: {source}; in brackets the interval of 90 %" for source in sorted(sources)]
    data = {(c.accuracy.data, c.accuracy.pictures) for row in rows for c in row.cells.values() if c.accuracy}
    said += [f"mAP50: {count} pictures of {name}, in FP32 on the machine that compiled" for name, count in sorted(data)]
    if any(row.published for row in rows):
        said.append(f"published: {PAPER}, tables 4 and 5, in Caffe")
    if any(cell.measured for row in rows for cell in row.cells.values()):
        said.append("pictures/s: of the engine alone, one picture after the other")
    return said


def terminal_tables(rows: Sequence[Row], *, whole_paper: bool) -> list[Table]:
    """Return the tables for a terminal; with ``whole_paper`` every figure of the white paper is in them."""
    facts = demonstration_table(rows, wide=False)
    return [*latency_tables(rows, whole_paper=whole_paper), *([facts] if facts.rows else [])]


def overview_markdown(rows: Sequence[Row]) -> str:
    """Return the tables as Markdown."""
    blocks = ["# Networks, variants and platforms"]
    for table in (wide_latency_table(rows), demonstration_table(rows, wide=True)):
        cells = [tuple(map(escape, cells)) for cells in table.rows]
        blocks += [f"## {table.title}", table_of(tuple(map(escape, table.columns)), cells)]
    blocks.append("\n".join(f"- {escape(remark)}" for remark in remarks(rows)))
    return "\n\n".join(blocks).rstrip() + "\n"


def overview_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as plain values; each figure says what it is."""
    return [
        {
            **{name: getattr(row, name) for name in _KEY},
            "published": row.published and {**asdict(row.published), "provenance": "published", "source": PAPER},
            "networks": {kind: _cell_json(row, kind, cell) for kind, cell in row.cells.items()},
        }
        for row in rows
    ]


def _cell_json(row: Row, kind: Kind, cell: Cell) -> dict[str, Any]:
    paper = demonstration(row.published, kind) if row.published else None
    measured = cell.measured
    return {
        "folder": cell.folder.name,
        "measured": measured
        and {
            "provenance": "measured",
            "device": measured.run.device,
            "verdict": measured.verdict.label,
            "statistics": measured.summary and asdict(measured.summary),
        },
        "change": cell.change and asdict(cell.change),
        "predicted": cell.predicted and cell.predicted.model_dump(mode="json"),
        "accuracy": cell.accuracy and cell.accuracy.model_dump(mode="json"),
        "weights_bytes": cell.weights_bytes,
        "published": paper and {**asdict(paper), "provenance": "published", "source": PAPER},
    }


def _columns(rows: Sequence[Row] | None, provenance: Provenance) -> Iterator[tuple[str, Callable[[Row], str]]]:
    """Yield columns with what fills them; kinds that no row has are left out. None: whatever the paper has."""
    if provenance == "published":
        if rows is None or any(row.published for row in rows):
            yield "original", lambda row: _paper_cells(row.published)[0]
            yield "pruned", lambda row: _paper_cells(row.published)[1]
            yield "change", lambda row: _paper_cells(row.published)[2]
        return
    for kind in KINDS:
        if provenance == "measured" and _any(rows, kind, lambda cell: cell.measured):
            yield kind, lambda row, kind=kind: _median(row.cells.get(kind))  # type: ignore[misc]
            if kind != "original":
                yield "change", lambda row, kind=kind: _change(row.cells.get(kind))  # type: ignore[misc]
        if provenance == "predicted" and _any(rows, kind, lambda cell: cell.predicted):
            yield kind, lambda row, kind=kind: _predicted(row.cells.get(kind))  # type: ignore[misc]


def _any(rows: Sequence[Row] | None, kind: Kind, has: Callable[[Cell], object]) -> bool:
    return any(has(row.cells[kind]) for row in rows or () if kind in row.cells)


def _key(row: Row) -> tuple[str, ...]:
    return row.network, row.platform, row.unit, row.precision


def _paper_key(published: PublishedLatency) -> tuple[str, ...]:
    return published.network, published.board, published.unit, "fp32"


def _paper_cells(published: PublishedLatency | None) -> list[str]:
    if published is None:
        return ["-"] * 3
    change = published.pruned_ms / published.latency_ms - 1
    return [f"{published.latency_ms:.1f}", f"{published.pruned_ms:.1f}", f"{100 * change:+.1f} %"]


def _median(cell: Cell | None) -> str:
    if cell is None or cell.measured is None or (ms := cell.measured.typical_ms) is None:
        return "-"
    text = bare_ms(ms)
    return text if cell.measured.verdict.label == "VALID" else f"{text} {_NOT_VALID}"


def _change(cell: Cell | None) -> str:
    return "-" if cell is None or cell.change is None else describe(cell.change)


def describe(change: Change) -> str:
    """Return ``-14.8 %``, or that the change is not significant."""
    return _NOT_SIGNIFICANT if change.direction == "not significant" else f"{100 * (change.ratio - 1):+.1f} %"


def _predicted(cell: Cell | None) -> str:
    if cell is None or cell.predicted is None:
        return "-"
    each = cell.predicted
    return f"{bare_ms(each.ms)} ({bare_ms(each.low_ms)} to {bare_ms(each.high_ms)})"


def _fps(cell: Cell) -> str:
    assert cell.measured is not None
    assert cell.measured.summary is not None
    return f"{cell.measured.summary.throughput_fps:.1f}"
