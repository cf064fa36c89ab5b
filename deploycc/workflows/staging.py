"""Output folders that change whole or not at all, and whose other files are left alone.

A folder belongs to the tool as far as its manifest lists its files. Everything else in it is somebody else's: it stays,
and where a new file needs its name, it is kept under another one. Results that came from a board go to ``runs/``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from deploycc.documents.document import read_document
from deploycc.documents.folder import FolderManifest, Move, manifest_of
from deploycc.errors import ArtefactError
from deploycc.files import sha256_of
from deploycc.workflows.folder_journal import (
    NEW,
    OLD,
    SCRATCH,
    carry_out,
    changing,
    free_name,
    is_leftover,
    recover,
    work_folder,
)
from deploycc.workflows.results import RUNS, foreign_results

MANIFEST = FolderManifest.FILE_NAME
_OF_THE_SYSTEM = frozenset({"lost+found"})  # in a volume that is mounted there
_NAMES = (
    *(
        "network.onnx",
        "network-*",
        "engine-*",
        "agent.pyz",
        "report.md",
        "report.html",
        "gates.html",
        "prediction.html",
        "priors*",
        "variances*",
        "kept_priors*",
        "decoder*",
        "smoke-*",
    ),
    *(
        "compile.json",
        "contract.json",
        "plan.json",
        "build.json",
        "latency.json",
        "gates.json",
        "prediction.json",
        MANIFEST,
    ),
)
"""What commands write into output folders, but for documents that they copy as they are."""


def check_output_folder(final: Path, inputs: Iterable[Path | str] = ()) -> None:
    """Refuse a folder that `staged_folder` could not write: at once, not after minutes.

    Args:
        final: the folder.
        inputs: files that the command reads and whose names it may write.

    Raises:
        ArtefactError: as `staged_folder`; ``output-is-the-input``.
    """
    final = _resolved(final)
    with _opened(final) as work:
        _check_inputs(final, inputs)
        (work / NEW / "probe").touch()


@contextmanager
def staged_folder(
    final: Path, inputs: Iterable[Path | str] = (), on_kept: Callable[[str], None] = lambda sentence: None
) -> Iterator[Path]:
    """Yield an empty folder whose files become the content of ``final`` when the block ends without an exception.

    Files of an earlier output that are as they were written are replaced or removed, others are kept.

    Args:
        final: made where it does not exist.
        inputs: files that the command reads: they stay.
        on_kept: told of each file of somebody else's that is kept under another name.

    Raises:
        ArtefactError: ``final`` is a file, or a folder with content that deploycc did not write; or it cannot be
            written.
    """
    final = _resolved(final)
    with _opened(final) as work:
        yield work / NEW
        _commit(final, work, {Path(path).resolve() for path in inputs}, on_kept)


@dataclass(frozen=True)
class Revision:
    """A change to an output folder that is being prepared.

    Attributes:
        new: files that the folder is to hold; those under ``runs/`` become nobody's.
        scratch: empty, on the same file system, for whatever the work needs.
        aside: new names of files of the folder that are to be kept under ``runs/``.
        foreign: names of new files that are not this machine's: a later compilation keeps them under ``runs/``.
    """

    new: Path
    scratch: Path
    aside: dict[str, str] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)


@contextmanager
def revised_folder(folder: Path, on_kept: Callable[[str], None] = lambda sentence: None) -> Iterator[Revision]:
    """Yield a change to an output folder, which is made when the block ends without an exception.

    Args:
        folder: an output folder. Its other files stay.
        on_kept: told of each file of somebody else's that is kept under another name.

    Raises:
        ArtefactError: as `staged_folder`.
    """
    folder = _resolved(folder)
    with _opened(folder, whole=False) as work:
        (work / SCRATCH).mkdir()
        revision = Revision(work / NEW, work / SCRATCH)
        yield revision
        _commit(folder, work, set(), on_kept, revision)


def make_folder(folder: Path) -> None:
    """Make a folder whose files are written one by one, where it is not there yet.

    Raises:
        ArtefactError: ``output-unwritable``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtefactError(
            "output-unwritable", "the output folder cannot be made", context={"folder": folder}, note=error.strerror
        ) from None


def _resolved(final: Path) -> Path:
    """Follow symbolic links, and ``..`` as the system does."""
    try:
        return final.resolve()
    except (OSError, RuntimeError) as error:
        raise _unwritable(final, error) from None


@contextmanager
def _opened(final: Path, *, whole: bool = True) -> Iterator[Path]:
    """Yield a work folder in an output folder that was checked; folders that were made go where nothing came in."""
    if os.path.lexists(final) and not final.is_dir():
        raise ArtefactError("output-is-a-file", "the output folder is a file", context={"path": final})
    made = [folder for folder in (final, *final.parents) if not os.path.exists(folder)]  # noqa: PTH110 - asks no permission
    try:
        with contextlib.ExitStack() as stack:
            try:
                final.mkdir(parents=True, exist_ok=True)
                recover(final)
                if whole:
                    _check_ours(final)
                work = stack.enter_context(work_folder(final))
            except OSError as error:
                raise _unwritable(final, error) from None
            yield work
    finally:
        with contextlib.suppress(OSError):  # not empty: it was written
            for folder in made:
                folder.rmdir()


def _unwritable(final: Path, error: Exception) -> ArtefactError:
    return ArtefactError(
        "output-unwritable",
        "the output folder cannot be written",
        context={"path": final},
        note=getattr(error, "strerror", None) or str(error),
        hint="choose another folder with `output`",
    )


def _check_ours(final: Path) -> None:
    if (final / MANIFEST).exists():
        read_document(final / MANIFEST, FolderManifest)
    elif any(path.name not in _OF_THE_SYSTEM and not is_leftover(path) for path in final.iterdir()):
        raise ArtefactError(
            "output-not-empty",
            "the output folder holds files that deploycc did not write",
            context={"path": final},
            note=f"there is no {MANIFEST}, which lists the files of an output folder",
            hint="choose another folder with `output`, or empty this one",
        )


def _check_inputs(final: Path, inputs: Iterable[Path | str]) -> None:
    for path in inputs:
        file = Path(path).resolve()
        if file.parent == final and any(fnmatchcase(file.name, name) for name in _NAMES):
            raise ArtefactError(
                "output-is-the-input",
                f"{file.name} is read by this command, which may write a file of that name",
                context={"path": file},
                hint="choose another folder with `output`",
            )


def _commit(
    final: Path,
    work: Path,
    inputs: Collection[Path],
    on_kept: Callable[[str], None],
    revision: Revision | None = None,
) -> None:
    """Give the files of the work folder to ``final``: as its whole content, or as a change to it."""
    staged, whole = work / NEW, revision is None
    try:
        with changing(final):
            listed = _listed(final)
            if revision is None:
                moves = foreign_results(final, lambda name: _is_as_listed(final, name, listed))
            else:
                moves = dict(revision.aside)
            kept = [f"{name} came from elsewhere: it is kept as {to}" for name, to in moves.items() if whole]
            written = _digests(staged)
            others = set()
            for name in sorted({*written} | (set(listed) if whole else set())):
                path = final / name
                if name in moves or not os.path.lexists(path):
                    continue
                if _is_as_listed(final, name, listed) and path.resolve() not in inputs:
                    moves[name] = f"{work.name}/{OLD}/{name}"
                elif name in written and path.is_file() and sha256_of(path) == written[name][0]:
                    others.add(name)
                elif name in written:
                    moves[name] = free_name(final, name)
                    kept.append(f"{name} is not as deploycc wrote it: it is kept as {moves[name]}")
            before = {} if whole else {name: facts for name, facts in listed.items() if name not in moves}
            now = {name: facts for name, facts in written.items() if name not in others}
            foreign = set() if revision is None else revision.foreign
            ours = {name: facts for name, facts in {**before, **now}.items() if name not in foreign}
            ours = {name: facts for name, facts in ours.items() if not name.startswith(f"{RUNS}/")}
            manifest_of(ours).write(staged / MANIFEST)
            if (final / MANIFEST).exists():
                moves[MANIFEST] = f"{work.name}/{OLD}/{MANIFEST}"
            renames = [Move(source=name, to=to) for name, to in moves.items()]
            renames += [Move(source=f"{work.name}/{NEW}/{name}", to=name) for name in (*now, MANIFEST)]
            carry_out(final, work, renames)
    except OSError as error:
        raise _unwritable(final, error) from None
    for sentence in kept:
        on_kept(sentence)


def _digests(folder: Path) -> dict[str, tuple[str, int]]:
    """Return the SHA-256 and the size of each file of a folder and of those in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (sha256_of(path), path.stat().st_size) for path in files}


def _listed(folder: Path) -> dict[str, tuple[str, int]]:
    """Return the SHA-256 and the size of each file that the manifest lists."""
    if not (folder / MANIFEST).exists():
        return {}
    manifest = read_document(folder / MANIFEST, FolderManifest)
    return {file.name: (file.sha256, file.size_bytes) for file in manifest.files}


def _is_as_listed(folder: Path, name: str, listed: dict[str, tuple[str, int]]) -> bool:
    """Return whether a file is there as the tool wrote it."""
    path = folder / name
    if name not in listed or path.is_symlink() or not path.is_file():
        return False
    return path.stat().st_size == listed[name][1] and sha256_of(path) == listed[name][0]
