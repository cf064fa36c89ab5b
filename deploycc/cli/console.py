"""Writing to the terminal. The only module that imports rich.

stdout carries what another program could read; everything else goes to stderr. Colour follows the terminal and
``NO_COLOR``; in a pipe tables become aligned plain text and progress a line every ten seconds.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from deploycc.errors import DeployError
from deploycc.progress import Say

_LINE_EVERY_S = 10.0  # in a pipe


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
def progress(what: str) -> Iterator[Say]:
    """Show what a command is doing, on stderr, while the block lasts.

    On a terminal: a spinner with a changing line, and a bar with count and time left where a step counts. In a pipe:
    a plain line every ten seconds, if the step has changed since the last one.
    """
    shown = _Bar(what) if sys.stderr.isatty() else _Lines(what)
    with shown:
        yield shown


class _Bar:
    """What `progress` shows on a terminal."""

    def __init__(self, what: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
        from rich.table import Column
        from rich.text import Text

        class Bar(BarColumn):
            def render(self, task: Task) -> Any:
                return super().render(task) if task.total else Text()

        class Left(TimeRemainingColumn):
            def render(self, task: Task) -> Text:
                return super().render(task) if task.total else Text()

        self._what = what
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            Bar(bar_width=20),
            TextColumn("{task.fields[count]}", markup=False, table_column=Column(no_wrap=True)),
            Left(compact=True),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # it would print on stderr what a pipe reads
        )
        self._task = self._bars.add_task(what, total=None, count="")

    def __enter__(self) -> None:
        self._bars.start()

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def __call__(self, what: str, done: int = 0, total: int = 0) -> None:
        """Show a step; its time left is counted from where the count or the total last started anew."""
        task = self._bars.tasks[self._task]
        line = f"{self._what}: {what}"
        count = f"{done}/{total}" if total else ""
        if total != (task.total or 0) or done < task.completed:
            self._bars.reset(self._task, total=total or None, completed=done, description=line, count=count)
        else:
            self._bars.update(self._task, completed=done, description=line, count=count)


class _Lines:
    """What `progress` shows in a pipe."""

    def __init__(self, what: str) -> None:
        self._what = self._line = self._shown = what
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def __call__(self, what: str, done: int = 0, total: int = 0) -> None:
        """Keep a step for the next line."""
        self._line = f"{self._what}: {what} {done}/{total}" if total else f"{self._what}: {what}"

    def _show(self) -> None:
        while not self._ended.wait(_LINE_EVERY_S):
            if self._line != self._shown:
                self._shown = self._line
                print(self._shown, file=sys.stderr, flush=True)  # noqa: T201


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
