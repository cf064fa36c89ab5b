"""What an output folder holds, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.errors import ArtefactError

if TYPE_CHECKING:
    from deploycc.documents.compile import CompileReport
    from deploycc.documents.gates import GateReport
    from deploycc.documents.latency import LatencyReport
    from deploycc.documents.plan import Precision, Variant
    from deploycc.report.compare import Comparison
    from deploycc.report.overview import Folder


@dataclass(frozen=True, eq=False)
class Report:
    """An output folder, read.

    Attributes:
        folder: where it is.
        compiled: ``compile.json``: networks, engines, prunings, accuracy.
        latency: ``latency.json``, every sample; None where nothing was measured.
        kept: of whoever just wrote it: a sentence per file of somebody else's that is kept under another name.
        board: of whoever just had it built by one of several boards: that board's name.
    """

    folder: Path
    compiled: CompileReport
    latency: LatencyReport | None
    kept: tuple[str, ...] = ()
    board: str | None = None

    @property
    def target(self) -> str:
        """Name of the target."""
        return self.compiled.target.name

    @property
    def html(self) -> Path:
        """The report as a page."""
        return self.folder / "report.html"

    def median_ms(self, precision: Precision = "fp32", variant: Variant = "compiled") -> float | None:
        """Measured median latency of one engine, in milliseconds; None where it was not measured here.

        Of networks in a row it is what they typically take (`deploycc.report.row`).
        """
        from deploycc.report.verdict import assess_run

        if self.latency is None:
            return None
        for run in self.latency.runs:
            if (run.precision, run.variant) == (precision, variant) and run.status == "measured":
                return assess_run(run, self.latency).typical_ms
        return None


def read_report(folder: str | Path) -> Report:
    """Read an output folder, after following its digests.

    Raises:
        ArtefactError: the folder holds no ``compile.json``, a file in it cannot be used, or its files do not belong
            together.
    """
    from deploycc.workflows.chain import check_chain

    check_chain(Path(folder))
    return read_unchecked(folder)


def read_unchecked(folder: str | Path) -> Report:
    """Read an output folder that was just written, or checked.

    Raises:
        ArtefactError: the folder holds no ``compile.json``, or a file in it cannot be used.
    """
    from deploycc.documents.compile import CompileReport
    from deploycc.documents.document import find_document
    from deploycc.documents.output_folder import read_documents

    folder = Path(folder)
    find_document(folder, CompileReport)
    compiled, latency = read_documents(folder)
    assert compiled is not None
    return Report(folder, compiled, latency)


def read_results(path: Path) -> tuple[CompileReport | None, LatencyReport | None]:
    """Read the documents that a path means, after following the digests of their folder.

    Args:
        path: an output folder, or its ``compile.json`` or ``latency.json``.

    Raises:
        ArtefactError: as `deploycc.documents.output_folder.read_documents`; the files do not belong together.
    """
    from deploycc.documents.output_folder import read_documents

    _check(path)
    return read_documents(path)


def render_results(
    path: Path, *, markdown: Path | None = None, html: Path | None = None
) -> tuple[CompileReport | None, LatencyReport | None]:
    """Read the documents that a path means, and write them as a report.

    Args:
        path: as for `read_results`.
        markdown: file for the report as Markdown.
        html: file for the report as a page.

    Raises:
        ArtefactError: as `read_results`; ``artefact-missing``: a report needs ``compile.json``.
    """
    from deploycc.files import write_text
    from deploycc.report.html import render_html
    from deploycc.report.markdown import render_markdown

    compiled, latency = read_results(path)
    if compiled is None and (markdown or html):
        raise ArtefactError("artefact-missing", f"there is no compile.json at {path}, which a full report needs")
    for file, render in ((markdown, render_markdown), (html, render_html)):
        if file is not None and compiled is not None:
            write_text(file, render(compiled, latency))
    return compiled, latency


def read_measurements(path: Path) -> list[LatencyReport]:
    """Read the latest latency report of a file or folder, then the earlier ones that the folder keeps under ``runs/``.

    The digests of each folder are followed first.

    Raises:
        ArtefactError: there is none, one of them cannot be used, or does not belong to the files beside it.
    """
    from deploycc.documents.latency import LatencyReport, read_latency_report
    from deploycc.workflows.results import RUNS

    earlier = sorted((path / RUNS).glob(f"*/{LatencyReport.FILE_NAME}")) if path.is_dir() else []
    for each in (path, *earlier):
        _check(each)
    return [read_latency_report(each) for each in (path, *earlier)]


def compare_measurements(baseline: Path, candidate: Path) -> Comparison:
    """Compare the measurements of two files or folders; earlier runs that they keep count too.

    Raises:
        ArtefactError: as `read_measurements`.
    """
    from deploycc.report.compare import compare_reports

    (before, *baselines), (after, *candidates) = read_measurements(baseline), read_measurements(candidate)
    return compare_reports(before, after, more_baselines=baselines, more_candidates=candidates)


def output_folders_in(path: Path) -> dict[str, Path]:
    """Return output folders by name: the one that a path is, or those inside it; a file is taken as it is."""
    from deploycc.documents.compile import CompileReport
    from deploycc.documents.latency import LatencyReport

    def is_output(folder: Path) -> bool:
        return any((folder / kind.FILE_NAME).exists() for kind in (CompileReport, LatencyReport))

    if not path.is_dir() or is_output(path):
        return {path.resolve().name: path}
    inside = {folder.name: folder for folder in sorted(path.iterdir()) if folder.is_dir() and is_output(folder)}
    return inside or {path.resolve().name: path}  # whose readers say what is missing


def read_folders(paths: Sequence[Path]) -> list[Folder]:
    """Read output folders, and those inside folders of several targets, for one table (`deploycc.report.overview`).

    Raises:
        ArtefactError: as `read_report`.
    """
    from deploycc.documents.gate_plan import GatePlan
    from deploycc.report.overview import Folder

    folders = []
    for path in paths:
        for name, folder in output_folders_in(path).items():
            read = read_report(folder)
            shown = name if folder == path else f"{path.resolve().name}/{name}"
            folders.append(Folder(shown, read.compiled, read.latency, (folder / GatePlan.FILE_NAME).exists()))
    return folders


def read_gates(path: Path) -> GateReport:
    """Read ``gates.json``, given itself or its folder, after following the digests of that folder.

    Raises:
        ArtefactError: it is missing, cannot be used, or does not belong to the files beside it.
    """
    from deploycc.documents.gates import read_gate_report

    _check(path)
    return read_gate_report(path)


def _check(path: Path) -> None:
    """Follow the chain of the folder that a path is, or whose file of the agreed name it is."""
    from deploycc.documents.compile import CompileReport
    from deploycc.documents.gates import GateReport
    from deploycc.documents.latency import LatencyReport
    from deploycc.workflows.chain import check_chain

    if path.is_dir():
        check_chain(path)
    elif path.is_file() and path.name in {kind.FILE_NAME for kind in (CompileReport, LatencyReport, GateReport)}:
        check_chain(path.parent)
