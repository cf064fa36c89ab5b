"""The jobs of a plan, each in a process of its own: memory is given back, and a crash takes only itself along."""

import json
import os
import subprocess
import sys
import zipfile
from typing import Any, Dict, List, Optional

from . import __version__, bench_job, build_job, environment, files
from .outcome import Failed
from .progress import say

SCHEMA = 1
_GRACE_S = 2.0


def build_all(plan_path: str) -> "Dict[str, Any]":
    """Build every engine of a plan; the result is the content of ``build.json``."""
    plan = files.read_plan(plan_path)
    result = _header(plan)
    result["plan_sha256"] = files.sha256_of(plan_path)
    result["engines"] = [_in_child("build-one", plan, plan_path, [engine])[0] for engine in plan["engines"]]
    return result


def bench_all(plan_path: str, only: "Optional[str]", input_file: "Optional[str]") -> "Dict[str, Any]":
    """Measure the engines of a plan; the result is the content of ``latency.json``.

    Args:
        plan_path: the plan.
        only: a precision, every variant of it; None: every engine.
        input_file: the picture tensor; None: seeded random values.

    Raises:
        Failed: the plan has no such engine.
    """
    plan = files.read_plan(plan_path)
    engines = [engine for engine in plan["engines"] if only in (None, engine["precision"])]
    if not engines:
        raise Failed("the plan has no {} engine".format(only))
    result = _header(plan)
    result["quick"] = plan["measurement"]["quick"]
    more = [] if input_file is None else ["--input", os.path.abspath(input_file)]
    rows = {}
    for group in bench_job.groups(engines):
        for engine, row in zip(group, _in_child("bench-one", plan, plan_path, group, more)):  # noqa: B905 - Python 3.5
            rows[engine["file"]] = row
    result["runs"] = [rows[engine["file"]] for engine in engines]
    return result


def _header(plan: "Dict[str, Any]") -> "Dict[str, Any]":
    return {
        "schema": SCHEMA,
        "target": plan["target"]["name"],
        "tool": {"deploycc": plan["tool"]["deploycc"], "agent": __version__},
        "environment": environment.probe(),
    }


def _self() -> "List[str]":
    """How to start this program again: the zipapp, or the installed package."""
    if zipfile.is_zipfile(sys.argv[0]):
        return [sys.executable, os.path.abspath(sys.argv[0])]
    return [sys.executable, "-m", __package__]


def _in_child(
    command: str,
    plan: "Dict[str, Any]",
    plan_path: str,
    engines: "List[Dict[str, Any]]",
    more: "Optional[List[str]]" = None,
) -> "List[Dict[str, Any]]":
    """Return the rows of a job; where the process of several engines ends early, each gets one of its own."""
    code, text = _run_child(command, plan_path, engines, more or [])
    if code == 0 and text:
        return json.loads(text)  # type: ignore[no-any-return]
    end = "was killed by signal {}".format(-code) if code < 0 else "ended with code {}".format(code)
    if len(engines) > 1:  # two engines need more memory than one
        say("the process that worked on several engines {}; each is measured alone".format(end))
        return [row for engine in engines for row in _in_child(command, plan, plan_path, [engine], more)]
    row = (build_job if command == "build-one" else bench_job).empty_row(plan, engines[0])
    row["status"] = "failed"
    row["reason"] = "the process that worked on {} {}".format(engines[0]["file"], end)
    row["hint"] = "signal 9 is how the kernel ends a process when memory runs out" if code == -9 else None
    return [row]


def _run_child(command: str, plan_path: str, engines: "List[Dict[str, Any]]", more: "List[str]") -> "Any":
    """Run a job in a child process; return its exit code and its JSON, which comes through a pipe of its own."""
    folder = os.path.dirname(os.path.abspath(plan_path))
    reader, writer = os.pipe()
    arguments = [*_self(), command, os.path.abspath(plan_path), "--result-fd", str(writer), *more]
    arguments += [engine["file"] for engine in engines]
    child = subprocess.Popen(arguments, pass_fds=[writer], stdin=subprocess.DEVNULL, stdout=sys.stderr)
    os.close(writer)
    try:
        with os.fdopen(reader, encoding="utf-8") as pipe:
            text = pipe.read()
        return child.wait(), text
    finally:
        if child.poll() is None:
            _end(child)
        for name in [name for engine in engines for name in _leftovers(engine)]:
            files.remove(os.path.join(folder, name))


def _end(child: "Any") -> None:
    """End a job: politely, so that it ends the program it runs, then for good."""
    child.terminate()
    try:
        child.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _leftovers(engine: "Dict[str, Any]") -> "List[str]":
    names = [engine["file"] + files.PARTIAL]
    commands = engine["commands"] or {}
    return names + [commands[key] for key in ("times_file", "profile_file") if commands.get(key)]
