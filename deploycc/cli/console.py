"""Writing to the terminal. The only module that imports rich.

stdout carries what another program could read; everything else goes to stderr. Colour follows the terminal and
``NO_COLOR``; in a pipe tables become aligned plain text and progress stays quiet.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from deploycc.errors import DeployError


def out(text: str = "") -> None:
    """Print a line on stdout."""
    print(text)  # noqa: T201 - this module is where printing happens


def print_json(value: Any) -> None:
    """Print a JSON document on stdout."""
    out(json.dumps(value, indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print a table on stdout; columns whose every cell starts like a number are right-aligned."""
    right = [bool(rows) and all(_numeric(row[i]) for row in rows) for i in range(len(columns))]
    if sys.stdout.isatty():
        _rich_table(columns, rows, right, title)
        return
    if title:
        out(title)
    widths = [max(len(str(row[i])) for row in [columns, *rows]) for i in range(len(columns))]
    for row in [columns, *rows]:
        cells = [f"{cell:>{w}}" if r else f"{cell:<{w}}" for cell, w, r in zip(row, widths, right, strict=True)]
        out("  ".join(cells).rstrip())


def say(title: str, lines: Sequence[str]) -> None:
    """Print a title and indented lines on stderr."""
    _say(title, "", "bold")
    for line in lines:
        print(f"  {line}", file=sys.stderr)  # noqa: T201


def note(text: str) -> None:
    """Say something on stderr."""
    _say("note", text, "cyan")


def warn(text: str) -> None:
    """Say something on stderr that the user should act on."""
    _say("warning", text, "yellow")


def fail(error: DeployError) -> None:
    """Print a diagnosed error on stderr."""
    text = error.render()
    if not sys.stderr.isatty():
        print(text, file=sys.stderr)  # noqa: T201
        return
    from rich.console import Console
    from rich.text import Text

    head, _, rest = text.partition("\n")
    Console(stderr=True).print(Text(head, style="bold red"), Text(rest) if rest else "", sep="\n")


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """Show a spinner with a changing line on a terminal, nothing in a pipe."""
    if not sys.stderr.isatty():
        yield Progress(None, what)
        return
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield Progress(status, what)


class Progress:
    """The line that `progress` shows."""

    def __init__(self, status: Any, what: str) -> None:
        self._status = status
        self._what = what

    def __call__(self, detail: str) -> None:
        """Show ``detail`` after the step's name."""
        if self._status is not None:
            from rich.markup import escape

            self._status.update(f"{escape(self._what)}: {escape(detail)}")


def _say(kind: str, text: str, style: str) -> None:
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        Console(stderr=True).print(Text.assemble((kind, style), f": {text}" if text else ""))
    else:
        print(f"{kind}: {text}" if text else kind, file=sys.stderr)  # noqa: T201


def _rich_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], title: str | None
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name, is_right in zip(columns, right, strict=True):
        grid.add_column(name, justify="right" if is_right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(str(cell)) for cell in row))
    Console().print(grid)


def _numeric(cell: str) -> bool:
    return bool(cell) and (cell.lstrip("-+<")[:1].isdigit() or cell in ("-", "n/a"))
