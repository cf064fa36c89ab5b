"""Building and measuring in an output folder that may hold results: of this machine, or of a board that it came from.

Nothing that was built or measured is replaced by what is not possible here, and what is replaced goes to ``runs/``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from deploycc.documents.build import BuildResult, BuiltEngine, read_build_result
from deploycc.documents.compile import CompileReport, read_compile_report
from deploycc.documents.contract import IntegrationContract, files_for_agent
from deploycc.documents.latency import LatencyReport
from deploycc.documents.merging import merge_builds, merge_latencies
from deploycc.documents.output_folder import read_if_there, with_results
from deploycc.documents.plan import BuildPlan, read_plan
from deploycc.errors import BuildError, InputError
from deploycc.files import sha256_of
from deploycc.progress import Say
from deploycc.workflows.chain import check_chain
from deploycc.workflows.output_folder import write_pages
from deploycc.workflows.results import REFERRED_TO, result_files, run_folder
from deploycc.workflows.staging import Revision, revised_folder

if TYPE_CHECKING:
    from deploycc.agent_host.session import Scenario, Session


def build_folder(
    folder: Path, say: Say, session: Session | None = None, on_note: Callable[[str], None] = lambda sentence: None
) -> BuildResult:
    """Build the engines of a folder's plan, and update its documents and report.

    Args:
        folder: output folder.
        say: progress.
        session: where; None: this machine.
        on_note: told, in sentences, what else the user should know.

    Returns:
        what was built just now, and why the rest was not.

    Raises:
        ArtefactError: the folder cannot be used.
        BuildError: a builder refused a network or failed; what was built is kept.
    """
    from deploycc.agent_host import local

    check_chain(folder, results=False)
    plan, compiled = read_plan(folder), read_compile_report(folder)
    before, latency = read_if_there(folder, BuildResult), read_if_there(folder, LatencyReport)
    failure: BuildError | None = None
    with revised_folder(folder, on_note) as change:
        _link(folder, change.scratch, [*_read_by_agent(plan), *files_for_agent(folder)])
        say("building")
        try:
            built = local.build(change.scratch, say, session)
        except BuildError as error:
            if not (change.scratch / BuildResult.FILE_NAME).exists():
                raise
            failure, built = error, read_build_result(change.scratch)
        merged = merge_builds(before, built)
        for engine in built.engines:
            if engine.status != "built" and engine not in merged.engines:
                on_note(f"the {engine.label} engine that was built before stays: {engine.reason}")
        made = [
            file
            for engine in built.engines
            if engine.status == "built" and not _is_there(folder, engine)
            for file in engine.files
        ]
        for file in made:
            (change.scratch / file).rename(change.new / file)
        if merged is not before:
            if before is not None and any(engine.status == "built" for engine in before.engines):
                _set_aside(folder, change, (BuildResult.FILE_NAME, *made))
            merged.write(change.new / merged.FILE_NAME)
        if session is not None or merged is not built:
            change.foreign.update((BuildResult.FILE_NAME, *made))
        engines = {engine.label: engine.digests for engine in merged.engines if engine.digests}
        measured = merge_latencies(latency, None, engines)
        if measured is not latency:
            _set_aside(folder, change, (LatencyReport.FILE_NAME,))
            change.foreign.add(LatencyReport.FILE_NAME)
        _finish(folder, change, compiled, merged, latency, measured, say)
    if failure is not None:
        raise failure
    return built


def bench_folder(
    folder: Path,
    say: Say,
    only: str | None = None,
    input_file: Path | None = None,
    session: Session | None = None,
    on_note: Callable[[str], None] = lambda sentence: None,
) -> LatencyReport:
    """Time the engines of one folder's plan; see `bench_folders`."""
    [latency] = bench_folders([folder], say, only, input_file, session, on_note)
    return latency


def bench_folders(
    folders: Sequence[Path],
    say: Say,
    only: str | None = None,
    input_file: Path | None = None,
    session: Session | None = None,
    on_note: Callable[[str], None] = lambda sentence: None,
    scenario: Scenario | None = None,
    max_performance: bool = False,
) -> list[LatencyReport]:
    """Time the engines of folders' plans, those of one precision in turns, and update documents and reports.

    Args:
        folders: output folders, for one target.
        say: progress.
        only: one precision; None: every engine.
        input_file: the picture tensor as .npy; None: seeded random values.
        session: where; None: this machine.
        on_note: told, in sentences, what else the user should know.
        scenario: how pictures come; None: as the plans say.
        max_performance: in the fastest power mode of a Jetson, with fixed clocks; what was before is back afterwards.

    Returns:
        for each folder what was measured just now, and why the rest was not
        (`deploycc.agent_host.local.check_measured`).

    Raises:
        ArtefactError: a folder cannot be used.
        InputError: ``bench-folder-twice``.
        MeasureError: a plan has no such engine, plans are for different targets, or the agent ended without an answer.
    """
    from deploycc.agent_host import local

    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError(
            "bench-folder-twice", "a folder is given twice", context={"folders": ", ".join(map(str, folders))}
        )
    for folder in folders:
        check_chain(folder, results=False)
    with ExitStack() as stack:
        changes = [stack.enter_context(revised_folder(folder, on_note)) for folder in folders]
        for folder, change in zip(folders, changes, strict=True):
            build = read_if_there(folder, BuildResult)
            built = () if build is None else build.engines
            engine_files = [file for engine in built for file in engine.files]
            plan = read_plan(folder)
            shown = files_for_agent(folder) if plan.has_row else ()  # a row is timed on pictures
            _link(folder, change.scratch, (*_read_by_agent(plan), BuildResult.FILE_NAME, *engine_files, *shown))
        say("measuring")
        reports = local.bench_in_turns(
            [change.scratch for change in changes],
            say,
            only,
            input_file=input_file,
            scenario=scenario,
            max_performance=max_performance,
            session=session,
        )
        for folder, change, latency in zip(folders, changes, reports, strict=True):
            _keep_latency(folder, change, latency, session is not None, say, on_note)
    return reports


def _keep_latency(
    folder: Path, change: Revision, latency: LatencyReport, elsewhere: bool, say: Say, on_note: Callable[[str], None]
) -> None:
    """Let what was measured become part of a folder."""
    compiled = read_compile_report(folder)
    build, before = read_if_there(folder, BuildResult), read_if_there(folder, LatencyReport)
    built = () if build is None else build.engines
    engines = {engine.label: engine.digests for engine in built if engine.digests}
    measured = merge_latencies(before, latency, engines)
    if before is not None and measured is before:
        on_note(f"{LatencyReport.FILE_NAME} stays as it was measured before")
    elif before is not None and any(run.has_times for run in before.runs):
        _set_aside(folder, change, (LatencyReport.FILE_NAME,))
    if elsewhere or measured is not latency:
        change.foreign.add(LatencyReport.FILE_NAME)
    _finish(folder, change, compiled, build, before, measured, say)


def _is_there(folder: Path, engine: BuiltEngine) -> bool:
    files = ((folder / name, sha256) for name, sha256 in engine.files.items())
    return all(file.is_file() and sha256_of(file) == sha256 for file, sha256 in files)


def _read_by_agent(plan: BuildPlan) -> list[str]:
    return [plan.FILE_NAME, *(file for network in plan.networks for file in network.files)]


def _link(folder: Path, scratch: Path, names: Iterable[str]) -> None:
    """Show files of the folder to the agent in a place where what it writes replaces nothing."""
    for name in dict.fromkeys(names):  # two engines may be built from one network
        source, to = folder / name, scratch / name
        if source.is_file() and source.resolve().is_relative_to(folder.resolve()):  # the agent says what it misses
            to.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source.resolve(), to)
            except OSError:  # a file system without hard links
                shutil.copyfile(source, to)


def _set_aside(folder: Path, change: Revision, names: Iterable[str]) -> None:
    """Let results go to ``runs/``, beside copies of what they refer to."""
    run = next((to.rpartition("/")[0] for to in change.aside.values()), None) or run_folder(
        folder, result_files(folder)
    )
    change.aside.update({name: f"{run}/{name}" for name in names if os.path.lexists(folder / name)})
    (change.new / run).mkdir(parents=True, exist_ok=True)
    for name in (*REFERRED_TO, BuildResult.FILE_NAME):
        copy = change.new / run / name
        if name in change.aside:
            copy.unlink(missing_ok=True)  # it goes there itself
        elif (folder / name).is_file():
            shutil.copyfile(folder / name, copy)


def _finish(
    folder: Path,
    change: Revision,
    compiled: CompileReport,
    build: BuildResult | None,
    before: LatencyReport | None,
    latency: LatencyReport | None,
    say: Say,
) -> None:
    """Write the documents and pages that follow from the results."""
    if latency is not None and latency is not before:
        latency.write(change.new / latency.FILE_NAME)
    report = with_results(compiled, build, latency)
    say("writing the report")
    report.write(change.new / report.FILE_NAME)
    write_pages(change.new, report, latency, read_if_there(folder, IntegrationContract))
