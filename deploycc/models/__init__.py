"""Detectors that ship with the package; `resolve` finds one by name."""

from __future__ import annotations

import difflib
from pathlib import Path

from deploycc.errors import ModelError

_FOLDER = Path(__file__).parent
_SUFFIXES = (".onnx", ".prototxt")


def names() -> list[str]:
    """Return the names of the shipped detectors."""
    return sorted(path.stem for path in _FOLDER.iterdir() if path.suffix in _SUFFIXES)


def resolve(model: str) -> Path:
    """Return the file of a shipped detector, or ``model`` itself as a path.

    A name with a suffix or a separator is always a path, and so is a file that exists.

    Raises:
        ModelError: ``unknown-model``: ``model`` is neither a file nor a shipped detector.
    """
    path = Path(model)
    if path.suffix or path.parent != Path() or path.exists():
        return path
    for suffix in _SUFFIXES:
        shipped = _FOLDER / f"{model}{suffix}"
        if shipped.exists():
            return shipped
    close = difflib.get_close_matches(model, names(), n=1)
    raise ModelError(
        "unknown-model",
        f"'{model}' is neither a file nor a shipped detector",
        context={"shipped": ", ".join(names()) or "none"},
        hint=f"did you mean {close[0]}?" if close else "give a path that ends in .prototxt, .caffemodel or .onnx",
    )
