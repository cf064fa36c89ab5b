"""Writing to the terminal. The only module that imports rich.

stdout carries what another program could read; everything else goes to stderr. Colour follows the terminal and
``NO_COLOR``; in a pipe tables become aligned plain text and progress a line every ten seconds.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploycc.errors import DeployError, Note
from deploycc.progress import Say
from deploycc.report.table import Table, lay_out

_LINE_EVERY_S = 10.0  # in a pipe


_live: list[Any] = []
"""The console of the bar that is shown now: what it prints goes above the bar."""

options: dict[str, str] = {}
"""How the running command spells each parameter of the library: ``random_weights`` as ``--random-weights``."""


def out(text: str = "") -> None:
    """Print a line on stdout."""
    print(visible(text) if sys.stdout.isatty() else text)  # noqa: T201 - this module is where printing happens


def print_json(value: Any) -> None:
    """Print a JSON document on stdout."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    print("\n".join(_escaped(line, "\\u{:04x}") for line in text.split("\n")))  # noqa: T201


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> None:
    """Print a table on stdout, as wide as it is in a pipe and within the terminal's width on one."""
    cells = [[visible(str(cell)) for cell in row] for row in rows]
    heads = [visible(column) for column in columns]
    heading = visible(title or "")
    if not sys.stdout.isatty():
        laid_out = lay_out(heads, cells)
        for line in [*([heading] if heading else []), *laid_out.head, *laid_out.body]:
            print(line)  # noqa: T201
        return
    from rich.console import Console
    from rich.text import Text

    console = Console()
    laid_out = lay_out(heads, cells, console.width)
    above, below = textwrap.wrap(heading, console.width), "\n".join(laid_out.body)
    shown = [*map(Text, above), Text("\n".join(laid_out.head), "bold"), *([Text(below)] if below else [])]
    console.print(*shown, sep="\n", soft_wrap=True)


def tables(*several: Table) -> None:
    """Print tables on stdout, an empty line between two."""
    for number, each in enumerate(several):
        if number:
            out()
        table(each.columns, each.rows, each.title)


def show(as_json: bool, value: Any, *shown: Table, remarks: Iterable[str] = ()) -> None:
    """Print what a command gives back.

    Args:
        as_json: print JSON instead of tables.
        value: what the JSON holds.
        shown: the tables.
        remarks: sentences that explain the tables; they go to stderr.
    """
    if as_json:
        print_json(value)
        return
    tables(*shown)
    for sentence in remarks:
        note(sentence)


def say(title: str, lines: Sequence[str]) -> None:
    """Print a title and indented lines on stderr."""
    _print(title, "", "bold")
    for line in lines:
        _print("", f"  {line}", "", indent=4)


def note(text: str) -> None:
    """Say something on stderr."""
    _print("note: ", text, "cyan")


def notes(several: Iterable[Note]) -> None:
    """Say notes on stderr."""
    for each in several:
        note(f"{each.node}: {each.reason}" if each.node else each.reason)


def warn(text: str) -> None:
    """Say something on stderr that the user should act on."""
    _print("warning: ", text, "yellow")


def fail(error: DeployError) -> None:
    """Print a diagnosed error on stderr."""
    (head, message), *facts = error.lines()
    _print(f"{head}: ", message, "bold red", indent=4)
    for label, text in facts:
        _print(f"{label}: ", text, "")


def succeeded(folders: Sequence[Path], outcomes: Sequence[object]) -> Iterator[Path]:
    """Yield the folders whose outcome is not an error; where there are several, show the errors of the others."""
    for folder, outcome in zip(folders, outcomes, strict=True):
        if not isinstance(outcome, DeployError):
            yield folder
        elif len(folders) > 1:
            warn(f"{folder} failed")
            fail(outcome)


def wrote(*paths: Path | None, answer: bool = False) -> None:
    """Say on stderr what was written.

    Args:
        paths: files or folders; None is none.
        answer: the paths are what the command gives back: another program reads them on stdout. On a terminal they
            appear once.
    """
    for path in filter(None, paths):
        if answer and not sys.stdout.isatty():
            out(str(path))
        _print("wrote ", str(path), "green")


def visible(text: str) -> str:
    """Return a text that moves no cursor and starts no line: what is not printable is spelled as an escape."""
    return _escaped(text, "\\x{:02x}")


def spelled(text: str) -> str:
    """Return a text of the library with its parameters spelled as options of the running command.

    Parameters are quoted as `` `weights` `` or `` `threads=4` ``: they become ``--weights`` and ``--threads 4``.
    """

    def option(quoted: re.Match[str]) -> str:
        name, value = quoted.groups()
        if name not in options:
            return quoted[0]
        return options[name] if value in (None, "True") else f"{options[name]} {value}"

    return re.sub(r"`(\w+)(?:=([^`]*))?`", option, text)


@contextmanager
def progress(what: str) -> Iterator[Say]:
    """Show what a command is doing, on stderr, while the block lasts.

    On a terminal: a spinner with a changing line and the time that the step takes, or a bar with count and time left
    where it counts. In a pipe: a plain line every ten seconds, if the step has changed since the last one.
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

        class Clock(TimeRemainingColumn):
            max_refresh = 0.0  # otherwise a step that does not count would show the last one's time

            def render(self, task: Task) -> Text:
                return super().render(task) if task.total else Text(f"{task.elapsed or 0:.0f} s")

        self._what = what
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            Bar(bar_width=20),
            TextColumn("{task.fields[count]}", markup=False, table_column=Column(no_wrap=True)),
            Clock(compact=True),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # it would print on stderr what a pipe reads
        )
        self._task = self._bars.add_task(what, total=None, count="")

    def __enter__(self) -> None:
        _live.append(self._bars.console)
        self._bars.start()

    def __exit__(self, *error: object) -> None:
        self._bars.stop()
        _live.pop()

    def __call__(self, what: str, done: int = 0, total: int = 0) -> None:
        """Show a step; its time is counted from where the step, its count or its total last started anew."""
        task = self._bars.tasks[self._task]
        line = f"{self._what}: {visible(what)}"
        count = f"{done}/{total}" if total else ""
        counts_on = total == (task.total or 0) and done >= task.completed and (total or line == task.description)
        if not counts_on:
            task.total = total or None  # `reset` keeps a total where it is given None
            self._bars.reset(self._task, completed=done, description=line, count=count)
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
        self._line = f"{self._what}: {visible(what)} {done}/{total}" if total else f"{self._what}: {visible(what)}"

    def _show(self) -> None:
        while not self._ended.wait(_LINE_EVERY_S):
            if self._line != self._shown:
                self._shown = self._line
                print(self._shown, file=sys.stderr, flush=True)  # noqa: T201


def _print(label: str, text: str, style: str, indent: int | None = None) -> None:
    """Print a paragraph on stderr; on a terminal it is wrapped, and lines after the first are indented."""
    text = spelled(visible(text))
    if not sys.stderr.isatty():
        print(f"{label}{text}", file=sys.stderr)  # noqa: T201
        return
    from rich.console import Console
    from rich.text import Text

    console = _live[-1] if _live else Console(stderr=True)
    lines = textwrap.wrap(
        f"{label}{text}",
        console.width,
        subsequent_indent=" " * (len(label) if indent is None else indent),
        break_long_words=False,
        break_on_hyphens=False,
    )
    shown = Text("\n".join(lines))
    shown.stylize(style, 0, len(label.rstrip()))
    console.print(shown, soft_wrap=True)


def _escaped(text: str, form: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or unicodedata.category(each) == "Zs" else form.format(ord(each)) for each in text
    )
