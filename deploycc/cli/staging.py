"""Output folders that appear whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploycc.errors import ArtefactError

MARK = "compile.json"  # a folder that holds it was made by `deploycc compile` and may be replaced


@contextmanager
def staged_folder(final: Path) -> Iterator[Path]:
    """Yield a folder beside ``final`` that takes its place when the block ends without an exception.

    Raises:
        ArtefactError: ``final`` is a file, or a folder with content that `deploycc compile` did not write.
    """
    if final.exists() and not final.is_dir():
        raise ArtefactError("output-is-a-file", "the output folder is a file", context={"path": final})
    if final.is_dir() and any(final.iterdir()) and not (final / MARK).exists():
        raise ArtefactError(
            "output-not-empty",
            "the output folder holds files that deploycc did not write",
            context={"path": final},
            hint="choose another folder with -o, or empty this one",
        )
    parent = final.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{final.name}.partial-", dir=parent))
    try:
        partial.chmod(0o755)
        yield partial
        old = None
        if final.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{final.name}.old-", dir=parent)) / "folder"
            final.rename(old)
        partial.rename(final)
        if old is not None:
            shutil.rmtree(old.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
