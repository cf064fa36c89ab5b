"""What a shell offers when the user presses Tab."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_NETWORKS = (".onnx", ".prototxt", ".caffemodel")


def target(incomplete: str) -> list[str]:
    """Names of shipped targets, and target files."""
    from deploycc.target import names

    return [*(name for name in names() if name.startswith(incomplete)), *_paths(incomplete, (".toml",))]


def model(incomplete: str) -> list[str]:
    """Names of shipped detectors, and networks."""
    from deploycc.models import names

    return [*(name for name in names() if name.startswith(incomplete)), *_paths(incomplete, _NETWORKS)]


def _paths(incomplete: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Folders and files of a kind that an unfinished path may become."""
    folder, _, start = incomplete.rpartition("/")
    base = f"{folder}/" if "/" in incomplete else ""
    try:
        found = sorted(Path(base or ".").expanduser().iterdir())
    except OSError:
        return
    for path in found:
        if path.name.startswith(start) and (path.is_dir() or path.suffix in suffixes):
            yield f"{base}{path.name}{'/' if path.is_dir() else ''}"
