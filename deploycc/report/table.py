"""Tables of text, and how they are laid out within a width.

Names break at their punctuation, and only where nothing else helps.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_GAP = "  "
_BELOW = "    "  # before prose below its row
_NARROW = 20  # of a column of prose
_NUMBER = re.compile(r"[-+<>=]?\d\S*( \S{1,4})?|-|=|n/a|")
_PIECE = re.compile(r"[^\s/_.,:>-]*[/_.,:>-]+|[^\s/_.,:>-]+")  # what a name may be broken after

Cells = Sequence[str]


@dataclass(frozen=True)
class Table:
    """Columns and rows of text; every row has one cell per column.

    Attributes:
        title: empty for none.
        columns: names.
        rows: cells.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Lines:
    """A table that is laid out.

    Attributes:
        head: lines of the columns' names.
        body: lines of the rows.
    """

    head: tuple[str, ...]
    body: tuple[str, ...]


def number_columns(table: Table) -> tuple[bool, ...]:
    """Which columns hold nothing but numbers."""
    cells = [[row[i] for row in table.rows] for i in range(len(table.columns))]
    return tuple(bool(column) and all(map(_NUMBER.fullmatch, column)) for column in cells)


def lay_out(columns: Cells, rows: Sequence[Cells], width: int | None = None) -> Lines:
    """Lay out a table.

    Columns of numbers are right-aligned and never broken. Where the table is too wide, their names wrap, then other
    cells at spaces, the widest column first. Prose in the last column goes below its row where its column would become
    narrow, or names in other columns would break. Only then are names broken, after punctuation. A table that still
    does not fit is turned: each row becomes a column beside the names of the columns, or, where these do not fit
    either, a table of its own.

    Args:
        columns: names.
        rows: one cell per column.
        width: in characters; None: as wide as the cells are.
    """
    right = number_columns(Table("", tuple(columns), tuple(map(tuple, rows))))
    natural = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    if width is None or _total(natural) <= width:
        return _joined([_lines(row, natural, right) for row in (columns, *rows)])
    words = _shrunk(natural, _least(columns, rows, right, str.split), width, right)
    prose = len(columns) > 2 and any(" " in row[-1] for row in rows) and not right[-1]
    if _total(words) <= width and not (prose and words[-1] < min(natural[-1], _NARROW)):
        return _joined([_lines(row, words, right) for row in (columns, *rows)])
    count = len(columns) - prose
    beside, numbers = [row[:count] for row in (columns, *rows)], right[:count]
    words = _shrunk(natural[:count], _least(beside[0], beside[1:], numbers, str.split), width, numbers)
    pieces = _shrunk(words, _least(beside[0], beside[1:], numbers, _PIECE.findall), width, numbers)
    if _total(pieces) > width and len(columns) > 2:
        return _turned(columns, rows, width)
    below = [textwrap.wrap(" ".join(row[count:]), width - len(_BELOW)) for row in (columns, *rows)]
    return _joined(
        [
            [*_lines(row, pieces, numbers), *(_BELOW + line for line in more)]
            for row, more in zip(beside, below, strict=True)
        ]
    )


def _turned(columns: Cells, rows: Sequence[Cells], width: int) -> Lines:
    turned = [[name, *(row[i] for row in rows)] for i, name in enumerate(columns)]
    names = [max(len(row[i]) for row in turned) for i in range(len(turned[0]))]
    if len(rows) == 1 or _total(names) <= width:
        return lay_out(turned[0], turned[1:], width)
    first, *parts = [_turned(columns, [row], width) for row in rows]
    return Lines(first.head, (*first.body, *(line for part in parts for line in ("", *part.head, *part.body))))


def _least(
    columns: Cells, rows: Sequence[Cells], right: Sequence[bool], split: Callable[[str], list[str]]
) -> list[int]:
    """Return for each column the longest part that must stay whole; numbers and words of column names do."""
    least = []
    for column, *cells, numbers in zip(columns, *rows, right, strict=True):
        parts = [*column.split(), *(cells if numbers else [part for cell in cells for part in split(cell)])]
        least.append(max(map(len, parts), default=0))
    return least


def _shrunk(widths: Sequence[int], least: Sequence[int], width: int, first: Sequence[bool]) -> list[int]:
    """Make columns narrower until the table fits, some before others and then the widest, but none below its least."""
    shrunk = list(widths)
    while _total(shrunk) > width:
        able = [i for i in range(len(shrunk)) if shrunk[i] > least[i]]
        if not able:
            break
        shrunk[max(able, key=lambda i: (first[i], shrunk[i]))] -= 1
    return shrunk


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _joined(rows: Sequence[Sequence[str]]) -> Lines:
    return Lines(tuple(rows[0]), tuple(line for row in rows[1:] for line in row))


def _lines(cells: Cells, widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    wrapped = [_wrapped(cell, width) for cell, width in zip(cells, widths, strict=True)]
    lines = []
    for number in range(max(map(len, wrapped))):
        parts = [part[number] if number < len(part) else "" for part in wrapped]
        padded = [f"{p:>{w}}" if r else f"{p:<{w}}" for p, w, r in zip(parts, widths, right, strict=True)]
        lines.append(_GAP.join(padded).rstrip())
    return lines


def _wrapped(cell: str, width: int) -> list[str]:
    """Break at spaces, and inside words that are longer than a line."""
    if len(cell) <= width:
        return [cell]
    lines = [""]
    for word in cell.split():
        pieces = [word] if len(word) <= width else _PIECE.findall(word)
        for number, piece in enumerate(pieces):
            gap = " " if lines[-1] and number == 0 else ""
            if lines[-1] and len(lines[-1] + gap + piece) > width:
                lines.append(piece)
            else:
                lines[-1] += gap + piece
    return lines
