"""What an output folder of `deploycc compile` holds, whole or in part."""

from __future__ import annotations

from pathlib import Path

from deploycc.documents.compile import CompileReport, read_compile_report
from deploycc.documents.latency import LatencyReport, read_latency_report
from deploycc.errors import ArtefactError


def read_documents(path: Path) -> tuple[CompileReport | None, LatencyReport | None]:
    """Read ``compile.json`` and ``latency.json`` of a folder, or the one of them that a path names.

    Raises:
        ArtefactError: neither is there, or one cannot be used.
    """
    if not path.is_dir():
        if path.name == CompileReport.FILE_NAME:
            return read_compile_report(path), None
        return None, read_latency_report(path)
    has_compile, has_latency = ((path / kind.FILE_NAME).exists() for kind in (CompileReport, LatencyReport))
    if not has_compile and not has_latency:
        raise ArtefactError(
            "artefact-missing",
            f"there is neither {CompileReport.FILE_NAME} nor {LatencyReport.FILE_NAME} in {path}",
            hint="`deploycc compile MODEL --target T -o DIR` writes both",
        )
    return read_compile_report(path) if has_compile else None, read_latency_report(path) if has_latency else None
