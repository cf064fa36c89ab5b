"""Changing a JSON file that a test wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def edit(folder: Path, name: str, change: Any) -> None:
    """Let ``change`` alter the file's value in place."""
    value = json.loads((folder / name).read_text())
    change(value)
    (folder / name).write_text(json.dumps(value))
