"""This machine: the agent runs here as it would on a board, apart from the package and in a process of its own."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from deploycc.agent_host.session import MAX_PERFORMANCE, AgentStopped, Progress, Scenario, Session
from deploycc.agent_host.temporary import temporary_folder
from deploycc.agent_host.zipapp import FOLDER_NAME, link_agent
from deploycc.documents.build import BuildResult
from deploycc.documents.detections import EngineDetections
from deploycc.documents.document import parse_document
from deploycc.documents.latency import LatencyReport
from deploycc.documents.plan import BuildPlan, read_plan
from deploycc.errors import ArtefactError, BuildError, DeployError, MeasureError
from deploycc.files import write_text

_ANSWERED = (0, 4, 5)  # exit codes of an agent that wrote its JSON: for all engines, for some, for none
_KEPT_LINES = 12
_GRACE_S = 6.0  # the agent itself takes up to 2 s to end a job


def _quiet(line: str) -> None:
    """Drop the agent's progress."""


def build(plan_path: Path, on_progress: Progress = _quiet, session: Session | None = None) -> BuildResult:
    """Build the engines of a plan beside it and write ``build.json``.

    Args:
        plan_path: ``plan.json`` or its folder.
        on_progress: receives what the agent says, line by line.
        session: where; None: this machine.

    Returns:
        what was built; engines that cannot be built here have the status ``not-possible``, a reason and a hint.

    Raises:
        ArtefactError: the plan cannot be used, or its folder cannot be written.
        BuildError: a builder refused a network or failed; the node is named where the builder names it.
    """
    file = _plan_file(plan_path)
    read_plan(file)
    record = file.with_name(BuildResult.FILE_NAME)
    written = _run(session, [file], ["build"], on_progress, BuildError)
    result = parse_document(written, BuildResult, record)
    write_text(record, written.decode("utf-8"))
    for engine in result.engines:
        if engine.status == "failed":
            raise BuildError(
                "build-failed",
                f"the {engine.label} engine was not built",
                context={
                    "target": result.target,
                    "engine": engine.file,
                    **({"node": engine.node} if engine.node else {}),
                },
                note=engine.reason,
                hint=engine.hint,
            )
    return result


def check_built(result: BuildResult) -> None:
    """Raise an error where an engine was not built.

    Raises:
        BuildError: ``not-built``.
    """
    missing = [engine for engine in result.engines if engine.status != "built"]
    if missing:
        which = "no engine" if len(missing) == len(result.engines) else "not every engine"
        raise BuildError(
            "not-built",
            f"{which} was built",
            context={"target": result.target, "engines": ", ".join(engine.label for engine in missing)},
            note=missing[0].reason,
            hint=missing[0].hint,
        )


def bench(
    plan_path: Path,
    on_progress: Progress = _quiet,
    only: str | None = None,
    *,
    input_file: Path | None = None,
    session: Session | None = None,
) -> LatencyReport:
    """Measure the engines of one plan; see `bench_in_turns`."""
    [report] = bench_in_turns([plan_path], on_progress, only, input_file=input_file, session=session)
    return report


def bench_in_turns(
    plan_paths: Sequence[Path],
    on_progress: Progress = _quiet,
    only: str | None = None,
    *,
    input_file: Path | None = None,
    scenario: Scenario | None = None,
    max_performance: bool = False,
    session: Session | None = None,
) -> list[LatencyReport]:
    """Measure the engines of plans, those of one precision in turns.

    Args:
        plan_paths: for each ``plan.json`` or its folder; ``build.json`` and the engines lie beside it.
        on_progress: receives what the agent says, line by line.
        only: one precision, every variant of it; None: every engine.
        input_file: the picture tensor as .npy; None: seeded random values.
        scenario: how pictures come; None: as the plans say.
        max_performance: in the fastest power mode of a Jetson, with fixed clocks; what was before is back afterwards.
        session: where; None: this machine.

    Returns:
        for each plan what was measured, which the caller writes, and why the rest was not: the status is
        ``not-possible`` for an engine that cannot run here, ``failed`` for one that is missing, stale, or does not run
        (`check_measured`).

    Raises:
        ArtefactError: a plan cannot be used, or the agent's answer is not a latency report.
        MeasureError: a plan has no such engine, plans are for different targets, or the agent ended without an answer.
    """
    files = [_plan_file(path) for path in plan_paths]
    plans = [read_plan(file) for file in files]
    for file, plan in zip(files, plans, strict=True):
        if only is not None and all(only != engine.precision for engine in plan.engines):
            raise MeasureError(
                "no-such-engine",
                f"the plan has no {only} engine",
                context={"plan": file, "engines": ", ".join(engine.label for engine in plan.engines)},
            )
        if plan.target.name != plans[0].target.name:
            raise MeasureError(
                "bench-targets-differ",
                "engines for different targets are not measured in turns",
                context={str(each.parent): one.target.name for each, one in zip(files, plans, strict=True)},
                hint="compile for one target, or measure one folder after the other",
            )
    arguments = ["bench", *(["--only", only] if only else [])]
    if input_file is not None:
        arguments += ["--input", str(input_file.resolve())]
    if scenario is not None:
        arguments += scenario.arguments()
    if max_performance:
        arguments.append(MAX_PERFORMANCE)
    written = _run(session, files, arguments, on_progress, MeasureError)
    return [
        parse_document(part, LatencyReport, file.with_name(LatencyReport.FILE_NAME))
        for part, file in zip(_parts(written, len(files)), files, strict=True)
    ]


def _parts(written: bytes, count: int) -> list[bytes]:
    """Return what the agent answers for each plan."""
    if count == 1:
        return [written]
    try:
        parts = json.loads(written)
    except ValueError:
        parts = None
    if not isinstance(parts, list) or len(parts) != count:
        raise ArtefactError("artefact-not-json", "the agent's answer is not a list of latency reports")
    return [json.dumps(part).encode() for part in parts]


def detect(
    plan_path: Path,
    pictures: Path,
    on_progress: Progress = _quiet,
    only: str | None = None,
    *,
    session: Session | None = None,
) -> EngineDetections:
    """Run the engines of a plan on pictures.

    Args:
        plan_path: ``plan.json`` or its folder; ``contract.json``, ``build.json`` and the engines lie beside it.
        pictures: .npy file of uint8 [N, height, width, 3], red first.
        on_progress: receives what the agent says, line by line.
        only: one precision; None: every engine.
        session: where; None: this machine.

    Raises:
        ArtefactError: the plan cannot be used, or the agent's answer is not as documented.
        MeasureError: the agent ended without an answer.
    """
    file = _plan_file(plan_path)
    read_plan(file)
    arguments = ["detect", "--input", str(pictures.resolve()), *(["--only", only] if only else [])]
    written = _run(session, [file], arguments, on_progress, MeasureError)
    return parse_document(written, EngineDetections, file.with_name(EngineDetections.FILE_NAME))


def check_measured(report: LatencyReport, *, every: bool = False) -> None:
    """Raise an error where an engine failed.

    Args:
        report: what was measured, which is written by now.
        every: an engine that this machine cannot run is an error too.

    Raises:
        MeasureError: ``measure-failed``, or ``not-measured``.
    """
    for run in report.runs:
        if run.status == "failed":
            raise MeasureError(
                "measure-failed",
                f"the {run.label} engine was not measured",
                context={"target": report.target},
                note=run.reason,
                hint=run.hint,
            )
    missing = [run for run in report.runs if not run.has_times]
    if every and missing:
        which = "no engine" if len(missing) == len(report.runs) else "not every engine"
        raise MeasureError(
            "not-measured",
            f"{which} was measured",
            context={"target": report.target, "engines": ", ".join(run.label for run in missing)},
            note=missing[0].reason,
            hint=missing[0].hint,
        )


def _plan_file(path: Path) -> Path:
    return path / BuildPlan.FILE_NAME if path.is_dir() else path


def _run(
    session: Session | None,
    plans: Sequence[Path],
    arguments: list[str],
    on_progress: Progress,
    error: type[DeployError],
) -> bytes:
    try:
        return (session or LocalSession()).run_agent(plans, arguments, on_progress)
    except AgentStopped as stopped:
        raise error(
            "agent-stopped",
            f"the agent ended with code {stopped.code} and without a result",
            context={"plan": ", ".join(map(str, plans)), "command": arguments[0]},
            note=" | ".join(stopped.last_lines) or None,
        ) from stopped


class LocalSession:
    """Runs the agent with this Python."""

    def run_agent(self, plans: Sequence[Path], arguments: list[str], on_progress: Progress) -> bytes:
        """See `deploycc.agent_host.session.Session.run_agent`."""
        plans = [plan.resolve() for plan in plans]
        with temporary_folder() as folder:
            link_agent(folder / FOLDER_NAME)
            out = folder / "out.json"
            command, *options = arguments
            watched, held = os.pipe()  # this process holds an end for as long as it lives
            with contextlib.ExitStack() as ends:
                ends.callback(os.close, held)
                ends.callback(os.close, watched)
                process = subprocess.Popen(
                    [
                        *(sys.executable, str(folder / FOLDER_NAME), command, *map(str, plans), *options),
                        *("--out", str(out), "--parent-fd", str(watched)),
                    ],
                    cwd=folder,  # not the plan's: Python and the loader may search it for modules and libraries
                    env={**os.environ, "TMPDIR": str(folder)},  # what a killed agent leaves goes with the folder
                    pass_fds=[watched],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    start_new_session=True,  # a signal from the terminal comes to this process, which ends the agent
                )
                code, lines = _follow(process, on_progress)
            if code not in _ANSWERED or not out.exists():
                raise AgentStopped(code, lines)
            return out.read_bytes()


def _follow(process: subprocess.Popen[str], on_progress: Progress) -> tuple[int, tuple[str, ...]]:
    """Hand on what an agent says until it ends; return its exit code and its last lines."""
    lines: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
    try:
        for line in process.stderr or ():
            lines.append(line.rstrip())
            on_progress(line.rstrip())
        return process.wait(), tuple(lines)
    finally:
        if process.poll() is None:
            _end(process)
        if process.stderr:
            process.stderr.close()


def _end(process: subprocess.Popen[str]) -> None:
    """End an agent, which ends its jobs and cleans up: politely, then for good."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_GRACE_S)
    process.kill()
    process.wait()
