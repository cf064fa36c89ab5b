"""Networks of several targets made at once, by the workers of an executor, which may be other machines.

What a worker writes comes back as bytes, and this process puts it into the output folder: the folder is the same as
after one process, and is changed by one process.
"""

from __future__ import annotations

import contextlib
import pickle
import shutil
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from deploycc.agent_host.temporary import temporary_folder
from deploycc.errors import DeployError
from deploycc.files import write_text
from deploycc.progress import Say, quiet
from deploycc.system_errors import diagnose

if TYPE_CHECKING:
    from deploycc.workflows.compile_networks import Compilation

_NETWORKS, _DUMPED = "networks", "dumped"


class Write(Protocol):
    """Puts the networks of one target, and what describes them, into an empty folder."""

    def __call__(self, folder: Path, *, say: Say) -> None:
        """Write; see `deploycc.workflows.compile_networks.Compilation.write`."""


@dataclass(frozen=True)
class Made:
    """What became of a compilation in a worker.

    Attributes:
        files: their content by path, below ``networks`` and ``dumped``.
        refused: why the detector cannot be compiled for the target.
        failed: what ends all compilations: the worker's disk is full, or a fault of the compiler.
    """

    files: Mapping[str, bytes]
    refused: DeployError | None
    failed: Exception | None


@contextmanager
def written_by_workers(compilations: Sequence[Compilation], executor: Executor, say: Say) -> Iterator[list[Write]]:
    """Let workers make the networks of all targets; yield what puts each into its output folder.

    Args:
        compilations: one per target.
        executor: its workers read the detector's files, and pictures, under the same paths.
        say: progress.
    """
    with temporary_folder() as spool:
        futures: dict[Future[Made], int] = {}
        outcomes: list[DeployError | None] = [None] * len(compilations)
        try:
            for number, compilation in enumerate(compilations):
                try:
                    futures[executor.submit(make, pickle.dumps(compilation))] = number
                except RuntimeError as error:  # no worker is left
                    outcomes[number] = _lost(compilation, error)
            say("compiling for targets", 0, len(compilations))
            for done, future in enumerate(as_completed(futures), 1):
                number = futures[future]
                outcomes[number] = _spooled(compilations[number], future, spool / str(number))
                say("compiling for targets", done, len(compilations))
        finally:
            for future in futures:
                future.cancel()
        yield [
            partial(_unspool, outcome, spool / str(number), compilations[number].settings.dump_to)
            for number, outcome in enumerate(outcomes)
        ]


def make(pickled: bytes) -> Made:
    """Return what a compilation writes before engines are built; what a worker does.

    Args:
        pickled: the compilation, as bytes: a scheduler that looks into what it is given, as Dask's does, would ask
            graphs for attributes, and graphsurgeon prints an error for each that it does not know.
    """
    compilation: Compilation = pickle.loads(pickled)
    refused, failed = None, None
    with temporary_folder() as folder:
        (folder / _NETWORKS).mkdir()
        try:
            _write(compilation, folder)
        except DeployError as error:
            refused = error
        except Exception as error:  # as a value, so that what the executor raises is about workers
            failed = diagnose(error) or RuntimeError(f"in a process that compiled:\n{traceback.format_exc()}")
        paths = [path for part in (_NETWORKS, _DUMPED) for path in sorted((folder / part).rglob("*"))]
        files = {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}
        return Made(files, refused, failed)


def _write(compilation: Compilation, folder: Path) -> None:
    from deploycc.workflows.verify import Verifier

    settings = compilation.settings
    verifier = Verifier() if settings.verify else None
    if verifier is not None and compilation.start.own_weights:
        verifier.compare_with_itself(compilation.start.detector)
    dump_to = None if settings.dump_to is None else folder / _DUMPED
    compilation = replace(compilation, settings=replace(settings, dump_to=dump_to))
    compilation.write(folder / _NETWORKS, verifier, quiet)


def _spooled(compilation: Compilation, future: Future[Made], folder: Path) -> DeployError | None:
    """Keep what a worker made in a folder; return why the target is refused."""
    try:
        made = future.result()
    except Exception as error:
        return _lost(compilation, error)
    if made.failed is not None:
        raise made.failed
    for name, content in made.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return made.refused


def _lost(compilation: Compilation, error: Exception) -> DeployError:
    return DeployError(
        "compile-worker-lost",
        f"the process that compiled for {compilation.target.name} has ended without a word",
        note=str(error) or type(error).__name__,
        hint="where memory ran out, use fewer of them: `jobs=1`",
    )


def _unspool(refused: DeployError | None, spooled: Path, dump_to: Path | None, folder: Path, *, say: Say) -> None:
    """Put what a worker made where it belongs; see `Write`."""
    for file in sorted((spooled / _DUMPED).rglob("*.txt")):
        assert dump_to is not None
        dumped = dump_to / file.relative_to(spooled / _DUMPED)
        with contextlib.suppress(OSError):  # writing the file reports why
            dumped.parent.mkdir(parents=True, exist_ok=True)
        write_text(dumped, file.read_text(encoding="utf-8"))
    if refused is not None:
        raise refused
    shutil.copytree(spooled / _NETWORKS, folder, dirs_exist_ok=True)
