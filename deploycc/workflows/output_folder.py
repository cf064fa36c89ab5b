"""The steps after the network is written: build, measure, render."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.documents.output_folder import with_results
from deploycc.files import sha256_of, write_text
from deploycc.workflows.report import read_unchecked

if TYPE_CHECKING:
    from deploycc.documents.compile import CompileReport
    from deploycc.documents.contract import IntegrationContract
    from deploycc.documents.latency import LatencyReport
    from deploycc.progress import Say


def write_report(folder: Path, report: CompileReport) -> None:
    """Write ``compile.json``, which names ``plan.json`` and ``contract.json`` beside it."""
    from deploycc.documents.contract import IntegrationContract
    from deploycc.documents.plan import BuildPlan

    contract = folder / IntegrationContract.FILE_NAME
    digests = {
        "plan_sha256": sha256_of(folder / BuildPlan.FILE_NAME),
        "contract_sha256": sha256_of(contract) if contract.exists() else None,
    }
    report.model_copy(update=digests).write(folder / report.FILE_NAME)


def build_staged(folder: Path, say: Say) -> None:
    """Build the engines of a folder that is being made, and record them in ``compile.json``.

    Raises:
        BuildError: a builder refused a network or failed. An engine that this machine cannot build is not an error.
    """
    from deploycc.agent_host import local
    from deploycc.documents.compile import read_compile_report

    say("building")
    drawing = threading.Thread(target=importlib.import_module, args=("deploycc.report.html",))
    drawing.start()  # `write_pages` follows; imported now, because this process only waits for the agent
    build = local.build(folder, say)
    drawing.join()
    write_report(folder, with_results(read_compile_report(folder), build, None))


def bench_staged(folder: Path, say: Say, max_performance: bool = False) -> LatencyReport:
    """Time the engines of a folder that is being made, and write ``latency.json``.

    Returns:
        what was measured just now, and why the rest was not (`deploycc.agent_host.local.check_measured`).
    """
    from deploycc.agent_host import local
    from deploycc.documents.build import read_build_result
    from deploycc.documents.compile import read_compile_report

    say("measuring")
    [latency] = local.bench_in_turns([folder], say, max_performance=max_performance)
    latency.write(folder / latency.FILE_NAME)
    write_report(folder, with_results(read_compile_report(folder), read_build_result(folder), latency))
    return latency


def render_folder(folder: Path) -> None:
    """Write ``report.md`` and ``report.html`` from the documents of a folder."""
    from deploycc.documents.contract import IntegrationContract
    from deploycc.documents.output_folder import read_if_there

    read = read_unchecked(folder)
    write_pages(folder, read.compiled, read.latency, read_if_there(folder, IntegrationContract))


def write_pages(
    folder: Path, report: CompileReport, latency: LatencyReport | None, contract: IntegrationContract | None
) -> None:
    """Write ``report.md`` and ``report.html``."""
    from deploycc.report.html import render_html
    from deploycc.report.markdown import render_markdown

    write_text(folder / "report.md", render_markdown(report, latency, contract))
    write_text(folder / "report.html", render_html(report, latency, contract))


def summarise_folder(folder: Path) -> list[str]:
    """Say in a few lines what a folder holds: engines, the verdict on the latency, what to do next."""
    from deploycc.report.against_original import against_original, sentence
    from deploycc.report.format import size
    from deploycc.report.headline import headline
    from deploycc.report.verdict import assess
    from deploycc.report.verified import verified_lines

    read = read_unchecked(folder)
    report, latency = read.compiled, read.latency
    lines = verified_lines(report.verified)
    lines += [
        f"{engine.label} engine {folder / engine.file} ({size(engine.total_bytes)}, "
        f"{' '.join(filter(None, (engine.builder, engine.builder_version)))})"
        for engine in report.engines
        if engine.total_bytes is not None
    ]
    lines += headline(report, assess(latency) if latency else ()).sentences
    if comparison := sentence(against_original(report, latency)):
        lines.append(comparison)
    if report.next_command:
        lines.append(f"on the device: {report.next_command}")
    lines.append(f"report: {folder / 'report.html'}")
    return lines


def built_engines(folder: Path) -> list[Path]:
    """Return the engines that were built."""
    engines = read_unchecked(folder).compiled.engines
    return [folder / name for engine in engines if engine.status == "built" for name in engine.files]
