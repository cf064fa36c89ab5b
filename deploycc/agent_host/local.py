"""This machine: the agent runs here as it would on a board, packed into one file and in a process of its own."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from deploycc.agent_host.session import AgentStopped, Progress, Session
from deploycc.agent_host.zipapp import FILE_NAME, write_agent
from deploycc.documents.build import BuildResult
from deploycc.documents.document import parse_document
from deploycc.documents.latency import LatencyReport
from deploycc.documents.plan import BuildPlan, read_plan
from deploycc.errors import BuildError, DeployError, MeasureError
from deploycc.files import write_text

_KEPT_LINES = 12
_GRACE_S = 2.0


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
    written = _run(session, file, ["build"], on_progress, BuildError)
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


def bench(
    plan_path: Path,
    on_progress: Progress = _quiet,
    only: str | None = None,
    *,
    input_file: Path | None = None,
    session: Session | None = None,
) -> LatencyReport:
    """Measure the engines of a plan.

    Args:
        plan_path: ``plan.json`` or its folder; ``build.json`` and the engines lie beside it.
        on_progress: receives what the agent says, line by line.
        only: one precision, every variant of it; None: every engine.
        input_file: the picture tensor as .npy; None: seeded random values.
        session: where; None: this machine.

    Returns:
        what was measured, which the caller writes; engines that cannot run here have the status ``not-possible``.

    Raises:
        ArtefactError: the plan cannot be used, or the agent's answer is not a latency report.
        MeasureError: an engine is missing, stale, or does not run.
    """
    file = _plan_file(plan_path)
    plan = read_plan(file)
    if only is not None and all(only != engine.precision for engine in plan.engines):
        raise MeasureError(
            "no-such-engine",
            f"the plan has no {only} engine",
            context={"plan": file, "engines": ", ".join(engine.label for engine in plan.engines)},
        )
    arguments = ["bench", *(["--only", only] if only else [])]
    if input_file is not None:
        arguments += ["--input", str(input_file.resolve())]
    written = _run(session, file, arguments, on_progress, MeasureError)
    report = parse_document(written, LatencyReport, file.with_name(LatencyReport.FILE_NAME))
    for run in report.runs:
        if run.status == "failed":
            raise MeasureError(
                "measure-failed",
                f"the {run.label} engine was not measured",
                context={"target": report.target},
                note=run.reason,
                hint=run.hint,
            )
    return report


def _plan_file(path: Path) -> Path:
    return path / BuildPlan.FILE_NAME if path.is_dir() else path


def _run(
    session: Session | None, plan: Path, arguments: list[str], on_progress: Progress, error: type[DeployError]
) -> bytes:
    try:
        return (session or LocalSession()).run_agent(plan, arguments, on_progress)
    except AgentStopped as stopped:
        raise error(
            "agent-stopped",
            f"the agent ended with code {stopped.code} and without a result",
            context={"plan": plan, "command": arguments[0]},
            note=" | ".join(stopped.last_lines) or None,
        ) from stopped


class LocalSession:
    """Runs the agent with this Python."""

    def run_agent(self, plan: Path, arguments: list[str], on_progress: Progress) -> bytes:
        """See `deploycc.agent_host.session.Session.run_agent`."""
        plan = plan.resolve()
        with tempfile.TemporaryDirectory(prefix="deploycc-") as name:
            folder = Path(name)
            write_agent(folder / FILE_NAME)
            out = folder / "out.json"
            command, *options = arguments
            process = subprocess.Popen(
                [sys.executable, str(folder / FILE_NAME), command, str(plan), *options, "--out", str(out)],
                cwd=plan.parent,
                env={**os.environ, "TMPDIR": name},  # what the agent leaves when it is killed goes with the folder
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # so that the agent and its children can be ended together
            )
            lines: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
            try:
                for line in process.stderr or ():
                    lines.append(line.rstrip())
                    on_progress(line.rstrip())
                code = process.wait()
            finally:
                if process.poll() is None:
                    _end(process)
                    _remove_partials(plan)
                if process.stderr:
                    process.stderr.close()
            if code != 0 or not out.exists():
                raise AgentStopped(code, tuple(lines))
            return out.read_bytes()


def _end(process: subprocess.Popen[str]) -> None:
    """End the agent and its children: politely, then for good."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # a child inside a library call outlives the polite signal
    process.wait()


def _remove_partials(plan: Path) -> None:
    """Remove what a killed agent could not."""
    for engine in read_plan(plan).engines:
        for partial in plan.parent.glob(f"{engine.file}*.partial"):
            partial.unlink(missing_ok=True)
