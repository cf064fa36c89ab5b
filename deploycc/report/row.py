"""Networks in a row: which second network ran, how often, and how long each takes; sums are called composed."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import Any

from deploycc.documents.latency import LatencyReport, RowRun, Run
from deploycc.report.format import bare_ms
from deploycc.report.table import Table

_COLUMNS = ("networks", "provenance", "ran in", "needed by", "median ms", "samples")
_BY_SHARES = "mean by what pictures need"


def row_tables(report: LatencyReport) -> tuple[Table, ...]:
    """Return a table for each run of networks in a row; ``needed by`` is the share of the pictures of the gate plan."""
    return tuple(
        Table(f"Networks in a row, {run.label} on {run.device}", _COLUMNS, _rows(run, run.row))
        for run in report.runs
        if run.row is not None and run.has_times
    )


def row_json(run: Run, row: RowRun) -> dict[str, Any]:
    """Return the same with full precision: how often each second network ran, and the times of engines timed apart."""
    return {
        "shares": list(row.shares),
        "ran": [row.second.count(number) for number in range(max((*row.second, len(row.shares) - 1)) + 1)],
        "parts": [{"file": part.file, "median_ms": median(part.samples_ms)} for part in row.parts],
        "composed_ms": composed_ms(run),
    }


def typical_ms(run: Run, part: slice = slice(None)) -> float:
    """Return what networks in a row typically take: the median of each second network, by how often it ran.

    A median of all samples is the time of one of them, and a mean tells every disturbance.

    Args:
        run: with samples of networks in a row.
        part: of the samples whose medians count; how often each ran is that of the whole run.
    """
    assert run.row is not None
    taken: dict[int, list[float]] = {}
    for number, ms in zip(run.row.second[part], run.samples_ms[part], strict=True):
        taken.setdefault(number, []).append(ms)
    ran = Counter(run.row.second)
    total = sum(ran[number] for number in taken)
    return sum(ran[number] * median(samples) for number, samples in taken.items()) / total


def composed_ms(run: Run) -> float | None:
    """Return the time of a row whose engines were timed apart: the first one, and the others by their shares.

    Medians are added; where the shares are not known, the slowest second network is taken. None for any other run.
    """
    if run.row is None or not run.row.parts:
        return None
    first, *second = (median(part.samples_ms) for part in run.row.parts)
    return first + (_by_shares(run.row, second) or max(second))


def _by_shares(row: RowRun, ms: list[float]) -> float | None:
    """Return the mean of times by the shares of the pictures that need them; None where these are not known."""
    if len(row.shares) != len(ms):
        return None
    return sum(share * each for share, each in zip(row.shares, ms, strict=True)) / sum(row.shares)


def _rows(run: Run, row: RowRun) -> tuple[tuple[str, ...], ...]:
    return _composed(run, row) if row.parts else _measured(run, row)


def _measured(run: Run, row: RowRun) -> tuple[tuple[str, ...], ...]:
    count = max((*row.second, len(row.shares) - 1)) + 1
    samples: list[list[float]] = [[] for _ in range(count)]
    for number, ms in zip(row.second, run.samples_ms, strict=True):
        samples[number].append(ms)
    rows = [
        (
            f"first > second {number}",
            "measured" if taken else "-",
            f"{len(taken) / len(run.samples_ms):.1%}",
            _share(row, number),
            bare_ms(median(taken)) if taken else "-",
            str(len(taken)),
        )
        for number, taken in enumerate(samples)
    ]
    needed = [number for number, share in enumerate(row.shares) if share > 0]
    if needed and all(samples[number] for number in needed):
        mean = _by_shares(row, [median(taken) if taken else 0.0 for taken in samples])
        assert mean is not None
        rows.append((_BY_SHARES, "composed, parts measured", "-", "-", bare_ms(mean), "-"))
    return tuple(rows)


def _composed(run: Run, row: RowRun) -> tuple[tuple[str, ...], ...]:
    medians = [median(part.samples_ms) for part in row.parts]
    names = ["first", *(f"second {number}" for number in range(len(medians) - 1))]
    rows = [
        (name, "measured", "-", _share(row, number - 1), bare_ms(ms), str(len(part.samples_ms)))
        for number, (name, ms, part) in enumerate(zip(names, medians, row.parts, strict=True))
    ]
    for number, ms in enumerate(medians[1:]):
        rows.append((f"first > second {number}", "composed", "-", _share(row, number), bare_ms(medians[0] + ms), "-"))
    if (mean := _by_shares(row, medians[1:])) is not None:
        rows.append((_BY_SHARES, "composed", "-", "-", bare_ms(medians[0] + mean), "-"))
    return tuple(rows)


def _share(row: RowRun, number: int) -> str:
    return f"{row.shares[number]:.1%}" if 0 <= number < len(row.shares) else "-"
