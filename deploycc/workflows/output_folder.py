"""The steps after the network is written: build, measure, render. They work on an output folder, at any time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.files import write_text
from deploycc.workflows.report import read_report

if TYPE_CHECKING:
    from deploycc.agent_host.session import Session
    from deploycc.documents.compile import CompileReport
    from deploycc.documents.latency import LatencyReport
    from deploycc.progress import Say

_ON_BOARD = "python3 agent.pyz build plan.json --out build.json; python3 agent.pyz bench plan.json --out latency.json"


WRITTEN = ("compile.json", "build.json", "latency.json", "report.md", "report.html")


def drop_links(folder: Path) -> None:
    """Remove links, pipes and devices at the names that the tool writes: a folder from elsewhere leads nowhere else.

    A link's content stays where the link leads; documents that are still to be read are copied into the folder.
    """
    for name in WRITTEN:
        path = folder / name
        if not path.is_symlink() and (not path.exists() or path.is_file()):
            continue
        content = path.read_bytes() if path.is_file() else None
        if not path.is_dir() or path.is_symlink():
            path.unlink()
        if content is not None:
            path.write_bytes(content)


def write_report(folder: Path, report: CompileReport) -> None:
    """Write ``compile.json``."""
    report.write(folder / report.FILE_NAME)


def build_folder(folder: Path, say: Say, session: Session | None = None) -> None:
    """Build the engines of a folder's plan and record them in ``compile.json``.

    Args:
        folder: output folder.
        say: progress.
        session: where; None: this machine.

    Raises:
        BuildError: a builder refused a network or failed. An engine that cannot be built on this machine is no error.
    """
    from deploycc.agent_host import local
    from deploycc.documents.compile import read_compile_report
    from deploycc.documents.latency import LatencyReport

    drop_links(folder)
    say("building")
    engines = local.build(folder, say, session).engines
    (folder / LatencyReport.FILE_NAME).unlink(missing_ok=True)  # it was measured on the engines before
    elsewhere = any(engine.status != "built" for engine in engines)
    report = read_compile_report(folder)
    write_report(
        folder, report.model_copy(update={"engines": engines, "next_command": _ON_BOARD if elsewhere else None})
    )


def bench_folder(
    folder: Path,
    say: Say,
    only: str | None = None,
    input_file: Path | None = None,
    session: Session | None = None,
) -> LatencyReport:
    """Time the engines of a folder's plan and write ``latency.json``.

    Args:
        folder: output folder.
        say: progress.
        only: one precision; None: every engine.
        input_file: the picture tensor as .npy; None: seeded random values.
        session: where; None: this machine.

    Returns:
        what was measured just now, and why the rest was not (`deploycc.agent_host.local.check_measured`).
    """
    from deploycc.agent_host import local
    from deploycc.documents.compile import read_compile_report

    drop_links(folder)
    say("measuring")
    latency = local.bench(folder, say, only, input_file=input_file, session=session)
    latency.write(folder / latency.FILE_NAME)
    report = read_compile_report(folder)
    elsewhere = any(run.status != "measured" for run in latency.runs)
    if elsewhere and report.next_command is None:
        write_report(folder, report.model_copy(update={"next_command": "deploycc bench DIR"}))
    return latency


def render_folder(folder: Path) -> None:
    """Write ``report.md`` and ``report.html`` from ``compile.json`` and, where it is there, ``latency.json``."""
    from deploycc.report.html import render_html
    from deploycc.report.markdown import render_markdown

    drop_links(folder)
    read = read_report(folder)
    report, latency = read.compiled, read.latency
    write_text(folder / "report.md", render_markdown(report, latency))
    write_text(folder / "report.html", render_html(report, latency))


def summarise_folder(folder: Path) -> list[str]:
    """Say in a few lines what a folder holds: engines, the verdict on the latency, what to do next."""
    from deploycc.report.against_original import against_original, sentence
    from deploycc.report.format import size
    from deploycc.report.headline import headline
    from deploycc.report.verdict import assess
    from deploycc.report.verified import verified_lines

    read = read_report(folder)
    report, latency = read.compiled, read.latency
    lines = verified_lines(report.verified)
    lines += [
        f"{engine.label} engine {folder / engine.file} ({size(engine.size_bytes)}, "
        f"{' '.join(filter(None, (engine.builder, engine.builder_version)))})"
        for engine in report.engines
        if engine.size_bytes is not None
    ]
    lines += headline(report, assess(latency) if latency else ()).sentences
    if comparison := sentence(against_original(report, latency)):
        lines.append(comparison)
    if report.next_command:
        lines.append(f"on the device: {report.next_command}")
    lines.append(f"report: {folder / 'report.html'}")
    return lines
