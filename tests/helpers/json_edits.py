"""Changing a JSON file that a test wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deploycc.documents.seal import FIELD, content_digest


def edit(folder: Path, name: str, change: Any) -> None:
    """Let ``change`` alter the file's value in place; a digest of its content is computed anew."""
    value = json.loads((folder / name).read_text())
    change(value)
    if FIELD in value:
        value[FIELD] = content_digest(value)
    (folder / name).write_text(json.dumps(value))
