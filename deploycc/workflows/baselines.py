"""A store of measurements by commit, so that a change is compared with what the code before it did.

The store is a folder, which CI keeps between runs. ``STORE/<commit>/<folder>/`` holds the documents of a folder;
networks and engines stay where they are, because reports compare documents.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploycc.documents.build import BuildResult
from deploycc.documents.compile import CompileReport
from deploycc.documents.latency import LatencyReport
from deploycc.documents.plan import BuildPlan
from deploycc.errors import ArtefactError, InputError
from deploycc.workflows.report import output_folders_in, read_results

_DOCUMENTS = (BuildPlan, CompileReport, BuildResult, LatencyReport)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def keep_baseline(store: Path, folders: Sequence[Path], commit: str | None = None) -> list[Path]:
    """Put the documents of output folders into a store; those of the same commit and folder are replaced.

    Args:
        store: the folder, which is made where there is none.
        folders: output folders, or folders that hold several.
        commit: in 40 hexadecimal digits; None: the one that is checked out here.

    Returns:
        The folders in the store.

    Raises:
        ArtefactError: a folder holds no document, or its files do not belong together.
        InputError: there is no such commit here.
    """
    place = store / (commit_of("HEAD") if commit is None else commit_of(commit))
    found = [(name, folder) for path in folders for name, folder in output_folders_in(path).items()]
    for _, folder in found:
        if read_results(folder) == (None, None):
            raise ArtefactError("artefact-missing", f"there is nothing to keep in {folder}")
    kept = []
    place.mkdir(parents=True, exist_ok=True)
    for name, folder in found:
        with tempfile.TemporaryDirectory(dir=place, prefix=".new-") as work:
            new = Path(work, "new")
            new.mkdir()
            for kind in _DOCUMENTS:
                if (folder / kind.FILE_NAME).is_file():
                    shutil.copyfile(folder / kind.FILE_NAME, new / kind.FILE_NAME)
            if (place / name).exists():
                (place / name).rename(Path(work, "old"))
            new.rename(place / name)
        kept.append(place / name)
    return kept


def find_baseline(store: Path, candidate: Path, commit: str | None = None) -> Path:
    """Return what a store holds for a candidate: of the nearest commit before this one that was kept.

    Args:
        store: the folder.
        candidate: an output folder, or one that holds several; the baseline has the same.
        commit: compare with exactly this one; None: go back from the commit that is checked out here, without it.

    Raises:
        ArtefactError: ``baseline-missing``.
        InputError: there is no such commit here.
    """
    names = list(output_folders_in(candidate))
    whole = names != [candidate.resolve().name]
    wanted = _ancestors() if commit is None else [commit_of(commit)]
    for each in wanted:
        place = store / each
        if all((place / name).is_dir() for name in names):
            return place if whole else place / names[0]
    raise ArtefactError(
        "baseline-missing",
        "the store holds no measurement of an earlier commit for this folder",
        context={"store": store, "folders": ", ".join(names)},
        note=f"{len(wanted)} commits were looked for; a shallow clone has few",
        hint="keep one on the main branch with `deploycc report baseline`; fetch the whole history in CI",
    )


def commit_of(name: str) -> str:
    """Return the digest of a commit.

    Raises:
        InputError: ``no-commit``: this is not a repository of git, or it has no such commit.
    """
    if _COMMIT.fullmatch(name):
        return name
    return _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")[0]


def _ancestors() -> list[str]:
    return _git("rev-list", "HEAD")[1:]


def _git(*arguments: str) -> list[str]:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        raise InputError(
            "no-commit",
            "git does not tell which commit this is",
            note=said or None,
            hint="run this in a clone of the repository, or name the commit in 40 digits with `commit`",
        ) from error
    return done.stdout.split()
