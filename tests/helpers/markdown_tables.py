"""Tables of the project's Markdown documents, for the tests that hold them true."""

from __future__ import annotations

import re


def table(text: str, heading: str) -> list[list[str]]:
    """Return the rows of the first table below a heading, without the title row; each cell as it is written."""
    lines = iter(text[text.index(f"{heading}\n") :].splitlines())
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif rows:
            break
    assert len(rows) > 2, f"there is no table below {heading!r}"
    assert len({len(row) for row in rows}) == 1, f"rows below {heading!r} have different numbers of cells"
    return rows[2:]


def code(cell: str) -> list[str]:
    """What stands in backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)
