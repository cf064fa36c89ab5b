"""Output folders that appear whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploycc.errors import ArtefactError

MARKS = ("compile.json", "gates.json")  # a folder that holds one was made by a command of this tool and may be replaced


def check_output_folder(final: Path) -> None:
    """Refuse a folder that `staged_folder` could not write: at once, not after minutes.

    Raises:
        ArtefactError: as `staged_folder`.
    """
    _check_replaceable(final)
    _make_partial(final.absolute()).rmdir()


@contextmanager
def staged_folder(final: Path) -> Iterator[Path]:
    """Yield a folder beside ``final`` that takes its place when the block ends without an exception.

    Raises:
        ArtefactError: ``final`` is a file, or a folder with content that deploycc did not write, or the
            current folder; or nothing can be made beside it.
    """
    _check_replaceable(final)
    final = final.absolute()  # "." has no name of its own
    partial = _make_partial(final)
    try:
        partial.chmod(0o755)
        yield partial
        _replace(final, partial)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_replaceable(final: Path) -> None:
    if final.exists() and not final.is_dir():
        raise ArtefactError("output-is-a-file", "the output folder is a file", context={"path": final})
    if final.is_dir() and any(final.iterdir()) and not any((final / mark).exists() for mark in MARKS):
        raise ArtefactError(
            "output-not-empty",
            "the output folder holds files that deploycc did not write",
            context={"path": final},
            hint="choose another folder with `output`, or empty this one",
        )
    final = final.absolute()
    if final == Path.cwd():
        raise ArtefactError(
            "output-is-here",
            "the output folder is the current one, which cannot be replaced from inside",
            context={"path": final},
            hint="name a folder in it: `output=out`",
        )


def require_folder(path: Path | None) -> None:
    """Refuse a file that cannot be written because its folder does not exist: at once, not after minutes.

    Raises:
        ArtefactError: ``file-unwritable``.
    """
    if path is not None and not path.parent.is_dir():
        fact = "its folder does not exist"
        raise ArtefactError("file-unwritable", f"{path.name} cannot be written", context={"file": path}, note=fact)


def _make_partial(final: Path) -> Path:
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{final.name}.partial-", dir=final.parent))
    except OSError as error:
        raise ArtefactError(
            "output-unwritable",
            "the output folder cannot be made",
            context={"path": final},
            note=error.strerror or str(error),
            hint="choose another folder with `output`",
        ) from None


def _replace(final: Path, partial: Path) -> None:
    """Rename ``partial`` to ``final``; what stood there comes back if that is interrupted."""
    if not final.exists():
        partial.rename(final)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{final.name}.old-", dir=final.parent))
    old = aside / "folder"
    try:
        final.rename(old)
        partial.rename(final)
    except BaseException:
        if old.exists() and not final.exists():
            old.rename(final)
        raise
    finally:
        if final.exists():
            shutil.rmtree(aside, ignore_errors=True)
