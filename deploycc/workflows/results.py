"""Results of builds and measurements in an output folder, and ``runs/``, where those go that are no longer current.

Results are ``build.json`` with the engines that it names, and ``latency.json``. A folder under ``runs/`` holds results
as they were, beside the documents that they refer to, and `deploycc report` reads it as any other folder.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from deploycc.documents.build import BuildResult
from deploycc.documents.compile import CompileReport
from deploycc.documents.document import D, read_document
from deploycc.documents.latency import LatencyReport
from deploycc.documents.plan import BuildPlan
from deploycc.errors import ArtefactError

RUNS = "runs"
DOCUMENTS = (BuildResult.FILE_NAME, LatencyReport.FILE_NAME)
REFERRED_TO = (BuildPlan.FILE_NAME, CompileReport.FILE_NAME)
"""Documents that results refer to and that a later compilation replaces."""


def result_files(folder: Path) -> tuple[str, ...]:
    """Return the names of the results that a folder holds: documents, then engines."""
    planned = readable(folder, BuildPlan), readable(folder, BuildResult)
    engines = [engine for document in planned if document is not None for engine in document.engines]
    files = {name for engine in engines for name in engine.files}
    return tuple(name for name in (*DOCUMENTS, *sorted(files)) if os.path.lexists(folder / name))


def foreign_results(folder: Path, is_ours: Callable[[str], bool]) -> dict[str, str]:
    """Return where the results in a folder go that somebody else put there, by name; a board, mostly.

    They go together with those that the tool wrote: a latency belongs to its engines. So do the documents that they
    refer to.

    Args:
        folder: an output folder that is about to be written again.
        is_ours: whether the tool wrote this file as it is.
    """
    results = result_files(folder)
    if all(map(is_ours, results)):
        return {}
    run = run_folder(folder, results)
    return {name: f"{run}/{name}" for name in (*results, *REFERRED_TO) if os.path.lexists(folder / name)}


def run_folder(folder: Path, results: Iterable[str]) -> str:
    """Return a name under ``runs/`` that is free, made of when the results were written and on what."""
    newest = max((folder / name).lstat().st_mtime for name in results)
    base = f"{RUNS}/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(newest))}-{_device(folder)}"
    name, number = base, 1
    while os.path.lexists(folder / name):
        number += 1
        name = f"{base}-{number}"
    return name


def _device(folder: Path) -> str:
    latency, build = readable(folder, LatencyReport), readable(folder, BuildResult)
    results = latency or build
    device = results and (results.environment.get("board_model") or results.target)
    return re.sub(r"[^a-z0-9]+", "-", str(device or "unknown").lower()).strip("-")[:60] or "unknown"


def readable(folder: Path, kind: type[D]) -> D | None:
    """Return the document of this kind in a folder; None where there is none that can be read."""
    try:
        return read_document(folder / kind.FILE_NAME, kind)
    except ArtefactError:
        return None
