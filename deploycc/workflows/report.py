"""What an output folder holds, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploycc.documents.compile import CompileReport
    from deploycc.documents.latency import LatencyReport
    from deploycc.documents.plan import Precision, Variant


@dataclass(frozen=True, eq=False)
class Report:
    """An output folder, read.

    Attributes:
        folder: where it is.
        compiled: ``compile.json``: networks, engines, prunings, accuracy.
        latency: ``latency.json``, every sample; None where nothing was measured.
        kept: of whoever just wrote it: a sentence per file of somebody else's that is kept under another name.
    """

    folder: Path
    compiled: CompileReport
    latency: LatencyReport | None
    kept: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """Name of the target."""
        return self.compiled.target.name

    @property
    def html(self) -> Path:
        """The report as a page."""
        return self.folder / "report.html"

    def median_ms(self, precision: Precision = "fp32", variant: Variant = "compiled") -> float | None:
        """Measured median latency of one engine, in milliseconds; None where it was not measured here."""
        from deploycc.report.stats import summarise

        for run in self.latency.runs if self.latency else ():
            if (run.precision, run.variant) == (precision, variant) and run.status == "measured":
                return summarise(run.samples_ms).p50_ms
        return None


def read_report(folder: str | Path) -> Report:
    """Read an output folder.

    Raises:
        ArtefactError: the folder holds no ``compile.json``, or a file in it cannot be used.
    """
    from deploycc.documents.compile import read_compile_report
    from deploycc.documents.latency import LatencyReport, read_latency_report

    folder = Path(folder)
    measured = (folder / LatencyReport.FILE_NAME).exists()
    return Report(folder, read_compile_report(folder), read_latency_report(folder) if measured else None)


def read_measurements(path: Path) -> list[LatencyReport]:
    """Read the latest latency report of a file or folder, then the earlier ones that the folder keeps under ``runs/``.

    Raises:
        ArtefactError: there is none, or one of them cannot be used.
    """
    from deploycc.documents.latency import LatencyReport, read_latency_report
    from deploycc.workflows.results import RUNS

    earlier = sorted((path / RUNS).glob(f"*/{LatencyReport.FILE_NAME}")) if path.is_dir() else []
    return [read_latency_report(each) for each in (path, *earlier)]
