"""Many renames inside a folder that happen all or not at all, also where the process is killed between two of them.

Work is done in a hidden folder inside the one that it is for, so that both are on one file system and the folder itself
is never renamed: it may be a mount point, or somebody's current folder. ``.deploycc-XXXXXXXX`` holds

    lock            held by the process that works there, so that nobody else clears it away
    new/            files as they will be called
    old/            files that are replaced
    scratch/        whatever the work needs
    journal.json    the renames, from the moment on at which they are carried out to the end

Before there is a journal, the folder is as it was; from then on, whoever opens it carries out what is left. New files
are on the disk before the journal, and the journal before the first rename, so that this also holds after a power cut.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploycc.documents.document import read_document, this_tool
from deploycc.documents.folder import FolderJournal, Move

PREFIX = ".deploycc-"
NEW, OLD, SCRATCH, _LOCK = "new", "old", "scratch", "lock"
_CONTENT = frozenset({NEW, OLD, SCRATCH, _LOCK, FolderJournal.FILE_NAME})


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """Yield a work folder inside ``folder`` with an empty ``new``; it is removed when the block ends.

    Raises:
        OSError: it cannot be made.
    """
    with _locked(folder):  # a neighbour that clears up must not see it before its lock is held
        work = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
        lock = os.open(work / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        (work / NEW).mkdir()
        yield work
    finally:
        if not (work / FolderJournal.FILE_NAME).exists():  # else an undo was cut short: `recover` completes it
            shutil.rmtree(work, ignore_errors=True)
        os.close(lock)


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Let one process at a time decide about a folder's files and rename them."""
    with _locked(folder):
        yield


def carry_out(folder: Path, work: Path, moves: Sequence[Move]) -> None:
    """Rename files; where that fails or is interrupted, everything is as before.

    Args:
        folder: that the names are in.
        work: its work folder, of this process.
        moves: in order.

    Raises:
        OSError: a file cannot be renamed.
    """
    journal = work / FolderJournal.FILE_NAME
    done: list[Move] = []
    try:
        _to_disk(*(path for path in sorted((work / NEW).rglob("*"))), work / NEW)
        FolderJournal(tool=this_tool(), moves=tuple(moves)).write(journal)
        _to_disk(journal, work, folder)
        for move in moves:
            done.append(move)  # before: a signal may come between the rename and the next line
            _rename(folder, move.source, move.to)
    except BaseException:
        for move in reversed(done):
            _rename(folder, move.to, move.source)
            _remove_empty(folder, folder / move.to)
        journal.unlink(missing_ok=True)
        raise
    _to_disk(*{(folder / move.to).parent for move in moves})
    journal.unlink()


def recover(folder: Path) -> None:
    """Complete the changes of processes that died, and remove what they left.

    Does nothing in a folder without such, and nothing about processes that are at work.

    Raises:
        ArtefactError: a journal is not one that the tool wrote.
        OSError: the folder cannot be changed.
    """
    if not _works(folder):
        return
    with _locked(folder):  # a process that renames now is waited for
        for work in _works(folder):
            if _is_live(work):
                continue
            journal = work / FolderJournal.FILE_NAME
            if journal.exists():
                for move in read_document(journal, FolderJournal).moves:
                    is_new = move.source.startswith(f"{work.name}/{NEW}/")
                    if is_new and all(os.path.lexists(folder / name) for name in (move.source, move.to)):
                        _rename(folder, move.to, free_name(folder, move.to))  # somebody wrote it since
                    _rename(folder, move.source, move.to)
                journal.unlink()
            shutil.rmtree(work, ignore_errors=True)  # who may only read the folder leaves it


def is_leftover(path: Path) -> bool:
    """Return whether a path is a work folder."""
    if not path.name.startswith(PREFIX) or path.is_symlink() or not path.is_dir():
        return False
    try:
        names = {content.name for content in path.iterdir()}
    except PermissionError:  # another user's
        return False
    return {name for name in names if not name.startswith(f".{FolderJournal.FILE_NAME}.")} <= _CONTENT


def free_name(folder: Path, name: str) -> str:
    """Return a name beside a file's own under which it can be kept: ``NAME.kept``, ``NAME.kept-2``, ..."""
    number = 1
    while os.path.lexists(folder / (kept := f"{name}.kept" if number == 1 else f"{name}.kept-{number}")):
        number += 1
    return kept


def _works(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"{PREFIX}*") if is_leftover(path))


def _rename(folder: Path, source: str, to: str) -> None:
    """Rename a file unless that is done already; the names lead nowhere else."""
    before, after = folder / source, folder / to
    for path in (before, after):
        if not path.parent.resolve().is_relative_to(folder.resolve()):
            raise OSError(None, "leads out of the folder", str(path))
    if not os.path.lexists(before) or os.path.lexists(after):
        return
    after.parent.mkdir(parents=True, exist_ok=True)
    before.rename(after)


def _to_disk(*paths: Path) -> None:
    """Wait until files, and the names in folders, are on the disk, where the file system can say so."""
    for path in paths:
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _remove_empty(folder: Path, file: Path) -> None:
    """Remove the folders that a rename made and its undoing left empty."""
    for parent in file.parents:
        if parent == folder or parent.name.startswith(PREFIX):
            return
        with contextlib.suppress(OSError):
            parent.rmdir()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_live(work: Path) -> bool:
    """Return whether a process works there."""
    try:
        handle = os.open(work / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # killed before it had one
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or this file system cannot say
        return True
    finally:
        os.close(handle)
    return False
