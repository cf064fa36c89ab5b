"""What an output folder of `deploycc compile` holds, whole or in part.

``compile.json`` says what was built when it was written. Where ``build.json`` is beside it, that is what is built now:
on a board, maybe, which does not write ``compile.json``.
"""

from __future__ import annotations

from pathlib import Path

from deploycc.documents.build import BuildResult, BuiltEngine
from deploycc.documents.compile import CompileReport, read_compile_report
from deploycc.documents.document import D, read_document
from deploycc.documents.latency import LatencyReport, read_latency_report
from deploycc.errors import ArtefactError

_BENCH = "python3 agent.pyz bench plan.json --out latency.json"
ON_BOARD = f"python3 agent.pyz build plan.json --out build.json; {_BENCH}"


def read_documents(path: Path) -> tuple[CompileReport | None, LatencyReport | None]:
    """Read ``compile.json`` and ``latency.json`` of a folder, or the one of them that a path names.

    The engines of ``compile.json`` are those of ``build.json`` where that is there.

    Raises:
        ArtefactError: neither is there, or one cannot be used.
    """
    if not path.is_dir():
        if path.name == CompileReport.FILE_NAME:
            build, latency = read_if_there(path.parent, BuildResult), read_if_there(path.parent, LatencyReport)
            return with_results(read_compile_report(path), build, latency), None
        return None, read_latency_report(path)
    compiled, latency = read_if_there(path, CompileReport), read_if_there(path, LatencyReport)
    if compiled is None and latency is None:
        raise ArtefactError(
            "artefact-missing",
            f"there is neither {CompileReport.FILE_NAME} nor {LatencyReport.FILE_NAME} in {path}",
            hint="`deploycc compile MODEL --target T -o DIR` writes both",
        )
    if compiled is not None:
        compiled = with_results(compiled, read_if_there(path, BuildResult), latency)
    return compiled, latency


def read_if_there(folder: Path, kind: type[D]) -> D | None:
    """Read a document of a folder; None where there is none.

    Raises:
        ArtefactError: it cannot be used.
    """
    file = folder / kind.FILE_NAME
    return read_document(file, kind) if file.exists() else None


def with_results(compiled: CompileReport, build: BuildResult | None, latency: LatencyReport | None) -> CompileReport:
    """Return a report with the engines that are built now, and with what is left to do."""
    engines = compiled.engines if build is None else build.engines
    return compiled.model_copy(update={"engines": engines, "next_command": _next(compiled, engines, latency)})


def _next(compiled: CompileReport, engines: tuple[BuiltEngine, ...], latency: LatencyReport | None) -> str | None:
    """What builds or measures the rest, and where."""
    if any(engine.status != "built" for engine in engines):
        return compiled.next_command or ON_BOARD
    if not engines or (latency is not None and all(run.has_times for run in latency.runs)):
        return None
    if compiled.next_command == ON_BOARD:
        return _BENCH
    return compiled.next_command if latency is None else "deploycc bench DIR"
