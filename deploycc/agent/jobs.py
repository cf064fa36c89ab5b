"""The jobs of a plan, each in a process of its own: memory is given back, and a crash takes only itself along."""

import json
import os
import sys
import tempfile
from typing import Any, Dict, List, Optional

from . import __version__, bench_job, build_job, environment, files, plan_file, processes, scratch, telemetry
from .outcome import Failed
from .progress import say
from .scenario import Scenario

BUILD_LIMIT_S = 4 * 3600.0  # tactics of a large network take tens of minutes on a TX2
_SETTING_UP_S = 1800.0  # loading an engine, profiling its layers


def build_all(
    plan_path: str,
    program: "Optional[str]" = None,
    limit_s: "Optional[float]" = None,
    variant: "Optional[str]" = None,
) -> "Dict[str, Any]":
    """Build every engine of a plan; the result is the content of ``build.json``.

    Args:
        plan_path: the plan.
        program: path of the builder where it is a program; None: look for it.
        limit_s: seconds that each engine may take; None: four hours.
        variant: only engines of this variant; None: every engine.

    Raises:
        Failed: the plan cannot be used.
    """
    plan = plan_file.read_plan(plan_path)
    result = _header(plan, plan_path)
    more = _options(None, program)
    result["engines"] = [
        _in_child("build-one", [bench_job.Part(plan_path, plan, engine)], more, limit_s or BUILD_LIMIT_S)[0]
        for engine in plan["engines"]
        if variant in (None, engine["variant"])
    ]
    return result


def bench_all(
    plan_paths: "List[str]",
    only: "Optional[str]",
    input_file: "Optional[str]",
    program: "Optional[str]" = None,
    limit_s: "Optional[float]" = None,
    scenario: "Optional[Scenario]" = None,
    rounds: "Optional[int]" = None,
) -> "List[Dict[str, Any]]":
    """Measure the engines of plans; each result is the content of a ``latency.json``.

    Args:
        plan_paths: the plans, for one target; engines of one precision are measured in turns.
        only: a precision, every variant of it; None: every engine.
        input_file: the picture tensor; None: seeded random values.
        program: path of trtexec; None: look for it.
        limit_s: seconds that each engine may take; None: half an hour more than ten times what is asked for.
        scenario: how pictures come; None: as the plans say.
        rounds: see `bench_job.bench`.

    Raises:
        Failed: a plan cannot be used or has no such engine, or the plans are for different
            targets or one is given twice.
    """
    scenario = scenario or Scenario()
    if len({os.path.realpath(path) for path in plan_paths}) < len(plan_paths):
        raise Failed("a plan is given twice")
    plans = scenario.applied([plan_file.read_plan(path) for path in plan_paths])
    targets = sorted({plan["target"]["name"] for plan in plans})
    if len(targets) > 1:
        raise Failed("plans for different targets are not measured in turns: {}".format(", ".join(targets)))
    parts = [
        bench_job.Part(path, plan, engine)
        for path, plan in zip(plan_paths, plans)  # noqa: B905 - strict came with Python 3.10
        for engine in plan["engines"]
        if only in (None, engine["precision"])
    ]
    results = []
    for path, plan in zip(plan_paths, plans):  # noqa: B905
        if not any(part.path == path for part in parts):
            raise Failed("the plan has no {} engine".format(only))
        results.append(_header(plan, path))
        results[-1].update(quick=plan["measurement"]["quick"], runs=[])
    more = _options(input_file, program) + scenario.arguments()
    if rounds is not None:
        more += ["--rounds", str(rounds)]
    asked = plans[0]["measurement"]
    limit_s = limit_s or _SETTING_UP_S + 10 * (asked["warmup_s"] + asked["min_duration_s"])
    rows = {}
    for group in bench_job.groups(parts):
        for part, row in zip(group, _in_child("bench-one", group, more, limit_s * len(group))):  # noqa: B905
            rows[part.path, part.engine["file"]] = row
    for part in parts:
        results[plan_paths.index(part.path)]["runs"].append(rows[part.path, part.engine["file"]])
    return results


def detect_all(
    plan_path: str, pictures: str, only: "Optional[str]", program: "Optional[str]" = None
) -> "Dict[str, Any]":
    """Show what engines detect, in this process; the result is the content of ``engine-detections.json``.

    Raises:
        Failed: the plan, its contract or the pictures cannot be used.
    """
    from . import detect_job

    result = _header(plan_file.read_plan(plan_path), plan_path)
    result["runs"] = detect_job.detect(plan_path, pictures, only, program)
    return result


def _options(input_file: "Optional[str]", program: "Optional[str]") -> "List[str]":
    named = (("--input", input_file), ("--program", program))
    return [part for name, path in named if path is not None for part in (name, os.path.abspath(path))]


def _header(plan: "Dict[str, Any]", plan_path: str) -> "Dict[str, Any]":
    return {
        "schema": files.SCHEMA,
        "target": plan["target"]["name"],
        "plan_sha256": files.sha256_of(plan_path),
        "tool": {"deploycc": plan["tool"]["deploycc"], "agent": __version__},
        "environment": environment.probe(),
    }


def _in_child(command: str, parts: "List[bench_job.Part]", more: "List[str]", limit_s: float) -> "List[Dict[str, Any]]":
    """Return the rows of a job; where the process of several engines ends early, each gets one of its own."""
    code, text = _run_child(command, parts, more, limit_s)
    if code == 0 and text:
        return json.loads(text)  # type: ignore[no-any-return]
    if text is None:
        end = "took more than {:.0f} s and was ended".format(limit_s)
    else:
        end = "was killed by signal {}".format(-code) if code < 0 else "ended with code {}".format(code)
    if len(parts) > 1:  # two engines need more memory than one
        say("the process that worked on several engines {}; each is measured alone".format(end))
        return [row for part in parts for row in _in_child(command, [part], more, limit_s / len(parts))]
    [part] = parts
    row = (build_job if command == "build-one" else bench_job).empty_row(part.plan, part.engine)
    row["status"] = "failed"
    row["reason"] = "the process that worked on {} {}".format(part.engine["file"], end)
    if text is None:
        row["hint"] = "give it more time: --time-limit SECONDS"
    elif code == -9:
        row["hint"] = "signal 9 is how the kernel ends a process when memory runs out"
    return [row]


def _run_child(command: str, parts: "List[bench_job.Part]", more: "List[str]", limit_s: float) -> "Any":
    """Run a job in a child process.

    Returns:
        its exit code, and its JSON, which comes through a pipe of its own; None instead where it took too long.
    """
    folders = {os.path.dirname(os.path.abspath(part.path)) for part in parts}
    result, write_result = os.pipe()
    watched, held = os.pipe()  # this process holds an end for as long as it lives
    arguments = [*telemetry.starter(), command]
    for part in parts:
        arguments += [os.path.abspath(part.path), part.engine["file"]]
    arguments += more
    arguments += ["--result-fd", str(write_result), "--parent-fd", str(watched)]
    try:
        try:
            child = processes.Child(arguments, True, pass_fds=[write_result, watched], stdout=sys.stderr)
        finally:
            os.close(write_result)
            os.close(watched)
        try:
            data = child.read(result, limit_s)
            if data is None:
                return 0, None
            return child.wait(), data.decode("utf-8")
        finally:
            child.end(processes.GRACE_S)
    finally:
        os.close(result)
        os.close(held)
        for place in [*sorted(folders), tempfile.gettempdir()]:
            scratch.sweep(place)
