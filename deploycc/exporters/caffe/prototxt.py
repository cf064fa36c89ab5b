"""Writing ``.prototxt``: protobuf text format from plain dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Enum(str):
    """A value that is written without quotes."""

    __slots__ = ()


def to_prototxt(message: Mapping[str, Any], indent: int = 0) -> str:
    """Return the text of a message; a list repeats its field, a mapping is a nested message."""
    lines = []
    pad = "  " * indent
    for key, value in message.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                lines.append(f"{pad}{key} {{\n{to_prototxt(item, indent + 1)}{pad}}}\n")
            else:
                lines.append(f"{pad}{key}: {_scalar(item)}\n")
    return "".join(lines)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, float):
        return f"{value:.9g}"  # nine digits hold every float32
    return str(value)
