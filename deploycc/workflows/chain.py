"""Whether the files of an output folder still belong together: every digest is followed, from the plan to the samples.

A document that was edited is refused when it is read (`deploycc.documents.seal`). Here the files that documents name
are compared with the digests that they name. Files that are not there break nothing: large ones are often left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path

from deploycc.documents.build import BuildResult
from deploycc.documents.compile import CompileReport
from deploycc.documents.contract import IntegrationContract
from deploycc.documents.folder import FolderManifest
from deploycc.documents.gate_plan import GatePlan
from deploycc.documents.gates import GateReport
from deploycc.documents.latency import LatencyReport
from deploycc.documents.output_folder import read_if_there, with_results
from deploycc.documents.plan import BuildPlan
from deploycc.errors import ArtefactError
from deploycc.files import sha256_of
from deploycc.workflows.folder_journal import recover
from deploycc.workflows.results import readable

_PAGES = frozenset({"report.md", "report.html", "gates.html"})  # made of the documents, and made again at any time


Differs = Callable[[str, str], bool]
"""Takes the name of a file and a SHA-256, and returns whether the file is known and has another one."""


def check_chain(folder: Path, *, results: bool = True, differs: Differs | None = None) -> None:
    """Refuse a folder whose files do not belong together.

    Args:
        folder: an output folder, or one under its ``runs/``. A change to it that was cut short is completed first.
        results: also follow what was built and measured.
        differs: for a folder that holds the documents only, while the digests of all files are known; None: the files
            are in the folder.

    Raises:
        ArtefactError: ``chain-broken``, with each file and what names another; a document cannot be used.
    """
    recover(folder)
    differs = differs or partial(_differs, folder)
    breaks = [*_listed(folder, differs), *_planned(folder, differs), *_contracted(folder, differs)]
    breaks += _gates(folder, differs)
    if results:
        breaks += _built(folder, differs)
        breaks += _fit(folder)
    _refuse(folder, breaks)


def check_file(file: Path) -> None:
    """Refuse a file that a folder's documents name, and that is not the one they name.

    Raises:
        ArtefactError: ``chain-broken``.
    """
    folder = file.parent
    recover(folder)
    manifest, plan = readable(folder, FolderManifest), readable(folder, BuildPlan)  # others name their files so, too
    differs = partial(_differs, folder)
    breaks = list(_networks(plan, differs))
    listed = {} if manifest is None else manifest.digests()
    if file.name in listed and differs(file.name, listed[file.name]):
        breaks.append((file.name, f"is not the file that {FolderManifest.FILE_NAME} lists"))
    _refuse(folder, [found for found in breaks if found[0] == file.name])


def _refuse(folder: Path, breaks: list[tuple[str, str]]) -> None:
    reasons: dict[str, list[str]] = {}
    for name, reason in breaks:
        reasons.setdefault(name, []).append(reason)
    if breaks:
        raise ArtefactError(
            "chain-broken",
            "files do not belong together: each is named, by its digest, in the one that was made from it",
            context={"folder": folder, **{name: "; ".join(found) for name, found in reasons.items()}},
            note="a file was changed, or comes from another run",
            hint="bring back the files as they were written, or make them again",
        )


def _listed(folder: Path, differs: Differs) -> Iterator[tuple[str, str]]:
    """Follow the manifest, but for results, which a board replaces, and for pages."""
    manifest = read_if_there(folder, FolderManifest)
    skipped = {*_PAGES, BuildResult.FILE_NAME, LatencyReport.FILE_NAME, *_engine_files(folder)}
    for file in manifest.files if manifest is not None else ():
        if file.name not in skipped and differs(file.name, file.sha256):
            yield file.name, f"is not the file that {FolderManifest.FILE_NAME} lists"


def _planned(folder: Path, differs: Differs) -> Iterator[tuple[str, str]]:
    plan, compiled = read_if_there(folder, BuildPlan), read_if_there(folder, CompileReport)
    yield from _networks(plan, differs)
    if compiled is None:
        return
    if compiled.plan_sha256 is not None and differs(BuildPlan.FILE_NAME, compiled.plan_sha256):
        yield BuildPlan.FILE_NAME, f"is not the plan that {CompileReport.FILE_NAME} names"
    for record in compiled.networks:
        for name, sha256 in record.files.items():
            if differs(name, sha256):
                yield name, f"is not the {record.label} network that {CompileReport.FILE_NAME} names"


def _contracted(folder: Path, differs: Differs) -> Iterator[tuple[str, str]]:
    """Follow the contract, which a folder under ``runs/`` does not have."""
    contract, compiled = read_if_there(folder, IntegrationContract), read_if_there(folder, CompileReport)
    for file in contract.files if contract is not None else ():
        if differs(file.name, file.sha256):
            yield file.name, f"is not the file that {IntegrationContract.FILE_NAME} lists"
    named = None if compiled is None else compiled.contract_sha256
    if named is not None and differs(IntegrationContract.FILE_NAME, named):
        yield IntegrationContract.FILE_NAME, f"is not the contract that {CompileReport.FILE_NAME} names"


def _networks(plan: BuildPlan | None, differs: Differs) -> Iterator[tuple[str, str]]:
    for network in plan.networks if plan is not None else ():
        for name, sha256 in network.files.items():
            if differs(name, sha256):
                yield name, f"is not the {network.label} network that {BuildPlan.FILE_NAME} names"


def _built(folder: Path, differs: Differs) -> Iterator[tuple[str, str]]:
    build, latency = read_if_there(folder, BuildResult), read_if_there(folder, LatencyReport)
    for document in (build, latency):
        made_for = None if document is None else document.plan_sha256
        if document is not None and made_for is not None and differs(BuildPlan.FILE_NAME, made_for):
            yield document.FILE_NAME, f"belongs to another plan than the {BuildPlan.FILE_NAME} beside it"
    for engine in build.engines if build is not None else ():
        for name, sha256 in engine.files.items():
            if sha256 is not None and differs(name, sha256):
                yield name, f"is not the {engine.label} engine that {BuildResult.FILE_NAME} names"


def _gates(folder: Path, differs: Differs) -> Iterator[tuple[str, str]]:
    report = read_if_there(folder, GateReport)
    if report is not None and differs(GatePlan.FILE_NAME, report.plan_sha256):
        yield GatePlan.FILE_NAME, f"is not the plan that {GateReport.FILE_NAME} names"


def _fit(folder: Path) -> Iterator[tuple[str, str]]:
    """Follow the digests from one document to the other."""
    from deploycc.report.chain import breaks

    compiled, latency = read_if_there(folder, CompileReport), read_if_there(folder, LatencyReport)
    if compiled is None:
        return
    current = with_results(compiled, read_if_there(folder, BuildResult), latency)
    for number, sentence in enumerate(breaks(current, latency), 1):
        yield f"link {number}", sentence


def _engine_files(folder: Path) -> set[str]:
    documents = (read_if_there(folder, BuildPlan), read_if_there(folder, BuildResult))
    engines = [engine for document in documents if document is not None for engine in document.engines]
    return {name for engine in engines for name in engine.files}


def _differs(folder: Path, name: str, sha256: str) -> bool:
    """Return whether a file is there and has another digest."""
    file = folder / name
    if not file.is_file():
        return False
    facts = file.stat()
    return _sha256_of(file, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns) != sha256


@lru_cache(maxsize=64)
def _sha256_of(file: Path, *unchanged: int) -> str:
    """Return the digest of a file, which several documents name, computed once for as long as it stays as it is."""
    return sha256_of(file)
